"""What a string refers to, and how it is loaded."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from coat.checkpoints import BaseRef, ExportRef, RunRef, load_model, resolve
from coat.checkpoints.devices import as_dtype, default_device
from coat.checkpoints.fingerprint import checkpoint_fingerprint
from coat.checkpoints.references import miniature_folder, resolve_adapter, run_in
from coat.checkpoints.weights import head_dims
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.export.checkpoint import export
from coat.training.run import train


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


@pytest.fixture(scope="module")
def stopped(tiny_path, manifest, tmp_path_factory):
    """A run with two checkpoints that was stopped at its second stage."""
    experts = {"audio_reconstruction": 1.0, "standin_affect": 1.0}
    stages = [{"name": name, "steps": 2, "learning_rate": 1e-2, "experts": experts} for name in ("one", "two")]
    recipe = {
        "backbone": {"path": str(tiny_path)},
        "thinking": {"stride": 2},
        "lora": {"rank": 2, "alpha": 4},
        "heads": {"num_heads": 2, "ffn_ratio": 1.0},
        "stages": stages,
        "data": {"train_dataset": str(manifest)},
        "training": {"batch_size": 4, "calibration_clips": 4, "save_steps": 1},
    }
    run = train(parse_recipe(recipe), tmp_path_factory.mktemp("stopped") / "run")
    (run / "finished.json").unlink()
    shutil.rmtree(run / "adapter")
    shutil.rmtree(run / "stages" / "2-two" / "done")
    return run


def test_a_checkpoint_of_a_run_is_the_run_as_it_was_then(stopped):
    stage = stopped / "stages" / "1-one"
    first, second = (RunRef(stopped, checkpoint=stage / f"checkpoint-{step}") for step in (1, 2))
    assert resolve(first.checkpoint) == run_in(first.checkpoint) == first
    assert first.path == str(first.checkpoint)
    assert first.thinking.stride == 2
    assert checkpoint_fingerprint(first) != checkpoint_fingerprint(second)
    model = load_model(first.path, dtype="float32", heads=True)
    adapter = load_file(first.checkpoint / "adapter" / "adapter_model.safetensors")
    held = {name.replace(".default", ""): value for name, value in model.adapter_weights().items()}
    assert any(value.any() for name, value in adapter.items() if "lora_B" in name)
    for name, value in adapter.items():
        torch.testing.assert_close(held[name], value)
    heads = load_file(first.checkpoint / "heads.safetensors")
    assert heads.keys() == model.heads.state_dict().keys()
    for name, value in heads.items():
        torch.testing.assert_close(model.heads.state_dict()[name], value)


def test_another_recipe_is_another_model_by_the_same_weights(stopped, tmp_path):
    copy = shutil.copytree(stopped, tmp_path / "copy")
    recipe = copy / "recipe.yaml"
    checkpoints = [run / "stages" / "1-one" / "checkpoint-2" for run in (stopped, copy)]
    assert len({checkpoint_fingerprint(resolve(each)) for each in checkpoints}) == 1
    recipe.write_text(recipe.read_text().replace("stride: 2", "stride: 4"))
    assert len({checkpoint_fingerprint(resolve(each)) for each in checkpoints}) == 2


def test_a_checkpoint_is_exported_and_goes_on_another_base(stopped, tiny_path, tmp_path):
    checkpoint = stopped / "stages" / "2-two" / "checkpoint-1"
    folder = export(checkpoint, tmp_path / "export", say=lambda line: None)
    assert isinstance(resolve(folder), ExportRef)
    elsewhere = shutil.copytree(tiny_path, tmp_path / "elsewhere")
    ref = resolve_adapter(checkpoint, str(elsewhere))
    assert (ref.base, ref.path) == (str(elsewhere), str(checkpoint))


def test_what_a_killed_run_was_writing_is_no_checkpoint(stopped, tmp_path):
    stages = shutil.copytree(stopped, tmp_path / "copy") / "stages"
    written = (stages / "1-one" / "done").rename(stages / "1-one" / "done.partial")
    with pytest.raises(CoatError, match="no finished run, no export and no checkpoint"):
        resolve(written)


def test_a_run_that_is_not_finished_names_its_newest_checkpoint(stopped):
    with pytest.raises(CoatError, match=r"not finished(.|\n)*take .*2-two/checkpoint-2"):
        resolve(stopped)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(CoatError, match="of a known family"):
        resolve(tmp_path)
    shutil.copy(miniature_folder() / "recipe.yaml", tmp_path)
    (tmp_path / "stages").mkdir()
    with pytest.raises(CoatError, match=r"not finished(.|\n)*coat train RECIPE --out DIR$"):
        resolve(tmp_path)
    with pytest.raises(CoatError, match="no finished run"):
        run_in(tmp_path)
