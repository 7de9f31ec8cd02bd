"""What goes wrong in long runs, made to go wrong: each is met, and nothing is lost."""

import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from coat.checkpoints.references import is_finished
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.files import read_jsonl, write_jsonl
from coat.thinking.model import ThinkingModel
from coat.training import trainer as trainer_module
from coat.training.preemption import PreemptedError
from coat.training.run import train
from tests.cli.command import Started
from tests.training.test_run import close, finished, losses, recipe  # noqa: F401

KILLS = 20


def quietly(_):
    """Nobody listens."""


def weights(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors") | load_file(folder / "heads.safetensors")


def long_recipe(tiny_path, manifest, **training):
    raw = recipe(
        tiny_path, manifest, batch_size=4, micro_batch_size=4, save_steps=3, logging_steps=3, **training
    ).model_dump()
    for stage, steps in zip(raw["stages"], (40, 120), strict=True):
        stage["steps"] = steps
    return parse_recipe(raw)


def _run_slowly(asked, folder, pause):
    """So that twenty lives are not enough for it."""
    torch.set_num_threads(1)
    real = ThinkingModel.forward
    ThinkingModel.forward = lambda *args, **options: time.sleep(pause) or real(*args, **options)
    train(asked, folder, say=quietly)


@pytest.mark.slow
def test_killed_twenty_times_it_ends_with_the_weights_of_an_unbroken_run(tiny_path, manifest, tmp_path):
    """Processes are forked from this one, which has everything imported: a life of a second is enough to get on."""
    asked = long_recipe(tiny_path, manifest)
    train(asked, tmp_path / "whole", say=quietly)
    context, rng = multiprocessing.get_context("fork"), np.random.default_rng(0)
    killed = 0
    while not is_finished(tmp_path / "run"):
        pause = 0.1 if killed < KILLS else 0.0
        process = context.Process(target=_run_slowly, args=(asked, tmp_path / "run", pause))
        process.start()
        process.join(rng.uniform(0.2, 1.3) if killed < KILLS else 240)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        assert killed <= KILLS
    assert killed == KILLS
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    close(losses(tmp_path / "run"), losses(tmp_path / "whole"), 1e-6)


def test_a_signal_saves_and_stops_and_the_same_command_goes_on(finished, tiny_path, manifest, tmp_path):  # noqa: F811
    asked, before = recipe(tiny_path, manifest, save_steps=100), signal.getsignal(signal.SIGTERM)
    real = ThinkingModel.forward
    seen = []

    def forward(self, *args, **options):
        seen.append(1)
        if len(seen) == 6:  # the second step of the second stage
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThinkingModel, "forward", forward)
        with pytest.raises(PreemptedError, match="saved at step 2"):
            train(asked, tmp_path / "run", say=quietly)
    assert signal.getsignal(signal.SIGTERM) == before
    assert [path.name for path in (tmp_path / "run/stages/2-two").glob("checkpoint-*")] == ["checkpoint-2"]
    train(asked, tmp_path / "run", say=quietly)
    close(losses(tmp_path / "run"), losses(finished), 1e-5)


def test_a_step_whose_gradient_is_not_finite_is_left_out_and_counted(tiny_path, manifest, tmp_path, monkeypatch):
    real = trainer_module.response_cross_entropy
    seen = []

    def sometimes(logits, labels):
        seen.append(1)
        return real(logits, labels) * (math.nan if len(seen) in (3, 6, 7) else 1)

    monkeypatch.setattr(trainer_module, "response_cross_entropy", sometimes)
    train(recipe(tiny_path, manifest), tmp_path / "run", say=quietly)
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == 10
    assert [line.get("bad_steps", 0) for line in lines] == [0, 0, 1, 1, 0, 1, 2, 2, 2, 2]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_too_many_of_them_stop_the_run(tiny_path, manifest, tmp_path, monkeypatch):
    real = trainer_module.response_cross_entropy
    seen = []

    def after_a_while(logits, labels):
        seen.append(1)
        return real(logits, labels) * (math.inf if len(seen) > 5 else 1)

    monkeypatch.setattr(trainer_module, "response_cross_entropy", after_a_while)
    with pytest.raises(CoatError, match="3 steps in a row had gradients that are not finite, up to step 4"):
        train(recipe(tiny_path, manifest, max_bad_steps=3), tmp_path / "run", say=quietly)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_step_that_does_not_fit_is_done_in_smaller_parts(finished, tiny_path, manifest, tmp_path, where):  # noqa: F811
    """More than three rows at once, and memory runs out, be it with half of the gradients there already."""
    real = ThinkingModel.forward

    class Full(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def small(self, batch, *args, **options):
        if len(batch.input_ids) > 3 and where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        output = real(self, batch, *args, **options)
        if len(batch.input_ids) > 3 and output.think_hidden is not None:
            from dataclasses import replace

            name = "audio_reconstruction"
            return replace(output, predictions=output.predictions | {name: Full.apply(output.predictions[name])})
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThinkingModel, "forward", small)
        train(recipe(tiny_path, manifest), tmp_path / "run", say=quietly)
    close(losses(tmp_path / "run"), losses(finished), 2e-3)
    first = [losses(folder)["one", 1] for folder in (tmp_path / "run", finished)]
    assert first[0] == pytest.approx(first[1], rel=1e-4)


