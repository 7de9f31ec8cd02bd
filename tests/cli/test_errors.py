"""Mistakes that newcomers make: each gives one screen that says what to do, and no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from coat.files import write_jsonl
from coat.testing.clips import assistant, user
from tests.cli.command import Started, coat

RECIPE = """
backbone: {{path: {backbone}}}
stages: [{{name: one, steps: 1, experts: {{audio_reconstruction: auto}}}}]
data: {{train_dataset: {train}}}
training: {{batch_size: 1, micro_batch_size: 1}}
{more}
"""


def assert_helps(result, *expected):
    said = " ".join((result.stdout + result.stderr).replace("│", " ").split())
    assert result.returncode == 2, said
    assert "Traceback" not in said
    for words in expected:
        assert words in said, (words, said)
    assert len((result.stdout + result.stderr).splitlines()) <= 24, "more than a screen"


@pytest.fixture
def recipe(tiny_path, tmp_path):
    def write(clip="a.wav", more=""):
        rows = [{"id": "row-7", "audios": [str(clip)], "messages": [user("<audio>What is said?"), assistant("x")]}]
        write_jsonl(tmp_path / "train.jsonl", rows)
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.format(backbone=tiny_path, train=tmp_path / "train.jsonl", more=more))
        return path

    return write


def wave(path, seconds, rate=16_000):
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)), rate)
    return path


def test_a_misspelt_field(recipe, tmp_path):
    result = coat("train", recipe(more="thinkin: {stride: 2}"), cwd=tmp_path)
    assert_helps(result, "thinkin", "Did you mean 'thinking'?", "docs/recipes.md")


def test_two_models_of_one_name_are_not_probed_into_the_same_files(tmp_path):
    result = coat("probe", "a=one", "a=two", "--labels", "l.jsonl", "--targets", "mood", "--out", "p", cwd=tmp_path)
    assert_helps(result, "Two models are named a", "NAME=PLACE")
    assert not (tmp_path / "p").exists()


def test_a_misspelt_override(recipe, tmp_path):
    assert_helps(coat("train", recipe(), "--set", "training.sead=1", cwd=tmp_path), "training.sead", "seed")


def test_a_missing_recipe(tmp_path):
    assert_helps(coat("train", "none.yaml", cwd=tmp_path), "none.yaml")


def test_a_text_file_as_audio(recipe, tmp_path):
    (tmp_path / "words.txt").write_text("not a sound")
    assert_helps(coat("train", recipe("words.txt"), cwd=tmp_path), "row-7", "words.txt", "cannot be read as audio")


def test_a_clip_of_ten_milliseconds(recipe, tmp_path):
    wave(tmp_path / "a.wav", 0.01)
    assert_helps(coat("train", recipe(), cwd=tmp_path), "row-7", "10 ms")


def test_a_clip_over_the_limit(recipe, tmp_path):
    wave(tmp_path / "a.wav", 31)
    assert_helps(coat("train", recipe(), cwd=tmp_path), "row-7", "31.0 s", "on_bad_row: skip")


def test_a_missing_file(recipe, tmp_path):
    assert_helps(coat("train", recipe("gone.wav"), cwd=tmp_path), "row-7", "gone.wav")


@pytest.mark.parametrize(
    ("clip", "words"),
    [("words.txt", "cannot be read as audio"), ("short.wav", "10 ms"), ("long.wav", "30 s"), ("gone.wav", "no audio")],
)
def test_chat_about_a_bad_clip(tmp_path, clip, words):
    (tmp_path / "words.txt").write_text("not a sound")
    wave(tmp_path / "short.wav", 0.01)
    wave(tmp_path / "long.wav", 31)
    assert_helps(coat("chat", "--miniature", clip, "What is said?", cwd=tmp_path), clip, words)


def test_chat_without_a_run(tmp_path):
    assert_helps(
        coat("chat", "runs/none", "What is said?", cwd=tmp_path), "There is nothing at runs/none", "Give a run"
    )
    assert_helps(coat("chat", "What is said?", cwd=tmp_path), "needs a run and a question")


def test_an_option_that_is_not_there(tmp_path):
    assert_helps(coat("train", "--fast", cwd=tmp_path), "--fast")


def test_ctrl_c_says_how_to_go_on(recipe, tmp_path):
    wave(tmp_path / "a.wav", 1.0)
    path = recipe()
    path.write_text(path.read_text().replace("steps: 1,", "steps: 100000,"))
    process = Started("train", path, "--out", "run", cwd=tmp_path)
    # In the loop itself: where modules are being imported, Python may lose an interrupt, and people press again.
    while not (tmp_path / "run" / "metrics.jsonl").is_file() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    done = process.wait()
    said = done.stderr
    assert done.returncode == 130, said
    assert "goes on from the last finished step" in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said


def test_a_check_against_a_backbone_without_a_network_says_so_at_once(tmp_path):
    write_jsonl(tmp_path / "m.jsonl", [{"question": "?", "answer": "x"}])
    began = time.monotonic()
    result = coat("data", "check", "m.jsonl", "--backbone", "qwen2_audio:nobody/nothing-of-this-name", cwd=tmp_path)
    assert_helps(result, "There is nothing at nobody/nothing-of-this-name")
    assert time.monotonic() - began < 60


def test_nothing_is_printed_that_is_no_news(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    result = coat("chat", "--miniature", "a.wav", "What is said?", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1


def test_bitsandbytes_is_not_imported_unless_four_bits_are_asked_for():
    code = (
        "import sys, pkgutil, importlib, coat; "
        "names = [m.name for m in pkgutil.walk_packages(coat.__path__, 'coat.') if 'vllm' not in m.name"
        " and '__main__' not in m.name and '.lmms.' not in m.name]; "
        "[importlib.import_module(name) for name in names]; "
        "from coat.api.model import CoatModel; CoatModel.from_pretrained('miniature'); "
        "print(len(names), any(name.startswith('bitsandbytes') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, imported = done.stdout.split()
    assert int(count) > 150
    assert imported == "False"
    assert "gemm_4bit" not in done.stderr


def test_a_first_start_that_failed_leaves_its_folder_free(recipe, tmp_path):
    out = tmp_path / "run"
    assert_helps(coat("train", recipe("gone.wav"), "--out", out, cwd=tmp_path), "row-7")
    wave(tmp_path / "a.wav", 1.0)
    result = coat("train", recipe("a.wav"), "--set", "training.seed=5", "--out", out, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("backbone: {family: qwen2_audi}", "given twice"),
        ("experts: {basic_pich: {aux_weight: 1.0}}", "basic_pitch"),
        ("training: {seed: 1}", "'training' is given twice"),
    ],
)
def test_a_check_finds_what_needs_no_weights(recipe, tmp_path, more, words):
    assert_helps(coat("train", recipe(more=more), "--check", cwd=tmp_path), words)
    assert_helps(coat("train", recipe(), "--check", "--set", "backbone.family=qwen2_audi", cwd=tmp_path), "qwen2_audio")


def test_a_recipe_of_another_encoding(tmp_path):
    (tmp_path / "r.yaml").write_bytes("backbone: {path: naïve}".encode("utf-16"))
    assert_helps(coat("train", "r.yaml", cwd=tmp_path), "r.yaml is not UTF-8")


def test_a_folder_that_cannot_be_written(recipe, tmp_path):
    wave(tmp_path / "a.wav", 1.0)
    (tmp_path / "file").write_text("")
    assert_helps(coat("train", recipe("a.wav"), "--out", tmp_path / "file" / "run", cwd=tmp_path), "cannot be written")


def test_a_process_that_was_killed_is_named_with_a_remedy(tmp_path):
    """As by a machine whose memory has run out."""
    wave(tmp_path / "a.wav", 20)
    rows = [
        {"id": f"{n}", "audios": [{"path": "a.wav", "start": n / 100}], "messages": [user("<audio>?"), assistant("x")]}
        for n in range(1000)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    command = Started("data", "check", "rows.jsonl", "--workers", 2, cwd=tmp_path)
    while command.poll() is None:
        if found := decoders(command.pid):
            os.kill(found[0], signal.SIGKILL)
            break
        time.sleep(0.05)
    result = command.wait()
    said = " ".join((result.stdout + result.stderr).replace("│", " ").split())
    assert result.returncode == 3, said
    assert "Traceback" not in said
    assert "A process of this command was killed" in said
    assert "SIGKILL" in said
    assert "fewer --workers" in said


def decoders(pid):
    """Processes that a command has started to decode."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if "popen_loky" in Path(f"/proc/{child}/cmdline").read_text()]
