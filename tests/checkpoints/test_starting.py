"""A run that begins with the weights of an earlier one."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from coat.api.model import CoatModel
from coat.checkpoints.starting import check_start
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.training.run import train

EARLIER = {"audio_reconstruction": "auto", "standin_speech": "auto"}
TINY_LORA, TINY_HEADS = {"rank": 2, "alpha": 4}, {"num_heads": 2, "ffn_ratio": 1.0}
NO_STEP = 1e-30  # Adam's steps are of the learning rate's size, so nothing moves


def recipe(tiny_path, manifest, *, taught=EARLIER, learning_rate=1e-3, **fields):
    return parse_recipe(
        {
            "backbone": {"path": str(tiny_path)},
            "train": {"projector": "full"},
            "lora": TINY_LORA,
            "heads": TINY_HEADS,
            "stages": [{"name": "one", "steps": 2, "learning_rate": learning_rate, "experts": taught}],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 4, "weight_decay": 0.0, "calibration_clips": 4},
            **fields,
        }
    )


@pytest.fixture(scope="module")
def earlier(tiny_path, manifest, tmp_path_factory):
    return train(recipe(tiny_path, manifest), tmp_path_factory.mktemp("earlier") / "run")


@pytest.fixture(scope="module")
def adapter(earlier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    CoatModel.from_pretrained(earlier).save_pretrained(folder, adapter_only=True)
    return folder


def adapter_of(run):
    return load_file(run / "adapter" / "adapter_model.safetensors")


def test_it_has_the_earlier_weights_and_heads_and_goes_on_from_them(tiny_path, manifest, earlier, tmp_path):
    experts = {"standin_speech": "auto", "standin_affect": "auto"}
    lines: list[str] = []
    given = recipe(tiny_path, manifest, taught=experts, learning_rate=NO_STEP, start_from=str(earlier))
    run = train(given, tmp_path / "run", say=lines.append)
    there, here = adapter_of(earlier), adapter_of(run)
    assert there.keys() == here.keys()
    assert any("lora_B" in name and value.any() for name, value in there.items())
    for name, value in there.items():
        torch.testing.assert_close(here[name], value, rtol=0, atol=1e-7)
    there, here = load_file(earlier / "heads.safetensors"), load_file(run / "heads.safetensors")
    assert {name.partition(".")[0] for name in here} == set(experts)
    for name, value in here.items():
        if name.startswith("standin_speech."):
            torch.testing.assert_close(value, there[name], rtol=0, atol=1e-7)
    assert f"Begins with the weights of {earlier}; heads of standin_speech; standin_affect anew." in lines


def test_an_adapter_is_a_start_too(tiny_path, manifest, earlier, adapter, tmp_path):
    given = recipe(tiny_path, manifest, taught={}, learning_rate=NO_STEP, start_from=str(adapter))
    here = adapter_of(train(given, tmp_path / "run"))
    for name, value in adapter_of(earlier).items():
        torch.testing.assert_close(here[name], value, rtol=0, atol=1e-7)


def test_a_stopped_run_goes_on_from_its_own_weights_without_the_earlier_run(tiny_path, manifest, earlier, tmp_path):
    copy = shutil.copytree(earlier, tmp_path / "earlier")
    stages = [{"name": "one", "steps": 2}, {"name": "two", "steps": 1}]
    given = recipe(tiny_path, manifest, start_from=str(copy), stages=stages)
    run = train(given, tmp_path / "run")
    whole = adapter_of(run)
    (run / "finished.json").unlink()
    shutil.rmtree(run / "stages" / "2-two")
    shutil.rmtree(copy)
    train(given, run)
    for name, value in adapter_of(run).items():
        torch.testing.assert_close(value, whole[name])


def test_weights_of_the_same_checkpoint_elsewhere_are_its_own(tiny_path, manifest, earlier, tmp_path):
    moved = shutil.copytree(tiny_path, tmp_path / "moved")
    assert check_start(recipe(moved, manifest, start_from=str(earlier))) is not None


def test_what_does_not_fit_is_refused_before_the_weights_are_loaded(tiny_path, manifest, earlier, tmp_path):
    other = shutil.copytree(tiny_path, tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    for fields, message in (
        ({"start_from": str(tmp_path / "none")}, "none"),
        ({"start_from": str(tiny_path)}, "no finished run and no adapter"),
        ({"backbone": {"path": str(other)}}, r"whose weights are not those of .*other"),
        ({"lora": {"rank": 4, "alpha": 8}}, r"rank 2 and alpha 4, and this recipe of rank 4 and alpha 8"),
        ({"lora": {"rank": 2, "alpha": 8}}, "alpha 8"),
        ({"heads": {"kind": "linear"}}, r"other heads for audio_reconstruction, standin_speech than this recipe"),
        ({"heads": {**TINY_HEADS, "num_heads": 4}}, r"heads: \{kind: transformer, num_heads: 2, ffn_ratio: 1.0\}"),
    ):
        with pytest.raises(CoatError, match=message):
            check_start(recipe(tiny_path, manifest, **{"start_from": str(earlier), **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": {}}, r"2 tensors are only there, such as .*projector"),
        ({"train_embeddings": "full"}, "only here"),
        ({"experts": {"standin_speech": {"kind": "log_mel"}}}, "the head of standin_speech in .* is another"),
    ],
)
def test_other_parts_and_heads_are_refused(tiny_path, manifest, earlier, tmp_path, fields, message):
    given = recipe(tiny_path, manifest, **{"start_from": str(earlier), **fields})
    with pytest.raises(CoatError, match=message):
        train(given, tmp_path / "run")
