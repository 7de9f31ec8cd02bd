"""The family's own think mode, in the layouts in which adapters are found."""

import pytest
import torch

from coat.backbones import load_backbone
from coat.backbones.audio_flamingo3 import AudioFlamingo3
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.generation import generate
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import conversation
from coat.thinking.model import ThinkingModel


def older(name):
    """As releases before the language model moved into ``model`` have it."""
    return name.replace("lm_head", "language_model.lm_head").replace("model.language_model.", "language_model.model.")


@pytest.fixture(params=["today's names", "older names"])
def checkpoint(request, tmp_path):
    """A tiny checkpoint with a think mode beside it, and the logits it must give."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    base = random_backbone("audio_flamingo3", tmp_path)
    base.model.resize_token_embeddings(len(base.tokenizer))  # as the hub's: no row to spare
    base.save_pretrained(str(tmp_path))
    rows = {"model.language_model.embed_tokens.weight": torch.randn_like(base.embedding.weight) * 0.02}
    base.model.load_state_dict(rows, strict=False)
    peft_model = get_peft_model(base.model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, p in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    peft_model.save_pretrained(tmp_path / "think")
    if request.param == "older names":
        rows = {older(name): value for name, value in rows.items()}
        file = tmp_path / "think" / "adapter_model.safetensors"
        save_file({older(name): value for name, value in load_file(file).items()}, file)
    torch.save(rows, tmp_path / "think" / "non_lora_trainables.bin")
    ids = torch.arange(9)[None]
    with torch.no_grad():
        return tmp_path, ids, peft_model(ids).logits


def test_think_mode_is_merged_from_any_layout(checkpoint):
    path, ids, expected = checkpoint
    backbone = load_backbone("audio_flamingo3", str(path))
    with torch.no_grad():
        before = backbone.model(ids).logits
        backbone.load_think_mode(str(path))
        after = backbone.model(ids).logits
    assert not torch.allclose(before, expected, atol=1e-3)
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)
    assert "think" in AudioFlamingo3.think_prompt


@pytest.mark.parametrize("thinks", [False, True])
def test_think_mode_fits_a_vocabulary_that_has_no_spare_row(checkpoint, thinks):
    """The hub's: ``<sound>`` is its last token but two, and think tokens need rows of their own."""
    path, ids, expected = checkpoint
    backbone = load_backbone("audio_flamingo3", str(path))
    rows = len(backbone.embedding.weight)
    assert rows == len(backbone.tokenizer)
    model = ThinkingModel(backbone, ThinkingConfig(enabled=thinks)).eval()
    assert len(backbone.embedding.weight) == rows + 3 * thinks
    backbone.load_think_mode(str(path))
    with torch.no_grad():
        torch.testing.assert_close(backbone.model(ids).logits[..., :rows], expected, atol=1e-5, rtol=1e-5)
    if thinks:
        asked = conversation(0.5, answer=None)
        assert generate(model, [asked], max_new_tokens=2)


def test_an_adapter_by_suffixes_adapts_the_language_model_alone(checkpoint):
    """``q_proj`` names layers of the tower too; stock PEFT leaves them as they are, where the adapter holds none."""
    from safetensors.torch import load_file, save_file

    path, ids, expected = checkpoint
    file = path / "think" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if "audio_tower" not in name}, file)
    backbone = load_backbone("audio_flamingo3", str(path))
    backbone.load_think_mode(str(path))
    with torch.no_grad():
        torch.testing.assert_close(backbone.model(ids).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_without_it_is_named(tmp_path):
    random_backbone("audio_flamingo3", tmp_path)
    with pytest.raises(CoatError, match="has no think mode"):
        load_backbone("audio_flamingo3", str(tmp_path)).load_think_mode(str(tmp_path))


def test_a_mode_of_another_model_is_refused(tmp_path):
    random_backbone("audio_flamingo3", tmp_path)
    (tmp_path / "think").mkdir()
    torch.save({"nothing.like.this": torch.zeros(2)}, tmp_path / "think" / "non_lora_trainables.bin")
    with pytest.raises(CoatError, match=r"nothing\.like\.this"):
        load_backbone("audio_flamingo3", str(tmp_path)).load_think_mode(str(tmp_path))
