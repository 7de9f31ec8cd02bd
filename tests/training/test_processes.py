"""Several processes on one machine give the losses and weights of one."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from coat.config.reading import parse_recipe
from coat.files import read_jsonl, write_jsonl
from coat.testing.clips import assistant, user
from coat.training.run import train
from tests.cli.command import Started
from tests.training import accelerated, sharded
from tests.training.test_run import close, losses, recipe

pytestmark = pytest.mark.slow


def launch(path, folder, processes=2):
    """``torchrun`` on this machine's CPU, by gloo."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "coat", "train", str(path),
        "--out", str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def side_by_side(path, folder, **options):
    """The command in processes with the variables that ``torchrun`` gives them."""
    return forked("train", path, "--out", folder, cwd=folder.parent, **options)


def forked(*arguments, cwd, processes=2, main=None, environment=None):
    """Processes of one group, forked from this one: they import nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes),
              "LOCAL_WORLD_SIZE": str(processes)}  # fmt: skip
    started = [
        Started(*arguments, cwd=cwd, main=main,
                environment=(environment or {}) | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]  # fmt: skip
    done = [each.wait() for each in started]
    status = max(abs(each.returncode) for each in done)
    return subprocess.CompletedProcess(
        "coat", status, "".join(each.stdout for each in done), "".join(each.stderr for each in done)
    )


@pytest.fixture
def mixed(manifest, tmp_path):
    """Rows with audio and as many of text alone, so that a step of two has each on a process of its own."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    with_audio = [row for row in rows if row.get("audios")]
    for row in with_audio:
        row["audios"] = [str(manifest.parent / name) for name in row["audios"]]
    texts = [
        {"id": f"text-{index}", "messages": [user(f"Say {index}."), assistant(f"{index} it is")]}
        for index in range(len(with_audio))
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in with_audio + texts))
    return path


