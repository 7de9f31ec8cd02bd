"""A mixture trained on, planned from the command line, and resumed in place."""

import json

import pytest
import yaml

from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.training.corpus import open_corpus, unique_names
from coat.training.run import train
from tests.cli.command import coat
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
    mixed["stages"][1]["steps"] = 4
    train(parse_recipe(mixed), tmp_path / "run", say=lambda _: None)
    plans = json.loads((tmp_path / "run" / "run.json").read_text())["plans"]
    lines = {line["source"]: line for line in plans["one"]["lines"]}
    # 4 steps of 8: 8 of text were asked for, but two rows thrice are 6.
    assert {name: line["samples"] for name, line in lines.items()} == {"speech": 18, "music": 8, "words": 6}
    one = seen[3:][:32]  # after those of the calibration
    assert sum(not row.audios for row in one) == 6
    assert sum(row.id in ("a7", "a8", "a9") for row in one) == 8


def test_a_cap_that_holds_a_stage_below_its_rows_stops_before_anything_is_loaded(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("coat.training.run.build_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(CoatError, match="cap holds stage two to 36 of 48 rows"):
        train(parse_recipe(mixed), tmp_path / "run", say=lambda _: None)


def test_sources_of_one_name_are_two(mixed, tmp_path):
    """``librispeech/asr.jsonl`` and ``gigaspeech/asr.jsonl``: half of what is drawn is of each."""
    groups = mixed["data"]["mixture"]["groups"]
    paths = []
    for corpus, name in (("librispeech", "speech"), ("gigaspeech", "music")):
        (tmp_path / corpus).mkdir()
        paths.append(str((tmp_path / f"{name}.jsonl").rename(tmp_path / corpus / "asr.jsonl")))
    groups["audio"]["sources"] = paths[:1]
    groups["text"] = {"share": 3, "sources": paths[1:]}
    mixed["data"]["mixture"]["cap"] = 40
    opened = open_corpus(parse_recipe(mixed).data, 30.0)
    assert [pool.source for pool in opened.pools] == ["librispeech/asr", "gigaspeech/asr"]
    drawn = opened.draw(parse_recipe(mixed), 1).at(0, 48)
    assert (drawn < 7).sum() == 24


def test_names_tell_sources_apart():
    assert unique_names(["a/x.jsonl", "b/y.jsonl"]) == ["x", "y"]
    assert unique_names(["/d/a/asr.jsonl", "/d/b/asr.jsonl", "/d/b/music.jsonl"]) == ["a/asr", "b/asr", "music"]
    assert unique_names(["/d/a/train.jsonl", "/e/a/train.jsonl"]) == ["d/a/train", "e/a/train"]
    assert unique_names(["/d/a/train.jsonl"]) == ["a/train"]


def test_calibration_hears_groups_by_their_shares(mixed, tmp_path):
    """A group with half of the share and a tenth of the rows is half of what means and weights are measured on."""
    groups = mixed["data"]["mixture"]["groups"]
    rows = [json.loads(line) for name in ("speech", "music") for line in (tmp_path / f"{name}.jsonl").open()]
    copies = [{**row, "id": f"{row['id']}-{n}"} for n in range(12) for row in rows[:9]]
    (tmp_path / "speech.jsonl").write_text("".join(json.dumps(row) + "\n" for row in copies))
    (tmp_path / "music.jsonl").write_text(json.dumps({**rows[9], "id": "rare"}) + "\n")
    groups["audio"] = {"share": 1, "sources": [str(tmp_path / "speech.jsonl")]}
    groups["text"] = {"share": 1, "sources": [str(tmp_path / "music.jsonl")]}
    mixed["data"]["mixture"]["cap"] = 100
    mixed["training"]["calibration_clips"] = 64
    asked = parse_recipe(mixed)
    opened = open_corpus(asked.data, 30.0)
    places = opened.calibration(asked)
    assert len(places) == 64
    assert 16 <= sum(opened.rows[place].id == "rare" for place in places) <= 48


def test_stages_of_a_plain_manifest_go_on_where_the_last_stopped(tiny_path, manifest):
    asked = recipe(tiny_path, manifest)  # stages of 32 and 48 rows
    opened = open_corpus(asked.data, 30.0)
    drawn = [*opened.draw(asked, 0).at(0, 32), *opened.draw(asked, 1).at(0, 48)]
    counts = [drawn.count(place) for place in range(len(opened.rows))]
    assert max(counts) - min(counts) <= 1


def test_the_plan_is_a_table(mixed, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(mixed))
    result = coat("data", "plan", "recipe.yaml", "--out", "plan.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for part in ("speech", "words", "epochs", "Caps hold the stage to 36 of 48 rows"):
        assert part in " ".join(result.stdout.split()), result.stdout
    assert json.loads((tmp_path / "plan.json").read_text())["two"]["budget"] == 48


def test_a_recipe_has_one_source_of_rows(mixed):
    with pytest.raises(CoatError, match="either train_dataset or mixture"):
        parse_recipe(mixed | {"data": mixed["data"] | {"train_dataset": "x.jsonl"}})
    with pytest.raises(CoatError, match="either train_dataset or mixture"):
        parse_recipe(mixed | {"data": {}})
