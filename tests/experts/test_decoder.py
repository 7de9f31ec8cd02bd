import numpy as np
import pytest
import torch

from coat.audio import Clip
from coat.backbones import load_backbone
from coat.checkpoints.references import miniature_folder
from coat.errors import CoatError
from coat.experts import make_expert
from coat.experts.decoder import DETAIL, MelDecoder, load_decoder
from coat.experts.log_mel import BANDS
from coat.testing.clips import noise
from coat.testing.conformance import AUDIO_SPEC
from coat.training.decoder import fit_decoder

pytestmark = pytest.mark.experts


def half_image(hidden_size):
    """Someone else's decoder."""
    return lambda embeddings: embeddings[:, : hidden_size // 2]


def test_it_learns_to_draw_what_the_tower_keeps():
    backbone = load_backbone("qwen2_audio", str(miniature_folder() / "backbone"))
    rng = np.random.default_rng(0)
    clips = []
    for seconds, pitch in zip(rng.uniform(0.6, 1.2, 30), rng.choice([300, 800, 2000], 30), strict=True):
        time = np.arange(round(seconds * 16_000)) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * pitch * time) * (time > seconds / 2)
        clips.append(Clip((tone + 0.003 * rng.normal(size=len(time))).astype(np.float32), 16_000))
    fitted = fit_decoder(backbone, clips, steps=120)
    assert fitted.clips == 3
    assert fitted.explained > 0.6
    again = fit_decoder(backbone, clips, steps=120).decoder.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in fitted.decoder.state_dict().items())


def test_it_is_kept_and_shown(tmp_path):
    torch.manual_seed(0)
    decoder = MelDecoder(24, width=16).eval()
    decoder.save(tmp_path / "eye.safetensors")
    loaded = load_decoder(str(tmp_path / "eye.safetensors"), 24)
    x = torch.randn(9, 24)
    assert torch.equal(loaded(x), decoder(x))
    expert = make_expert(
        "audio_reconstruction", {"decoder": str(tmp_path / "eye.safetensors")}, hidden_size=24, audio_spec=AUDIO_SPEC
    )
    picture = expert.visualise(x)
    assert picture.image.shape == (BANDS, 9 * DETAIL)
    plain = make_expert("audio_reconstruction", {}, hidden_size=24, audio_spec=AUDIO_SPEC)
    assert plain.fingerprint() == expert.fingerprint()
    assert plain.visualise(x).image.shape == (9, 9)  # principal components, as many as there are frames


def test_one_that_someone_else_wrote_is_loaded_by_name():
    decode = load_decoder("tests.experts.test_decoder:half_image", 24)
    assert decode(torch.zeros(9, 24)).shape == (9, 12)


@pytest.mark.parametrize("place", ["no.such.module:load", "tests.experts.test_decoder:nothing", "gone.safetensors"])
def test_what_is_no_decoder_is_named(place):
    with pytest.raises(CoatError, match="no decoder"):
        load_decoder(place, 24)


def test_another_size_is_refused(tmp_path):
    MelDecoder(24, width=16).save(tmp_path / "eye.safetensors")
    with pytest.raises(CoatError, match="d = 24, the backbone has 32"):
        load_decoder(str(tmp_path / "eye.safetensors"), 32)


def test_too_few_clips_are_named(backbone):
    with pytest.raises(CoatError, match="too few"):
        fit_decoder(backbone, [noise(1.0)])
