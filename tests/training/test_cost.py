import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from coat.checkpoints.building import adapt, add_heads, build_experts, build_model, feature_dims
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import conversation
from coat.thinking.batch import make_batch
from coat.training.cost import Row, estimate, known_gpu
from tests.cli.command import coat
from tests.training.test_run import recipe


@pytest.mark.parametrize("embeddings", ["rows", "full"])
@pytest.mark.parametrize("kind", ["linear", "transformer"])
def test_trained_parameters_are_those_of_the_model(tiny_path, manifest, embeddings, kind):
    raw = recipe(tiny_path, manifest).model_dump()
    raw["train_embeddings"], raw["heads"]["kind"] = embeddings, kind
    asked = parse_recipe(raw)
    model = build_model(asked)
    adapt(model, asked)
    add_heads(model, feature_dims(build_experts(asked, model)), asked)
    counted = sum(p.numel() for p in model.trainable().values())
    # The meta outline has its checkpoint's embedding; the model may have added three rows to it.
    grown = 3 * model.backbone.hidden_size if embeddings == "full" else 0
    assert estimate(asked).trained == pytest.approx(counted, abs=grown)


def test_work_is_what_is_counted_by_pytorch(tiny_path, manifest):
    """Forward through tower and language model, heads aside."""
    raw = recipe(tiny_path, manifest).model_dump()
    raw["stages"] = [{"name": "one", "steps": 1, "experts": {}}]
    asked = parse_recipe(raw)
    model = build_model(asked)
    item = conversation(10.0, answer="the red dog " * 8)
    batch = make_batch(model.builder, [item])
    model.backbone.model.set_attn_implementation("eager")  # the counter does not know the fused kernels
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    answer = batch.num_response_tokens
    text = batch.input_ids.shape[1] - 250 - 252
    cost = estimate(asked, Row(10.0, text, answer))
    assert cost.tokens == batch.input_ids.shape[1]
    stage = cost.stages[0]
    lora = 6 * cost.parameters["LoRA"] * cost.tokens
    forward = (stage.flops / stage.rows * stage.parts["language model"] - lora) / 2
    forward += stage.flops / stage.rows * stage.parts["tower"]
    counted = counter.get_total_flops()
    config = model.backbone.model.config.get_text_config()
    # Eager attention looks ahead, and masks it.
    ahead = 2 * config.num_hidden_layers * cost.tokens * (cost.tokens - 1) * model.backbone.hidden_size
    assert forward + ahead == pytest.approx(counted, rel=0.1)


def test_what_costs_less_is_estimated_at_less(tiny_path, manifest):
    def cost(**changes):
        raw = recipe(tiny_path, manifest).model_dump()
        for key, value in changes.items():
            part, name = key.split("__")
            raw[part][name] = value
        return estimate(parse_recipe(raw))

    plain = cost()
    assert cost(training__gradient_checkpointing=True).stages[0].flops > plain.stages[0].flops
    assert cost(training__gradient_checkpointing=True).memory["activations"] < plain.memory["activations"]
    assert cost(thinking__stride=4).tokens < plain.tokens
    assert cost(data__cache="x").stages[1].flops < plain.stages[1].flops
    assert plain.fits("RTX4090")
    assert plain.stages[1].hours("A100") > plain.stages[1].hours("B200")


def test_gpus_by_name():
    assert known_gpu("rtx 4090") == "RTX4090"
    with pytest.raises(CoatError, match="no figures"):
        known_gpu("abacus")


def test_a_dry_run_says_what_it_would_cost(tiny_path, manifest, tmp_path):
    raw = recipe(tiny_path, manifest).model_dump()
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw))
    result = coat("train", "r.yaml", "--dry-run", "--gpu", "a100", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for part in ("trained", "A100-hours", "optimizer", "fits"):
        assert part in result.stdout
    assert not (tmp_path / "runs").exists()


def test_clips_that_are_filled_up_are_counted_as_they_are_heard(tmp_path):
    """Voxtral gives its language model 375 tokens for 10 s, and a block as long."""
    random_backbone("voxtral", tmp_path)
    raw = {"backbone": {"family": "voxtral", "path": str(tmp_path)}, "data": {"train_dataset": "t.jsonl"},
           "stages": [{"name": "one", "steps": 1, "experts": {"audio_reconstruction": 1.0}}]}  # fmt: skip
    assert estimate(parse_recipe(raw), Row(seconds=10, text_tokens=60)).tokens == 375 + 377 + 60