def test_a_bad_row_that_is_all_of_a_processs_share_is_left_out(mixed, tiny_path, tmp_path):
    """The process passes a batch of nothing, for the other waits for it; one held-out row for two processes too."""
    rows = read_jsonl(mixed)
    bad = tmp_path / "short.wav"
    bad.write_bytes(b"no sound")
    rows += [{**rows[0], "id": "bad", "audios": [{"path": str(bad), "seconds": 0.6}]}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_jsonl(tmp_path / "one.jsonl", rows[:1])
    raw = recipe(tiny_path, tmp_path / "rows.jsonl", batch_size=2, micro_batch_size=1, calibration_clips=4).model_dump()
    raw["data"] |= {"on_bad_row": "skip", "eval_dataset": str(tmp_path / "one.jsonl"), "group_by_length": False}
    raw["training"]["eval_steps"] = 2
    raw["stages"][1]["steps"] = 10
    (tmp_path / "recipe.yaml").write_text(parse_recipe(raw).dump())
    train(parse_recipe(raw), tmp_path / "alone", say=lambda _: None)
    result = side_by_side(tmp_path / "recipe.yaml", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Done.") == 1  # they know of each other
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["skipped_rows"] >= 1
    close(losses(tmp_path / "run"), losses(tmp_path / "alone"), 2e-3)


@pytest.mark.parametrize("cached", [False, True])
def test_two_processes_are_one(tiny_path, mixed, tmp_path, cached):
    """Steps of two rows: some with audio on one process only, some on both, some on none.

    With a cache, the projector is trained; without, LoRA on the tower too.
    """
    asked = recipe(tiny_path, mixed, batch_size=2, micro_batch_size=1).model_dump()
    asked["data"]["group_by_length"] = False
    asked["stages"][1]["steps"] = 10
    asked["data"]["eval_dataset"], asked["training"]["eval_steps"] = str(mixed), 5
    asked["train"] = {"projector": 1e-3, "audio_tower": "frozen" if cached else 1e-6}
    if cached:
        asked["data"]["cache"] = str(tmp_path / "features")
    asked = parse_recipe(asked)
    train(asked, tmp_path / "one")
    (tmp_path / "recipe.yaml").write_text(asked.dump())
    run = side_by_side if cached else launch
    result = run(tmp_path / "recipe.yaml", tmp_path / "two")
    assert result.returncode == 0, result.stderr[-3000:]
    close(losses(tmp_path / "two"), losses(tmp_path / "one"), 2e-3)
    first = [losses(tmp_path / name)["one", 1] for name in ("one", "two")]
    assert first[0] == pytest.approx(first[1], rel=1e-4)
    ours, theirs = (load_file(tmp_path / name / "heads.safetensors") for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=2e-2, atol=2e-4)
    held = [read_jsonl(tmp_path / name / "held_out.jsonl") for name in ("one", "two")]
    assert len(held[0]) == 3  # the end of the first stage, and two in the second
    for one, two in zip(*held, strict=True):
        assert two.pop("stage") == one.pop("stage")
        assert two == pytest.approx(one, rel=2e-3)
    spread = [line["loss/standin_speech"] for line in read_jsonl(tmp_path / "one" / "metrics.jsonl")
              if "loss/standin_speech" in line]  # fmt: skip
    assert 0 in spread  # a step of text alone was among them
    assert sum(value > 0 for value in spread) > 2
    assert result.stdout.count("Done.") == 1  # one process speaks for all


def test_processes_that_do_not_divide_a_batch_are_refused(tiny_path, mixed, tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe(tiny_path, mixed, batch_size=3, micro_batch_size=1).dump())
    result = side_by_side(tmp_path / "recipe.yaml", tmp_path / "run")
    assert result.returncode != 0
    assert "cannot share training.batch_size 3" in " ".join(result.stderr.replace("│", " ").split())


def accelerate_launch(options, path, folder):
    """The command as users give it."""
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *options, "train", str(path),
               "--out", str(folder)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("IN A GROUP False") == 2  # one that is still in it at its end may abort
    return done.stdout


def as_accelerate_launches(options, path, folder):
    """Processes with the variables that it gives them, forked from this one."""
    asked = launch_command_parser().parse_args(options)
    environment = prepare_multi_gpu_env(_validate_launch_command(asked)[0])
    done = side_by_side(path, folder, main=accelerated.run, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


CONFIGURATIONS = Path(__file__).parents[2] / "recipes" / "accelerate"
# What starts a run, and what one that goes on. DeepSpeed wants a process that nothing of it was imported in.
LAUNCHES = {
    "ddp": (as_accelerate_launches, as_accelerate_launches),
    "fsdp2": (accelerate_launch, as_accelerate_launches),
    "zero2": (accelerate_launch, accelerate_launch),
}


@pytest.mark.parametrize(
    ("configuration", "engine"),
    [("ddp", "DistributedDataParallel"), ("fsdp2", "FSDPThinkingModel"), ("zero2", "DeepSpeedEngine")],
)
def test_the_shipped_configurations_of_accelerate_train_as_one_process_does(
    configuration, engine, tiny_path, mixed, tmp_path
):
    """Losses, held-out losses of a row for two processes, the best weights kept, a run that goes on, all weights."""
    if configuration == "zero2":
        pytest.importorskip("deepspeed")
    write_jsonl(tmp_path / "three.jsonl", read_jsonl(mixed)[:3])
    asked = recipe(tiny_path, mixed, batch_size=4, micro_batch_size=1).model_dump()
    asked["data"]["eval_dataset"] = str(tmp_path / "three.jsonl")
    asked["training"] |= {"eval_steps": 2, "save_steps": 2, "keep": "best"}
    asked["stages"][1]["steps"] = 6
    asked = parse_recipe(asked)
    train(asked, tmp_path / "one")
    (tmp_path / "recipe.yaml").write_text(asked.dump())

    options = ["--config_file", str(CONFIGURATIONS / f"{configuration}.yaml"), "--num_processes", "2",
               "--main_process_port", "0", "-m", "tests.training.accelerated"]  # fmt: skip
    first, later = LAUNCHES[configuration]
    said = first(options, tmp_path / "recipe.yaml", tmp_path / "two")
    assert f"ENGINE {engine} " in said
    assert (f"ENGINE {engine} 0\n" not in said) == (configuration == "fsdp2")
    close(losses(tmp_path / "two"), losses(tmp_path / "one"), 2e-3)
    for name in ("heads.safetensors", "adapter/adapter_model.safetensors"):
        ours, theirs = (load_file(tmp_path / run / name) for run in ("two", "one"))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=2e-2, atol=5e-4)
    held = [read_jsonl(tmp_path / run / "held_out.jsonl") for run in ("one", "two")]
    for one, two in zip(*held, strict=True):
        assert two.pop("stage") == one.pop("stage")
        assert two == pytest.approx(one, rel=2e-3)

    stopped = tmp_path / "stopped"  # as it was in the middle of the second stage
    shutil.copytree(tmp_path / "two", stopped)
    stage = stopped / "stages" / "2-two"
    latest = stage / "checkpoint-4"
    for path in (stopped / "adapter", stage / "done", *(set(stage.glob("checkpoint-*")) - {latest})):
        shutil.rmtree(path)
    for name in ("finished.json", "heads.safetensors"):
        (stopped / name).unlink()
    assert "Going on from" in later(options, tmp_path / "recipe.yaml", stopped)
    for name in ("heads.safetensors", "adapter/adapter_model.safetensors"):
        ours, theirs = (load_file(run / name) for run in (stopped, tmp_path / "two"))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_model_in_shards_is_trained_and_saved_as_a_whole_one(tiny_path, mixed, tmp_path):
    """FSDP2 by torch itself, for accelerate shards on GPUs alone; audio on one process, text on the other."""
    (tmp_path / "recipe.yaml").write_text(recipe(tiny_path, mixed).dump())
    result = forked(tmp_path / "recipe.yaml", tmp_path, cwd=tmp_path, main=sharded.main)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "equal" in result.stdout
