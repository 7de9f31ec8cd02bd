import json

import pytest
import torch
from safetensors.torch import load_file

from coat.checkpoints.building import add_heads, build_experts, build_model, feature_dims
from coat.checkpoints.weights import load_weights
from coat.config.reading import parse_recipe
from coat.data.manifest import read_manifest
from coat.errors import CoatError
from coat.files import read_jsonl
from coat.losses import masked_sum, response_cross_entropy
from coat.thinking.batch import make_batch
from coat.training.run import train
from coat.training.targets import expert_targets
from tests.training.test_run import recipe


def asked(tiny_path, manifest, cache=None, **training):
    raw = recipe(tiny_path, manifest, eval_steps=2).model_dump()
    raw["training"] |= training
    raw["stages"] = raw["stages"][1:]
    raw["stages"][0]["steps"] = 8
    raw["data"] |= {"eval_dataset": str(manifest), "cache": cache}
    return parse_recipe(raw)


def test_losses_are_those_of_the_rows(tiny_path, manifest, tmp_path):
    """Counted by hand, row by row, from the weights at the end; the training goes on as if nothing was measured."""
    made = asked(tiny_path, manifest)
    run = train(made, tmp_path / "run", say=lambda _: None)
    lines = read_jsonl(run / "held_out.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    model = build_model(made)
    experts = build_experts(made, model)
    add_heads(model, feature_dims(experts), made)
    load_weights(model, run)
    model.eval()
    sums, tokens, frames = dict.fromkeys(["ce", *experts], 0.0), 0, 0
    rates = sorted({expert.sampling_rate for expert in experts.values() if expert.needs_waveform})
    with torch.no_grad():
        for row in read_manifest(manifest):
            batch = make_batch(model.builder, [row.conversation(answered=True)], live_rates=rates)
            output = model(batch)
            sums["ce"] += float(response_cross_entropy(output.response_logits, output.response_labels))
            tokens += batch.num_response_tokens
            frames += batch.num_think_tokens
            for name, expert in experts.items():
                if output.think_hidden is not None:
                    target = expert_targets(expert, batch, output.audio_embeddings, output.audio_lengths, model.builder)
                    losses = expert.loss(output.predictions[name], target, output.think_mask)
                    sums[name] += float(masked_sum(losses, output.think_mask))
    assert lines[-1]["ce"] == pytest.approx(sums["ce"] / tokens, rel=1e-4)
    for name in experts:
        assert lines[-1][name] == pytest.approx(sums[name] / frames, rel=1e-3)
    raw = made.model_dump()
    raw["data"]["eval_dataset"] = None
    plain = train(parse_recipe(raw), tmp_path / "plain", say=lambda _: None)
    assert read_jsonl(plain / "metrics.jsonl") == read_jsonl(run / "metrics.jsonl")


def test_the_best_weights_are_kept_and_a_stage_ends_where_nothing_gets_better(
    tiny_path, manifest, tmp_path, monkeypatch
):
    from coat.training import eval_callback

    told = iter([3.0, 1.0, 2.0, 1.5, 0.1])
    seen = []
    real = eval_callback.held_out_losses
    monkeypatch.setattr(eval_callback, "held_out_losses", lambda *a: real(*a) | {"ce": seen.append(1) or next(told)})
    said = []
    run = train(asked(tiny_path, manifest, keep="best", early_stopping_patience=2), tmp_path / "run", say=said.append)
    assert [line["ce"] for line in read_jsonl(run / "held_out.jsonl")] == [3.0, 1.0, 2.0, 1.5]
    assert read_jsonl(run / "metrics.jsonl")[-1]["step"] == 8  # the last measurement is at the last step
    best = run / "stages" / "1-two" / "best"
    assert json.loads((best / "step.json").read_text())["step"] == 4
    ours = load_file(run / "adapter" / "adapter_model.safetensors")
    kept = load_file(best / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(ours[name], kept[name]) for name in kept)
    assert any("step 4" in line for line in said)


def test_it_stops_early(tiny_path, manifest, tmp_path, monkeypatch):
    from coat.training import eval_callback

    monkeypatch.setattr(eval_callback, "held_out_losses", lambda *_: {"ce": 1.0})
    run = train(asked(tiny_path, manifest, early_stopping_patience=1), tmp_path / "run", say=lambda _: None)
    assert read_jsonl(run / "metrics.jsonl")[-1]["step"] == 4


def test_features_of_held_out_rows_are_computed_ahead_too(tiny_path, manifest, tmp_path):
    run = train(asked(tiny_path, manifest, cache=str(tmp_path / "cache")), tmp_path / "run", say=lambda _: None)
    assert len(read_jsonl(run / "held_out.jsonl")) == 4


def test_best_and_patience_need_rows(tiny_path, manifest):
    with pytest.raises(CoatError, match=r"need data\.eval_dataset"):
        recipe(tiny_path, manifest, keep="best")
    with pytest.raises(CoatError, match=r"need data\.eval_dataset"):
        recipe(tiny_path, manifest, early_stopping_patience=3)
