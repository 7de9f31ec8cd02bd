"""The experiments beyond the paper, end to end on a few clips."""

import json
import shutil

import pytest
import yaml

from experiments import later_turns, learning_curve, thinking_budget

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(corpus, tiny_path, tmp_path_factory):
    """A folder with a corpus, and a recipe of a few steps."""
    folder = tmp_path_factory.mktemp("experiments")
    shutil.copytree(corpus, folder / "corpus")  # experiments write manifests beside the clips, which others compare
    stage = {"steps": 2, "learning_rate": 1e-3, "experts": {"audio_reconstruction": "auto"}}
    recipe = {
        "backbone": {"family": "qwen2_audio", "path": str(tiny_path)},
        "heads": {"num_heads": 2},
        "lora": {"rank": 2, "alpha": 4},
        "stages": [{"name": "warm-up", **stage}, {"name": "experts", **stage}],
        "data": {"train_dataset": "later"},
        "training": {"batch_size": 4, "micro_batch_size": 4, "precision": "fp32", "workers": 0},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def options(world, name, *more):
    common = ["--world", str(world), "--recipe", str(world / "recipe.yaml"), "--out", str(world / name)]
    return [*common, "--seeds", "1", "--limit", "2", *more]


def test_the_learning_curve_and_fewer_think_tokens(world):
    learning_curve.main(options(world, "curve", "--counts", "3", "all"))
    assert "3 labels" in (world / "curve" / "curve.md").read_text()
    assert (world / "curve" / "curve.html").read_text().count("data:image/png") == 1
    # the same runs, asked with fewer think tokens
    for arm, run in (("sft", "sft"), ("full", "full"), ("mixed", "full")):
        (world / "curve" / f"{arm}-seed0").symlink_to(world / "curve" / f"{run}-all-seed0")
    out = world / "budget"
    given = [
        "--runs",
        str(world / "curve"),
        "--trained",
        str(world / "curve"),
        "--out",
        str(out),
        "--seeds",
        "1",
        "--limit",
        "2",
    ]
    thinking_budget.main([*given, "--tasks", str(world / "corpus" / "test.jsonl")])
    lengths = json.loads((out / "lengths.json").read_text())
    assert lengths["sft"] == lengths["no-block"] == 0
    assert lengths["most-4"] <= 4
    assert lengths["mixed-none"] == 0 < lengths["mixed-4"] < lengths["mixed-2"] < lengths["mixed-1"] == lengths["full"]
    assert lengths["most-4"] < lengths["most-16"] < lengths["full"]
    assert lengths["most-4"] < lengths["most-32"] <= lengths["full"]
    before = (out / "most-4-seed0" / "scores-strict.json").stat().st_mtime_ns
    thinking_budget.main([*given, "--tasks", str(world / "corpus" / "test.jsonl")])
    assert (out / "most-4-seed0" / "scores-strict.json").stat().st_mtime_ns == before, "what is done is not done again"


def test_later_turns(world):
    later_turns.main(options(world, "turns", "--labels", "3"))
    found = json.loads((world / "turns" / "ablation.json").read_text())
    assert list(found["arms"]) == ["sft-first", "sft-second", "first", "kept", "out", "moved", "twice"]
    answers = {
        where: (world / "turns" / "full-seed0" / f"eval-{where}" / "predictions.jsonl").read_text().splitlines()
        for where in later_turns.WHERE
    }
    think = {where: sum(json.loads(line)["think_tokens"] for line in lines) for where, lines in answers.items()}
    assert think["out"] == 0 < think["kept"] == think["moved"]
    assert think["twice"] == 2 * think["kept"]