def test_one_row_that_does_not_fit_is_an_error_with_remedies(tiny_path, manifest, tmp_path, monkeypatch):
    def full(self, *args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(ThinkingModel, "forward", full)
    with pytest.raises(CoatError, match="on one row") as caught:
        train(recipe(tiny_path, manifest), tmp_path / "run", say=quietly)
    assert "gradient_checkpointing" in caught.value.remedy


def _limited(asked, folder):
    """Files may not grow beyond a few kilobytes: what a full disk is to a writer."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    none = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def limit():
        while not list(folder.glob("stages/*/checkpoint-2")):
            time.sleep(0.001)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    threading.Thread(target=limit, daemon=True).start()
    try:
        train(asked, folder, say=quietly)
    except CoatError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, none)
        (folder / "said").write_text(str(error))


def test_a_full_disk_leaves_the_last_checkpoint_whole(tiny_path, manifest, tmp_path):
    asked = long_recipe(tiny_path, manifest, keep_checkpoints=5).model_dump()
    asked["training"]["save_steps"] = 2
    for stage in asked["stages"]:
        stage["steps"] = 12
    asked = parse_recipe(asked)
    process = multiprocessing.get_context("fork").Process(target=_limited, args=(asked, tmp_path / "run"))
    process.start()
    process.join(120)
    said = (tmp_path / "run" / "said").read_text()
    assert "could not be written" in said
    assert "is whole" in said
    assert "Make room" in said
    train(asked, tmp_path / "run", say=quietly)
    train(asked, tmp_path / "whole", say=quietly)
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture
def vanishing(manifest, tmp_path):
    """A manifest one of whose files goes once its length is known."""
    folder = shutil.copytree(manifest.parent, tmp_path / "data")
    return folder / manifest.name, folder / "clip-7.wav"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_vanished_file_is_named(tiny_path, vanishing, tmp_path, monkeypatch, workers):
    from coat.training import run as run_module

    path, clip = vanishing
    asked = recipe(tiny_path, path, workers=workers, calibration_clips=4)
    monkeypatch.setattr(run_module, "build_model", lambda r, real=run_module.build_model: clip.unlink() or real(r))
    with pytest.raises(CoatError, match=r"Row a7: There is no audio file at .*clip-7.wav"):
        train(asked, tmp_path / "run", say=quietly)


def test_a_vanished_file_can_be_left_out_and_counted(tiny_path, vanishing, tmp_path, monkeypatch):
    from coat.training import run as run_module

    path, clip = vanishing
    raw = recipe(tiny_path, path, calibration_clips=4).model_dump()
    raw["data"]["on_bad_row"] = "skip"
    monkeypatch.setattr(run_module, "build_model", lambda r, real=run_module.build_model: clip.unlink() or real(r))
    train(parse_recipe(raw), tmp_path / "run", say=quietly)
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["skipped_rows"] >= 3  # a row in twelve, of 48 a stage


def test_smaller_passes_are_kept_by_workers_too(tiny_path, manifest, tmp_path):
    """The size is one number for the trainer and every process that collates for it."""
    from torch.utils.data import DataLoader

    from coat.checkpoints.building import build_model
    from coat.data.manifest import read_manifest
    from coat.training.dataset import ManifestDataset, TrainingCollator

    builder = build_model(recipe(tiny_path, manifest)).builder
    collator = TrainingCollator(builder, rows=4)
    rows = read_manifest(manifest)
    loader = DataLoader(
        ManifestDataset(rows),
        batch_sampler=[list(range(4))] * 12,
        collate_fn=collator,
        num_workers=1,
        prefetch_factor=1,
    )
    sizes = []
    for batches in loader:
        sizes.append([len(batch.input_ids) for batch in batches])
        collator.rows = 2
    assert sizes[0] == [4]
    assert sizes[-1] == [2, 2]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_steps_whose_rows_are_all_left_out_change_nothing(tiny_path, manifest, tmp_path, monkeypatch, batch_size):
    """Clips vanish after the data was opened: alone in a step, in its calibration, among held-out rows."""
    from coat.training import run as run_module

    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    rows = [row for row in read_jsonl(folder / manifest.name) if row.get("audios")]
    write_jsonl(folder / "rows.jsonl", rows)
    write_jsonl(folder / "held.jsonl", rows[:2])
    raw = recipe(tiny_path, folder / "rows.jsonl", calibration_clips=10, batch_size=batch_size).model_dump()
    raw["training"] |= {"micro_batch_size": 1, "eval_steps": 5, "max_bad_steps": 10}
    raw["data"] |= {"on_bad_row": "skip", "eval_dataset": str(folder / "held.jsonl")}

    def vanish(given, real=run_module.build_model):
        for index in (0, 3, 4):
            (folder / f"clip-{index}.wav").unlink()
        return real(given)

    monkeypatch.setattr(run_module, "build_model", vanish)
    train(parse_recipe(raw), tmp_path / "run", say=quietly)
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["skipped_rows"] > 0
    assert all(np.isfinite(line["loss"]) for line in lines)


def test_data_of_which_nothing_can_be_used_ends_the_run(tiny_path, manifest, tmp_path, monkeypatch):
    from coat.training import run as run_module

    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    rows = [row for row in read_jsonl(folder / manifest.name) if row.get("audios")]
    write_jsonl(folder / "rows.jsonl", rows)
    raw = recipe(tiny_path, folder / "rows.jsonl", calibration_clips=4, batch_size=1).model_dump()
    raw["training"] |= {"max_bad_steps": 3}
    raw["data"] |= {"on_bad_row": "skip"}
    raw["stages"] = [{"name": "plain", "steps": 8, "experts": {}}]

    def vanish(given, real=run_module.build_model):
        for path in folder.glob("*.wav"):
            path.unlink()
        return real(given)

    monkeypatch.setattr(run_module, "build_model", vanish)
    with pytest.raises(CoatError, match="3 steps in a row had no row that can be used, such as"):
        train(parse_recipe(raw), tmp_path / "run", say=quietly)


def test_an_empty_step_moves_no_weight(tiny_path, manifest, tmp_path, monkeypatch):
    """Neither by momentum nor by weight decay."""
    from coat.training.dataset import TrainingCollator

    raw = recipe(tiny_path, manifest, calibration_clips=4).model_dump()
    raw["data"] |= {"on_bad_row": "skip"}
    raw["stages"] = [{"name": "plain", "steps": 6, "experts": {}}]
    raw["training"] |= {"save_steps": 1, "keep_checkpoints": 9, "weight_decay": 0.5}
    real, seen = TrainingCollator._encode, []

    def encode(self, row, builder):
        seen.append(row)
        if len(seen) > 4 * raw["training"]["batch_size"]:  # from the fifth step on nothing can be used
            raise CoatError("gone")
        return real(self, row, builder)

    monkeypatch.setattr(TrainingCollator, "_encode", encode)
    train(parse_recipe(raw), tmp_path / "run", say=quietly)
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["skipped_rows"] > 0
    stage = tmp_path / "run" / "stages" / "1-plain"
    before, after = (load_file(stage / f"checkpoint-{n}" / "adapter" / "adapter_model.safetensors") for n in (4, 6))
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=0)


def test_a_preempted_command_ends_with_the_signals_code(tiny_path, manifest, tmp_path):
    asked = long_recipe(tiny_path, manifest)
    (tmp_path / "recipe.yaml").write_text(asked.dump())
    process = Started("train", "recipe.yaml", "--out", "run", cwd=tmp_path)
    while not (tmp_path / "run" / "metrics.jsonl").is_file() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    done = process.wait()
    assert done.returncode == 143
    assert "goes on from there" in " ".join(done.stderr.replace("│", " ").split())
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["calibrated_weights"]
