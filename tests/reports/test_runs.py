import json

import pytest

from coat.errors import CoatError
from coat.reports.runs import differences, find_runs, read_run
from tests.cli.command import coat

LINES = [
    {"stage": "one", "step": 1, "loss": 5.0, "loss/ce": 4.0, "loss/spidr": 1.0},
    {"stage": "two", "step": 3, "loss": 2.5, "loss/ce": 2.0},
]


@pytest.fixture
def runs(tmp_path):
    for name, rank in (("a", 8), ("b", 16)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        stages = [{"name": "one", "steps": 2}, {"name": "two", "steps": 4}]
        (folder / "recipe.yaml").write_text(
            json.dumps({"backbone": {"family": "qwen2_audio"}, "lora": {"rank": rank}, "stages": stages})
        )
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    held = [{"stage": "two", "step": step, "ce": ce} for step, ce in ((2, 3.0), (3, 2.5), (4, 2.75))]
    (tmp_path / "runs/b/held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in held))
    (tmp_path / "runs/b/finished.json").write_text("{}")
    return tmp_path


def test_a_folder_tells_how_far_a_run_is(runs):
    first, second = find_runs(runs / "runs")
    assert (first.stage, first.step, first.steps, first.finished) == ("two", 3, 4, False)
    assert first.losses == {"loss": 2.5, "ce": 2.0, "spidr": 1.0}
    assert first.held_out is None
    assert second.held_out == (2.5, 3)
    assert second.finished
    assert [run.folder.name for run in find_runs(runs / "runs" / "a")] == ["a"]
    assert differences([first, second]) == {"lora.rank": ["8", "16"]}
    with pytest.raises(CoatError, match="no run"):
        read_run(runs)


def test_from_the_command_line(runs):
    listed = coat("runs", "list", cwd=runs)
    assert "3 of 4" in listed.stdout, listed.stderr
    assert "2.5000" in listed.stdout
    compared = coat("runs", "compare", "runs/a", "runs/b", cwd=runs).stdout
    assert "lora.rank" in compared
    assert coat("runs", "plot", "runs/a", "runs/b", cwd=runs).returncode == 0
    assert (runs / "runs.png").read_bytes().startswith(b"\x89PNG")
