"""A mixture trained on, planned from the command line, and resumed in place."""

import json

import pytest
import yaml

from coat.config.recipe import parse_recipe
from coat.errors import CoatError
from coat.training.run import train
from tests.cli.test_errors import coat
from tests.training.test_run import recipe


@pytest.fixture
def mixed(tiny_path, manifest, tmp_path):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        if row.get("audios"):
            row["audios"] = [str(manifest.parent / name) for name in row["audios"]]
    parts = {"speech": rows[:7], "music": rows[7:10], "words": rows[10:]}
    for name, part in parts.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    raw = recipe(tiny_path, manifest).model_dump()
    groups = {
        "audio": {"share": 3, "sources": [str(tmp_path / f"{name}.jsonl") for name in ("speech", "music")]},
        "text": {"share": 1, "sources": [str(tmp_path / "words.jsonl")]},
    }
    raw["data"] = {"mixture": {"groups": groups, "cap": 3}}
    return raw


def test_a_run_draws_what_its_plan_says(mixed, tmp_path, monkeypatch):
    from coat.training.dataset import ManifestDataset

    seen = []
    real = ManifestDataset.__getitem__
    monkeypatch.setattr(ManifestDataset, "__getitem__", lambda self, index: seen.append(real(self, index)) or seen[-1])
    mixed["training"]["calibration_clips"] = 3
    train(parse_recipe(mixed), tmp_path / "run", say=lambda _: None)
    plans = json.loads((tmp_path / "run" / "run.json").read_text())["plans"]
    lines = {line["source"]: line for line in plans["one"]["lines"]}
    # 4 steps of 8: 8 of text were asked for, but two rows thrice are 6.
    assert {name: line["samples"] for name, line in lines.items()} == {"speech": 18, "music": 8, "words": 6}
    one = seen[3:][:32]  # after those of the calibration
    assert sum(not row.audios for row in one) == 6
    assert sum(row.id in ("a7", "a8", "a9") for row in one) == 8


def test_the_plan_is_a_table(mixed, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(mixed))
    result = coat("data", "plan", "recipe.yaml", "--out", "plan.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for part in ("speech", "words", "epochs", "Caps hold the stage to 36 of 48 rows"):
        assert part in " ".join(result.stdout.split()), result.stdout
    assert json.loads((tmp_path / "plan.json").read_text())["two"]["budget"] == 48


def test_a_recipe_has_one_source_of_rows(mixed):
    with pytest.raises(CoatError, match="either train or mixture"):
        parse_recipe(mixed | {"data": mixed["data"] | {"train": "x.jsonl"}})
    with pytest.raises(CoatError, match="either train or mixture"):
        parse_recipe(mixed | {"data": {}})
