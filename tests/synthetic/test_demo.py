"""The whole method in small: corpus, backbone, four arms, answers, probes, report; and how the miniature is made."""

import base64
import json
import re
import shutil

import pytest
import yaml
from rich.console import Console

from coat.api.model import CoatModel
from coat.reports.page import Section
from coat.synthetic.demo import ARMS, DemoSettings, run_demo
from make_miniature import make
from tests.synthetic.conftest import SIZE

STEPS = ("stages.0.steps=2", "stages.1.steps=3", "training.batch_size=4", "training.micro_batch_size=4", "lora.rank=2",
         "training.logging_steps=1")  # fmt: skip
SETTINGS = DemoSettings(size=SIZE, labels=4, limit=3, overrides=STEPS, decoder_steps=20)
OPENING = [Section("Before all", "What came first.")]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    if not shutil.which("espeak-ng") or not shutil.which("fluidsynth"):
        pytest.skip("espeak-ng and fluidsynth are not installed (make system)")
    folder = tmp_path_factory.mktemp("demo") / "demo"
    console = Console(record=True, width=160)
    report = run_demo(folder, workers=2, settings=SETTINGS, console=console, opening=OPENING)
    return folder, report, console.export_text()


def scores_of(folder, arm):
    (run,) = (folder / "runs").glob(f"{arm}*")
    tasks = json.loads((run / "eval" / "scores-strict.json").read_text())
    return {task["task"]: task["scores"][0] for task in tasks}


def test_it_ends_with_a_table_bars_and_the_reports_place(demo):
    folder, report, said = demo
    assert str(report) in said.replace("\n", "")
    assert "coat chat" in said
    assert "4 notes and 4 moods (*) have an answer" in said
    for title in ("as it is", "fine-tuning alone", "CoAT"):
        assert title in said
    for task in ("pitch_class", "mood"):
        (line,) = (line for line in said.splitlines() if line.strip("│┃ ").startswith(f"{task.replace('_', ' ')} *"))
        for arm in ARMS:
            assert f"{100 * scores_of(folder, arm)[task]['value']:.1f} ±" in line


def test_the_report_shows_the_runs_own_numbers(demo):
    folder, report, _ = demo
    page = report.read_text()
    assert "http" not in re.sub(r"http://www.w3.org\S+", "", page), "the page must stand alone"
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) >= 5
    assert page.index("What came first.") < page.index("Scores on held-out clips")
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    for arm in ARMS:
        scores = scores_of(folder, arm)
        assert {"transcription", "mood", "pitch_class", "instrument", "event", "choice"} <= set(scores)
        for score in scores.values():
            assert f"{100 * score['value']:.1f} ± {50 * (score['high'] - score['low']):.1f}" in page
            assert score["low"] <= score["value"] <= score["high"]


def test_every_trained_arm_had_the_same_data_steps_and_seed(demo):
    folder, _, _ = demo
    recipes = [yaml.safe_load(path.read_text()) for path in sorted((folder / "runs").glob("*-seed0/recipe.yaml"))]
    assert len(recipes) == 2
    for key in ("backbone", "lora", "data", "training"):
        assert all(recipe[key] == recipes[0][key] for recipe in recipes), key
    steps = [[(stage["steps"], stage["learning_rate"]) for stage in recipe["stages"]] for recipe in recipes]
    assert all(each == steps[0] for each in steps)


def test_it_goes_on_from_the_last_finished_step(demo):
    folder, _, _ = demo
    gone = [folder / "runs" / "full-seed0", folder / "report.html"]
    kept = [
        folder / "corpus" / "clips.jsonl",
        folder / "backbone" / "config.json",
        folder / "runs" / "sft-seed0" / "metrics.jsonl",
    ]
    before = json.loads((folder / "runs" / "ablation.json").read_text())["scores"]
    times = [path.stat().st_mtime_ns for path in kept]
    shutil.rmtree(gone[0])
    gone[1].unlink()
    run_demo(folder, settings=SETTINGS, console=Console(quiet=True), opening=OPENING)
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert gone[1].is_file()
    after = json.loads((folder / "runs" / "ablation.json").read_text())["scores"]
    assert after == before, "the same seed gives the same scores"


def test_the_miniature_is_made_anew(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    made = make(tmp_path, tmp_path / "shipped", SETTINGS, pretrain_steps=3)
    assert "3 pre-training steps, stages of 2 and 3 steps" in (made / "README.md").read_text()
    model = CoatModel.from_pretrained(made)
    note = json.loads((tmp_path / "corpus" / "test.jsonl").read_text().splitlines()[0])
    assert isinstance(model.chat(tmp_path / "corpus" / note["audios"][0], "What note is this?", max_new_tokens=2), str)
