"""Recipes that train more of a backbone than its language model."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from coat.checkpoints import load_model
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.export.checkpoint import export
from coat.files import read_jsonl
from coat.testing.clips import conversation
from coat.thinking.batch import make_batch
from coat.training.run import train

PROJECTOR = "base_model.model.model.multi_modal_projector.linear.weight"


def recipe(tiny_path, manifest, parts, **data):
    return parse_recipe(
        {
            "backbone": {"path": str(tiny_path)},
            "train": parts,
            "lora": {"rank": 2, "alpha": 4},
            "heads": {"num_heads": 2, "ffn_ratio": 1.0},
            "stages": [{"name": "one", "steps": 4, "learning_rate": 1e-4, "experts": {"audio_reconstruction": "auto"}}],
            "data": {"train_dataset": str(manifest), **data},
            "training": {"batch_size": 4, "logging_steps": 1, "save_steps": 2, "warmup_ratio": 0.0, "seed": 3},
        }
    )


def losses(folder):
    return [line["loss"] for line in read_jsonl(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def taught(tiny_path, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "run"
    return train(recipe(tiny_path, manifest, {"projector": 1e-2, "audio_tower": "lora"}), folder)


def test_every_part_is_trained_in_full_precision_where_the_backbone_is_in_half(taught, tiny_path, manifest, tmp_path):
    asked = recipe(tiny_path, manifest, {"projector": 1e-2, "audio_tower": "lora"})
    training = asked.training.model_copy(update={"precision": "bf16"})
    half = train(asked.model_copy(update={"training": training}), tmp_path)
    assert losses(half) == pytest.approx(losses(taught), rel=0.05)
    weights = load_file(half / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_a_part_moves_at_its_own_rate(taught, tiny_path):
    before = load_model(tiny_path, device="cpu").backbone.projector.linear.weight
    after = load_file(taught / "adapter" / "adapter_model.safetensors")
    # Adam's first steps are as long as the rate: 4 steps of a schedule from 1e-2 to 0, and of one from 1e-4.
    assert 0.005 < float((after[PROJECTOR] - before).abs().max()) < 0.04
    rows = [value for name, value in after.items() if "audio_tower" in name and "lora_B" in name]
    assert rows
    assert 0 < max(float(value.abs().max()) for value in rows) < 4e-4


def test_reconstruction_is_held_to_what_the_checkpoint_hears(taught, tiny_path):
    """In training and in what is measured afterwards: a target that is trained could shrink to nothing."""
    before, after = load_model(tiny_path, device="cpu"), load_model(taught, device="cpu", heads=True)
    batch = make_batch(after.builder, [conversation(0.7)])
    with torch.no_grad():
        (still,), (moved,) = before.audio_embeddings(batch), after.audio_embeddings(batch)
        (held,) = after(batch).audio_embeddings
        assert (moved - still).abs().max() > 1e-3
        torch.testing.assert_close(held, still)
        torch.testing.assert_close(after.audio_embeddings(batch)[0], moved)


def test_a_run_answers_as_its_export_does(taught, tmp_path):
    export(taught, tmp_path / "export", say=lambda _: None)
    run, exported = (load_model(path, device="cpu") for path in (taught, tmp_path / "export"))
    batch = make_batch(run.builder, [conversation(0.7)])
    with torch.no_grad():
        torch.testing.assert_close(exported(batch).response_logits, run(batch).response_logits, atol=1e-4, rtol=1e-4)


def test_states_of_the_tower_are_cached_and_the_projector_is_trained_on_them(tiny_path, manifest, tmp_path):
    live = train(recipe(tiny_path, manifest, {"projector": 1e-3}), tmp_path / "live")
    cached = train(recipe(tiny_path, manifest, {"projector": 1e-3}, cache=str(tmp_path / "cache")), tmp_path / "cached")
    assert losses(cached) == pytest.approx(losses(live), rel=1e-4)
    assert list((tmp_path / "cache").glob("*tower_states*"))


def test_a_stopped_run_goes_on_with_the_projector_that_it_had(tiny_path, manifest, tmp_path):
    asked = recipe(tiny_path, manifest, {"projector": 1e-2, "language_model": "frozen"})
    whole = losses(train(asked, tmp_path / "whole"))

    class StopAtThree(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 3:
                raise InterruptedError("stopped")

    with pytest.raises(InterruptedError, match="stopped"):
        train(asked, tmp_path / "cut", callbacks=[StopAtThree()])
    resumed = train(asked, tmp_path / "cut")
    assert losses(resumed)[-2:] == pytest.approx(whole[-2:], rel=1e-4)


def test_a_tower_that_is_trained_is_not_cached(tiny_path, manifest):
    with pytest.raises(CoatError, match="cache_embeddings: false"):
        recipe(tiny_path, manifest, {"audio_tower": "lora"}, cache="features")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"projector": "lora"}, "projector"),
        ({"projector": -1}, "positive"),
        ({"projector": float("inf")}, "finite"),
        ({"projector": True}, "not true"),
        ({"language_model": "full"}, "language_model"),
    ],
)
def test_what_a_part_cannot_be_is_refused(tiny_path, manifest, parts, said):
    with pytest.raises(CoatError, match=said):
        recipe(tiny_path, manifest, parts)


def test_a_recipe_that_trains_nothing_is_refused(tiny_path, manifest, tmp_path):
    asked = recipe(tiny_path, manifest, {"language_model": "frozen"}).model_dump()
    asked["thinking"]["enabled"], asked["stages"][0]["experts"] = False, {}
    with pytest.raises(CoatError, match="trains nothing"):
        train(parse_recipe(asked), tmp_path / "run")
