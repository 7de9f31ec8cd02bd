import pytest
import torch
from safetensors.torch import save_file

from coat.errors import CoatError
from coat.pocket.hearing import SHIPPED, apply, parts, read, write
from coat.testing.qwen2_audio import make_qwen2_audio, train_tokenizer

QUERY = "layers.0.self_attn.q_proj"


@pytest.fixture
def backbone():
    return make_qwen2_audio(train_tokenizer(["a few words"]))


def changes(backbone, rank=2):
    torch.manual_seed(0)
    weights = {}
    for part in ("audio_tower", "language_model"):
        out, into = parts(backbone)[part].get_submodule(QUERY).weight.shape
        weights[f"{part}.{QUERY}.lora_A"] = torch.randn(rank, into)
        weights[f"{part}.{QUERY}.lora_B"] = torch.randn(out, rank)
    weights["projector.linear.bias.whole"] = torch.randn_like(backbone.projector.linear.bias)
    return weights


def test_low_rank_changes_are_added_and_whole_ones_put_in_their_place(backbone, tmp_path):
    weights = changes(backbone)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    write(tmp_path / "hearing.safetensors", weights)
    apply(backbone, tmp_path / "hearing.safetensors")
    changed = {name for name, value in backbone.model.state_dict().items() if not torch.equal(value, before[name])}
    assert len(changed) == 3
    for part in ("audio_tower", "language_model"):
        (name,) = (name for name in changed if part in name)
        wanted = weights[f"{part}.{QUERY}.lora_B"] @ weights[f"{part}.{QUERY}.lora_A"]
        torch.testing.assert_close(backbone.model.state_dict()[name] - before[name], wanted, atol=0.02, rtol=0.01)
    torch.testing.assert_close(
        backbone.projector.linear.bias, weights["projector.linear.bias.whole"], atol=1e-3, rtol=1e-3
    )


def test_what_ships_is_small_and_whole():
    """Low-rank changes of every layer of both parts, and the projector; nothing that is not finite."""
    assert SHIPPED.stat().st_size < 25 * 2**20
    weights = read(SHIPPED)
    assert weights["projector.linear.weight.whole"].shape == (576, 512)
    layers = {tuple(name.split(".")[:3]) for name in weights}
    assert {("audio_tower", "layers", str(n)) for n in range(6)} <= layers
    assert {("language_model", "layers", str(n)) for n in range(30)} <= layers
    for name, value in weights.items():
        assert torch.isfinite(value).all(), name
        assert value.abs().max() > 0, name


def test_changes_to_another_model_are_refused(backbone, tmp_path):
    path = tmp_path / "hearing.safetensors"
    write(path, {"projector.linear.bias.whole": torch.zeros(3)})
    with pytest.raises(CoatError, match=r"does not fit this model at projector.linear.bias"):
        apply(backbone, path)
    write(path, {"projector.nothing.whole": torch.zeros(3)})
    with pytest.raises(CoatError, match="does not fit this model"):
        apply(backbone, path)
    write(path, {"nothing.linear.bias.whole": torch.zeros(3)})
    with pytest.raises(CoatError, match="does not fit this model at nothing"):
        apply(backbone, path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CoatError, match="holds no weights that pocket has learned"):
        apply(backbone, path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(CoatError, match="holds no weights that pocket has learned"):
        apply(backbone, path)
    with pytest.raises(CoatError, match=r"There is no .*other"):
        apply(backbone, tmp_path / "other")
