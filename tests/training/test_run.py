"""Training end to end on the tiny random backbone: the same numbers however a batch is split or a run is cut."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from coat.checkpoints import load_model
from coat.checkpoints.building import adapt, build_experts, build_model
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.files import read_jsonl
from coat.testing.clips import assistant, user
from coat.training.run import train
from tests.cli.command import Started

EXPERTS = {"audio_reconstruction": "auto", "standin_speech": "auto", "standin_affect": 2.0}


def recipe(tiny_path, manifest, **training):
    return parse_recipe(
        {
            "backbone": {"path": str(tiny_path)},
            "lora": {"rank": 2, "alpha": 4},
            "heads": {"num_heads": 2, "ffn_ratio": 1.0},
            "stages": [
                {"name": "one", "steps": 4, "learning_rate": 1e-3, "experts": {"audio_reconstruction": "auto"}},
                {"name": "two", "steps": 6, "learning_rate": 1e-3, "experts": EXPERTS},
            ],
            "data": {"train_dataset": str(manifest)},
            "training": {
                "batch_size": 8,
                "micro_batch_size": 8,
                "logging_steps": 1,
                "save_steps": 2,
                "seed": 3,
                **training,
            },
        }
    )


@pytest.fixture(scope="module")
def finished(tiny_path, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train(recipe(tiny_path, manifest), folder)
    return folder


def losses(folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    return {
        (line["stage"], line["step"]): {k: v for k, v in line.items() if k.startswith("loss") or k == "grad_norm"}
        for line in read_jsonl(folder / "metrics.jsonl")
    }


def close(a, b, tolerance):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].keys() == b[key].keys()
        for name in a[key]:
            assert a[key][name] == pytest.approx(b[key][name], rel=tolerance, abs=tolerance), (key, name)


def test_a_run_leaves_what_it_should(finished):
    for name in ("recipe.yaml", "run.json", "metrics.jsonl", "heads.safetensors", "adapter/adapter_model.safetensors"):
        assert (finished / name).is_file(), name
    assert list((finished / "tensorboard" / "two").glob("events*"))
    lines = losses(finished)
    assert set(lines) == {("one", step) for step in range(1, 5)} | {("two", step) for step in range(1, 7)}
    assert set(lines["one", 1]) == {"loss", "loss/ce", "loss/audio_reconstruction", "grad_norm"}
    assert {f"loss/{name}" for name in EXPERTS} <= set(lines["two", 1])
    facts = json.loads((finished / "run.json").read_text())
    assert set(facts["calibrated_weights"]) == {"audio_reconstruction", "standin_speech"}
    assert all("language_model" in name for name in facts["adapted_modules"])
    last = read_jsonl(finished / "metrics.jsonl")[-1]
    assert 1.0 <= last["think/effective_rank"] <= 64
    assert -1.0 <= last["think/mean_cosine"] <= 1.0


def test_the_total_is_the_weighted_sum_of_its_parts(finished):
    weights = json.loads((finished / "run.json").read_text())["calibrated_weights"] | {"standin_affect": 2.0}
    for parts in losses(finished).values():
        total = parts["loss/ce"] + sum(weights[k] * parts[f"loss/{k}"] for k in weights if f"loss/{k}" in parts)
        assert parts["loss"] == pytest.approx(total, rel=1e-5)


def test_the_loss_falls(finished):
    lines = losses(finished)
    assert lines["two", 6]["loss/ce"] < lines["one", 1]["loss/ce"]


@pytest.mark.parametrize("split", [{"micro_batch_size": 1}, {"micro_batch_size": 3}, {"micro_batch_tokens": 150}])
def test_losses_and_gradients_do_not_depend_on_how_a_batch_is_split(finished, tiny_path, manifest, tmp_path, split):
    train(recipe(tiny_path, manifest, **split), tmp_path / "run")
    close(losses(tmp_path / "run"), losses(finished), 2e-3)
    first = losses(tmp_path / "run")["one", 1], losses(finished)["one", 1]  # before rounding accumulates
    assert first[0] == pytest.approx(first[1], rel=1e-4)


def test_a_stopped_run_goes_on_with_as_many_rows_as_it_began_with(finished, tiny_path, manifest, tmp_path):
    rows = manifest.with_name(f"{tmp_path.name}.jsonl")
    shutil.copy(manifest, rows)
    run = shutil.copytree(finished, tmp_path / "run")
    for name in ("recipe.yaml", "run.json"):
        (run / name).write_text((run / name).read_text().replace(str(manifest), str(rows)))
    (run / "finished.json").unlink()
    shutil.rmtree(run / "stages" / "2-two" / "done")
    more = rows.read_text().splitlines()[0].replace('"id": "', '"id": "one-more-')
    rows.write_text(manifest.read_text() + more + "\n")
    begun, given = json.loads((run / "run.json").read_text())["rows"][str(rows)], recipe(tiny_path, rows)
    message = rf"began with other rows(.|\n)*{begun} rows, now {begun + 1}(.|\n)*start_from: {run}/stages"
    with pytest.raises(CoatError, match=message):
        train(given, run)
    rows.write_text(manifest.read_text())
    skips = given.model_copy(update={"data": given.data.model_copy(update={"on_bad_row": "skip"})})
    train(skips, run)
    close(losses(run), losses(finished), 1e-6)


def test_gradient_checkpointing_changes_nothing(finished, tiny_path, manifest, tmp_path):
    train(recipe(tiny_path, manifest, gradient_checkpointing=True), tmp_path / "run")
    close(losses(tmp_path / "run"), losses(finished), 1e-4)


@pytest.mark.parametrize("stage", ["1-one", "2-two"])
def test_a_killed_run_resumes_to_the_losses_of_an_unbroken_one(finished, tiny_path, manifest, tmp_path, stage):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(tiny_path, manifest).dump())
    process = Started("train", path, "--out", tmp_path / "run", cwd=tmp_path)
    deadline = time.monotonic() + 240
    checkpoints = tmp_path / "run" / "stages" / stage
    while not list(checkpoints.glob("checkpoint-*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "finished.json").is_file(), "the run ended before it could be killed"
    train(recipe(tiny_path, manifest), tmp_path / "run")
    close(losses(tmp_path / "run"), losses(finished), 1e-5)


def test_a_finished_run_answers_and_another_recipe_is_refused(finished, tiny_path, manifest):
    assert not any(p.requires_grad for p in load_model(finished).parameters() if p.dim() > 3)
    assert train(recipe(tiny_path, manifest), finished) == finished
    with pytest.raises(CoatError, match="another recipe"):
        train(recipe(tiny_path, manifest, seed=4), finished)


def test_cached_features_give_the_losses_of_live_ones(finished, tiny_path, manifest, tmp_path):
    raw = recipe(tiny_path, manifest).model_dump()
    raw["data"]["cache"] = str(tmp_path / "cache")
    train(parse_recipe(raw), tmp_path / "run")
    close(losses(tmp_path / "run"), losses(finished), 2e-3)  # targets are kept in half precision


def test_training_the_whole_embedding(tiny_path, manifest):
    model = build_model(recipe(tiny_path, manifest))
    adapt(model, recipe(tiny_path, manifest).model_copy(update={"train_embeddings": "full"}))
    trained = [p for name, p in model.trainable().items() if "embed_tokens" in name]
    assert len(trained) == 1
    assert trained[0].shape[0] > 3


def test_heads_start_at_the_mean_and_auto_weights_make_it_cost_one(tiny_path, manifest, tmp_path):
    raw = recipe(tiny_path, manifest, batch_size=12, micro_batch_size=12).model_dump()
    raw["data"]["group_by_length"] = False  # so that the first batch is every row once
    folder = train(parse_recipe(raw), tmp_path / "run")
    weights = json.loads((folder / "run.json").read_text())["calibrated_weights"]
    first = next(line for line in read_jsonl(folder / "metrics.jsonl"))
    assert weights["audio_reconstruction"] * first["loss/audio_reconstruction"] == pytest.approx(1.0, rel=1e-3)


def test_mean_features_are_means_over_real_frames(tiny_path, manifest):
    from coat.data.manifest import read_manifest
    from coat.losses import masked_sum
    from coat.training.calibration import mean_features, unit_weights
    from coat.training.dataset import TrainingCollator
    from coat.training.targets import expert_targets

    asked = recipe(tiny_path, manifest)
    model = build_model(asked)
    experts = build_experts(asked, model)
    collate = TrainingCollator(model.builder, [e for e in experts.values() if e.needs_waveform])
    rows = [row for row in read_manifest(manifest) if row.audios]

    def batches(size):
        return [batch for i in range(0, len(rows), size) for batch in collate.batches(rows[i : i + size])]

    means = mean_features(model, experts, lambda: batches(4))
    weights = unit_weights(model, experts, means, lambda: batches(3))
    for name, expert in experts.items():
        frames, total = [], 0.0
        for batch in batches(1):
            output = model(batch, [])
            target = expert_targets(expert, batch, output.audio_embeddings, output.audio_lengths, model.builder)
            frames.append(target[0])
            mean, mask = means[name].expand_as(target), torch.ones(target.shape[:2], dtype=torch.bool)
            total += float(masked_sum(expert.loss(mean, target, mask), mask))
        torch.testing.assert_close(means[name], torch.cat(frames).mean(0), rtol=1e-4, atol=1e-5)
        assert weights[name] * total / len(torch.cat(frames)) == pytest.approx(1.0, rel=1e-4)


def test_rows_that_are_too_long_are_refused_or_left_out(tiny_path, tmp_path):
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 31 * 16_000), 16_000)
    soundfile.write(tmp_path / "ok.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    rows = [
        {"id": name, "audios": [f"{name}.wav"], "messages": [user("<audio>"), assistant("x")]}
        for name in ("long", "ok")
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(CoatError, match=r"long \(31\.0 s\)"):
        train(recipe(tiny_path, path), tmp_path / "run")


def test_bf16_stays_close_to_full_precision(finished, tiny_path, manifest, tmp_path):
    train(recipe(tiny_path, manifest, precision="bf16"), tmp_path / "run")
    ours, full = losses(tmp_path / "run")["one", 1], losses(finished)["one", 1]
    for name in ("loss/ce", "loss/audio_reconstruction"):
        assert ours[name] == pytest.approx(full[name], rel=0.03)
        assert ours[name] != full[name]
