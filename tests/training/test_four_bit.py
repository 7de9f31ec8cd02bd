"""A language model in four bits: the same training, nearly the same losses, full weights when it is exported."""

import pytest

from coat.checkpoints import load_model
from coat.checkpoints.building import build_model
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.training.cost import estimate
from coat.training.run import train
from tests.training.test_run import finished, losses, recipe  # noqa: F401

pytest.importorskip("bitsandbytes")


def asked(tiny_path, manifest):
    raw = recipe(tiny_path, manifest, precision="fp32").model_dump()
    raw["backbone"]["load_in_4bit"] = True
    return parse_recipe(raw)


def kinds(model, part):
    return {type(m).__name__ for name, m in part.named_modules() if name.endswith(("q_proj", "up_proj", "fc1"))}


def test_only_the_language_model_is_in_four_bits(tiny_path, manifest):
    model = build_model(asked(tiny_path, manifest))
    assert kinds(model, model.backbone.language_model) == {"Linear4bit"}
    assert kinds(model, model.backbone.audio_tower) == {"Linear"}
    assert type(model.backbone.lm_head).__name__ == "Linear"


def test_it_trains_and_is_handed_on_in_full(finished, tiny_path, manifest, tmp_path):  # noqa: F811
    run = train(asked(tiny_path, manifest), tmp_path / "run", say=lambda _: None)
    ours, full = losses(run), losses(finished)
    for key in full:
        assert ours[key]["loss/ce"] == pytest.approx(full[key]["loss/ce"], rel=0.1)
    assert ours["one", 1]["loss/ce"] != full["one", 1]["loss/ce"]
    merged = load_model(run, load_in_4bit=False)
    assert "Linear4bit" not in {type(module).__name__ for module in merged.modules()}


def test_it_is_said_to_take_less_memory(tiny_path, manifest):
    small, full = estimate(asked(tiny_path, manifest)), estimate(recipe(tiny_path, manifest, precision="fp32"))
    assert small.memory["frozen weights"] < full.memory["frozen weights"]
    assert small.trained == full.trained


def test_without_bitsandbytes_the_extra_is_named(tiny_path, manifest, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else real(name))
    with pytest.raises(CoatError, match="not installed"):
        build_model(asked(tiny_path, manifest))
