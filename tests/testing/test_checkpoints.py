import pytest
import torch

from coat.backbones import REGISTRY
from coat.errors import CoatError
from coat.testing.checkpoints import REAL_SIZES, random_backbone


@pytest.mark.parametrize(
    ("family", "billions"),
    [
        ("qwen2_audio", 8.4),
        ("audio_flamingo3", 8.3),
        ("music_flamingo", 8.3),
        ("glm_asr", 2.26),
        ("voxtral", 4.68),
        ("qwen2_5_omni", 8.3),
        ("qwen3_omni", 31.2),
        ("gemma4", 7.77),
    ],
)
def test_real_sizes_are_those_of_the_hub_checkpoints(family, billions):
    """Without memory: on the meta device. Image parts, which are not heard, are left small."""
    with torch.device("meta"):
        backbone = random_backbone(family, sizes=REAL_SIZES[family])
    count = sum(p.numel() for p in backbone.model.parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.06)
    assert backbone.hidden_size == REAL_SIZES[family].hidden_size


def test_every_family_has_a_maker():
    assert set(REAL_SIZES) == set(REGISTRY)
    with pytest.raises(CoatError, match="Did you mean 'qwen3_omni'"):
        random_backbone("qwen3_omi")
