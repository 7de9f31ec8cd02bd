"""What a string refers to, and how it is loaded."""

import shutil

import pytest
import torch

from coat.checkpoints import BaseRef, ExportRef, RunRef, load_model, resolve
from coat.checkpoints.devices import as_dtype, default_device
from coat.checkpoints.fingerprint import checkpoint_fingerprint
from coat.checkpoints.references import miniature_folder, run_in
from coat.checkpoints.weights import head_dims
from coat.errors import CoatError
from coat.export.checkpoint import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(miniature_folder(), tmp_path_factory.mktemp("export") / "mini", say=lambda line: None)


def test_a_run_an_export_and_a_base_are_told_apart(exported, tiny_path):
    run, merged, base = resolve("miniature"), resolve(exported), resolve(tiny_path)
    assert (type(run), type(merged), type(base)) == (RunRef, ExportRef, BaseRef)
    assert {ref.family for ref in (run, merged, base)} == {"qwen2_audio"}
    assert run.thinking == merged.thinking == run.recipe.thinking
    assert run.thinking.enabled
    assert not base.thinking.enabled
    assert len({checkpoint_fingerprint(ref) for ref in (run, merged, base)}) == 3


@pytest.mark.parametrize("what", ["run", "export", "base"])
def test_each_is_loaded_as_what_it_is(what, exported, tiny_path):
    path = {"run": "miniature", "export": exported, "base": tiny_path}[what]
    model = load_model(path, dtype="float32")
    assert not model.training
    assert model.thinking == resolve(path).thinking
    assert (model.peft is not None) == (what == "run")
    assert model.backbone.device.type == default_device().type


def test_dtype_device_and_attention_are_the_callers(tiny_path):
    model = load_model(tiny_path, dtype="bfloat16", device="cpu", attn_implementation="eager")
    assert model.backbone.dtype is torch.bfloat16
    assert model.backbone.model.config.get_text_config()._attn_implementation == "eager"
    mapped = load_model(tiny_path, dtype="float32", device_map={"": "cpu"})
    assert mapped.backbone.device.type == "cpu"
    with pytest.raises(ValueError, match="not both"):
        load_model(tiny_path, device="cpu", device_map="auto")
    with pytest.raises(ValueError, match="float23"):
        as_dtype("float23")


def test_weights_of_sixteen_bits_are_not_rounded_anew():
    """By an adapter that is folded in: they answer as they were trained to."""
    assert load_model("miniature", dtype="float32", answers_only=True).peft is None
    assert load_model("miniature", dtype="bfloat16", answers_only=True).peft is not None


def test_heads_need_no_experts_to_be_loaded():
    model = load_model("miniature", heads=True)
    recipe = run_in("miniature").recipe
    assert set(model.heads) == set(recipe.active_experts()) == set(head_dims(miniature_folder()))
    assert not load_model("miniature").heads


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(CoatError, match="of a known family"):
        resolve(tmp_path)
    shutil.copy(miniature_folder() / "recipe.yaml", tmp_path)
    (tmp_path / "stages").mkdir()
    with pytest.raises(CoatError, match="not finished"):
        resolve(tmp_path)
    with pytest.raises(CoatError, match="no finished run"):
        run_in(tmp_path)
