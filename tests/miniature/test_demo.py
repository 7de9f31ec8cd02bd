"""The whole method in small: corpus, backbone, four arms, answers, probes, report."""

import base64
import json
import re
import shutil

import pytest
from rich.console import Console

from coat.miniature.arms import ARMS, Settings
from coat.miniature.demo import run_demo
from tests.miniature.conftest import SIZE

SETTINGS = Settings(
    size=SIZE, pretrain_steps=3, labelled_clips=4, label_repeats=1, stage_steps=(2, 3), batch_size=4, rank=2,
    items_per_task=3,
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    if not shutil.which("espeak-ng") or not shutil.which("fluidsynth"):
        pytest.skip("espeak-ng and fluidsynth are not installed (make system)")
    folder = tmp_path_factory.mktemp("demo") / "demo"
    console = Console(record=True, width=160)
    report = run_demo(folder, settings=SETTINGS, shipped=False, console=console)
    return folder, report, console.export_text()


def test_it_ends_with_a_table_and_the_reports_place(demo):
    _, report, said = demo
    assert str(report) in said.replace("\n", "")
    assert "coat chat" in said
    for arm in ARMS.values():
        assert arm.title.split()[-1] in said


def test_the_report_shows_the_runs_own_numbers(demo):
    folder, report, _ = demo
    page = report.read_text()
    assert "http" not in re.sub(r"http://www.w3.org\S+", "", page), "the page must stand alone"
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) >= 5
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    for arm in ARMS:
        tasks = json.loads((folder / "runs" / f"{arm}-seed0" / "eval-test" / "scores-strict.json").read_text())
        scores = {task["task"]: task["scores"][0] for task in tasks}
        assert {"transcription", "mood", "pitch_class", "instrument", "event", "choice"} <= set(scores)
        for score in scores.values():
            assert f"{score['value']:.3f} [{score['low']:.2f}, {score['high']:.2f}]" in page
            assert score["low"] <= score["value"] <= score["high"]


def test_every_trained_arm_had_the_same_data_steps_and_seed(demo):
    folder, _, _ = demo
    import yaml

    recipes = [
        yaml.safe_load((folder / "runs" / f"{arm}-seed0" / "recipe.yaml").read_text())
        for arm in ARMS
        if ARMS[arm].trained
    ]
    for key in ("backbone", "lora", "data", "training"):
        assert all(recipe[key] == recipes[0][key] for recipe in recipes), key
    steps = [[(stage["steps"], stage["learning_rate"]) for stage in recipe["stages"]] for recipe in recipes]
    assert all(each == steps[0] for each in steps)


def test_it_goes_on_from_the_last_finished_step(demo):
    folder, _, _ = demo
    gone = [folder / "runs" / "coat-seed0", folder / "report.html"]
    kept = [
        folder / "corpus" / "clips.jsonl",
        folder / "backbone" / "config.json",
        folder / "runs" / "sft-seed0" / "metrics.jsonl",
    ]
    before = json.loads((folder / "results.json").read_text())["scores"]
    times = [path.stat().st_mtime_ns for path in kept]
    shutil.rmtree(gone[0])
    gone[1].unlink()
    run_demo(folder, settings=SETTINGS, shipped=False, console=Console(quiet=True))
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert gone[1].is_file()
    assert json.loads((folder / "results.json").read_text())["scores"] == before, "the same seed gives the same scores"
