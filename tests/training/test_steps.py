import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from coat.training.steps import inputs_as_they_are


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(8, 4), nn.Linear(4, 4)

    def forward(self, ids):
        return self.layer(self.embedding(ids))


@pytest.fixture
def seen_by():
    """Types that LoRA's first factor is given."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["layer"], trainable_token_indices={"embedding": [1]})
    model = get_peft_model(Reader().bfloat16(), config, autocast_adapter_dtype=True)
    seen = []
    model.base_model.model.layer.lora_A["default"].register_forward_pre_hook(
        lambda _, given: seen.append(given[0].dtype)
    )

    def read(*, active):
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16), inputs_as_they_are(model, active=active):
            assert model(torch.tensor([0, 1])).isfinite().all()
        return seen

    return read


def test_lora_takes_its_input_as_autocast_gives_it(seen_by):
    assert seen_by(active=True) == [torch.bfloat16]


def test_peft_widens_it_otherwise_and_again_afterwards(seen_by):
    assert seen_by(active=False) == [torch.float32]
    seen_by(active=True)
    assert seen_by(active=False) == [torch.float32]


def fails(layer):
    raise ValueError(f"casting: {layer.cast_input_dtype_enabled}")


def test_an_error_in_a_pass_leaves_layers_as_they_were():
    layer = nn.Linear(2, 2)
    layer.cast_input_dtype_enabled = True
    with pytest.raises(ValueError, match="casting: False"), inputs_as_they_are(layer, active=True):
        fails(layer)
    assert layer.cast_input_dtype_enabled
