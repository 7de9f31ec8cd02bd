"""Loader workers: the same losses as none, and signals that a scheduler sends to a whole group of processes."""

import json
import os
import signal
import time

import pytest

from coat.config.reading import parse_recipe
from coat.files import read_jsonl
from coat.training.run import train
from tests.cli.command import Started
from tests.training.test_faults import long_recipe
from tests.training.test_run import losses, recipe


@pytest.mark.parametrize("cached", [False, True])
def test_four_workers_give_the_losses_of_none(tiny_path, manifest, tmp_path, cached):
    """The parent reads manifest and cache before workers are forked: in calibration, and to fill the cache."""
    found = []
    for workers in (0, 4):
        raw = recipe(tiny_path, manifest, workers=workers).model_dump()
        raw["data"]["cache"] = str(tmp_path / "features") if cached else None
        train(parse_recipe(raw), tmp_path / f"run-{workers}", say=lambda _: None)
        found.append(losses(tmp_path / f"run-{workers}"))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no groups of processes here")
def test_a_signal_to_the_whole_group_saves_too(tiny_path, manifest, tmp_path):
    raw = long_recipe(tiny_path, manifest).model_dump()
    raw["training"]["workers"] = 2
    (tmp_path / "recipe.yaml").write_text(parse_recipe(raw).dump())
    process = Started("train", "recipe.yaml", "--out", "run", cwd=tmp_path)
    while not (tmp_path / "run" / "metrics.jsonl").is_file() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM, group=True)
    done = process.wait()
    assert done.returncode == 143, done.stderr
    assert "goes on from there" in " ".join(done.stderr.replace("│", " ").split())
    steps = [line["step"] for line in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    folders = sorted((tmp_path / "run" / "stages").glob("*/checkpoint-*"))
    assert folders
    assert steps
    assert json.loads((tmp_path / "run" / "run.json").read_text())


def test_what_only_changes_how_a_run_gets_on_may_change(tiny_path, manifest, tmp_path):
    """The remedy for too little memory can be followed; anything else is named, old and new."""
    from coat.errors import CoatError

    whole = recipe(tiny_path, manifest)
    train(whole, tmp_path / "run", say=lambda _: None)
    (tmp_path / "run" / "finished.json").unlink()
    smaller = whole.model_dump()
    smaller["training"] |= {"micro_batch_size": 2, "workers": 1, "save_steps": 1, "logging_steps": 2}
    train(parse_recipe(smaller), tmp_path / "run", say=lambda _: None)
    other = whole.model_dump()
    other["training"]["batch_size"] = 4
    other["stages"][0]["learning_rate"] = 0.5
    with pytest.raises(CoatError, match="another recipe") as caught:
        train(parse_recipe(other), tmp_path / "run", say=lambda _: None)
    assert "training.batch_size: 8, now 4" in caught.value.problem
    assert "stages[0].learning_rate: 0.001, now 0.5" in caught.value.problem
    assert "micro" not in caught.value.problem
