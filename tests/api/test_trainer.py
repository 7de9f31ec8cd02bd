"""Tune from Python: data sets train as manifests do."""

import json

import datasets
import pytest
import soundfile
import transformers

from coat import CoatError, CoatModel, CoatTrainer
from coat.files import read_jsonl
from coat.testing.checkpoints import random_backbone
from tests.training.test_run import losses, recipe


class Steps(transformers.TrainerCallback):
    def __init__(self):
        self.seen = 0

    def on_step_end(self, *args, **options):
        self.seen += 1


@pytest.fixture(scope="module")
def rows(manifest):
    """Those of the manifest that hold sound, with one question and answer each, as data sets of the hub have them."""
    return [
        {
            "audio": str(manifest.parent / row["audios"][0]),
            "question": row["messages"][0]["content"].removeprefix("<audio>"),
            "answer": row["messages"][1]["content"],
        }
        for row in read_jsonl(manifest)
        if row.get("audios")
    ]


def as_manifest(rows, folder):
    path = folder / "rows.jsonl"
    made = [
        {"audios": [row["audio"]], "messages": [
            {"role": "user", "content": "<audio>" + row["question"]}, {"role": "assistant", "content": row["answer"]}]}
        for row in rows
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_data_sets_give_the_losses_of_a_manifest(tiny_path, manifest, rows, tmp_path):
    asked, quiet = recipe(tiny_path, manifest), {"say": lambda _: None}
    table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    forms = {
        "manifest": as_manifest(rows, tmp_path),
        "table": table,
        "stream": table.to_iterable_dataset(),
        "rows": rows_of_samples(rows),
    }
    counted = Steps()
    for name, data in forms.items():
        trainer = CoatTrainer(
            asked, tmp_path / name, train_dataset=data, eval_dataset=data, callbacks=[counted], **quiet
        )  # fmt: skip
        assert trainer.recipe.data.eval_dataset
        model = trainer.train()
        assert model.thinking.enabled
    assert counted.seen == 4 * 10
    expected = losses(tmp_path / "manifest")
    for name in ("table", "stream", "rows"):
        assert losses(tmp_path / name) == expected, name


def rows_of_samples(rows):
    made = []
    for row in rows:
        samples, rate = soundfile.read(row["audio"], dtype="float32")
        made.append({**row, "audio": {"array": samples, "sampling_rate": rate}})
    return made


def test_a_finished_run_is_not_trained_again(tiny_path, manifest, rows, tmp_path):
    data = datasets.Dataset.from_list(rows[:4]).cast_column("audio", datasets.Audio())
    CoatTrainer(recipe(tiny_path, manifest), tmp_path / "run", train_dataset=data, say=lambda _: None).train()
    said, counted = [], Steps()
    CoatTrainer(
        recipe(tiny_path, manifest), tmp_path / "run", train_dataset=data, callbacks=[counted], say=said.append
    ).train()
    assert counted.seen == 0
    assert any("finished already" in line for line in said)


def test_rows_that_cannot_be_used_are_named(tiny_path, manifest, rows, tmp_path):
    bad = [*rows[:2], {**rows[2], "audio": {"bytes": b"no sound", "path": "x.wav"}}]
    trainer = CoatTrainer(recipe(tiny_path, manifest), tmp_path / "run", train_dataset=bad, say=lambda _: None)
    for _ in range(2):  # the second start does not train without them either
        with pytest.raises(CoatError, match="1 rows of train_dataset"):
            trainer.train()
    CoatTrainer(recipe(tiny_path, manifest), tmp_path / "run", train_dataset=bad[:2], say=lambda _: None).train()
    split = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)})
    with pytest.raises(CoatError, match=r"dataset\['train'\]"):
        CoatTrainer(recipe(tiny_path, manifest), tmp_path / "other", train_dataset=split)


def test_other_data_in_the_folder_of_a_run_is_refused(tiny_path, manifest, rows, tmp_path):
    """What is there already would be trained on without a word."""
    asked, out = recipe(tiny_path, manifest), tmp_path / "run"
    CoatTrainer(asked, out, train_dataset=rows[:4], say=lambda _: None).train()
    for other in (rows[4:8], rows[:5], [{**rows[0], "answer": "another"}, *rows[1:4]]):
        with pytest.raises(CoatError, match="another train_dataset"):
            CoatTrainer(asked, out, train_dataset=other).train()
    with pytest.raises(CoatError, match="other columns"):
        CoatTrainer(asked, out, train_dataset=rows[:4], question="What is said?").train()


def test_nothing_is_written_for_a_recipe_that_is_wrong(tiny_path, manifest, rows, tmp_path):
    wrong = recipe(tiny_path, manifest).model_dump() | {"sedd": 1}
    with pytest.raises(CoatError, match="sedd"):
        CoatTrainer(wrong, tmp_path / "run", train_dataset=rows)
    assert not (tmp_path / "run").exists()


def test_a_generator_is_refused(tiny_path, manifest, rows, tmp_path):
    with pytest.raises(CoatError, match="once"):
        CoatTrainer(recipe(tiny_path, manifest), tmp_path / "run", train_dataset=iter(rows))


def test_one_recipe_trains_any_model(tiny_path, manifest, tmp_path):
    asked = recipe(tiny_path, manifest).model_dump() | {"backbone": {"path": "Qwen/Qwen2-Audio-7B-Instruct"}}
    random_backbone("music_flamingo", tmp_path / "other")
    forms = {
        str(tiny_path): ("qwen2_audio", str(tiny_path)),
        "miniature": ("qwen2_audio", "miniature"),
        CoatModel.from_pretrained(tmp_path / "other"): ("music_flamingo", str(tmp_path / "other")),
    }
    for model, expected in forms.items():
        backbone = CoatTrainer(asked, tmp_path / "run", model=model).recipe.backbone
        assert (backbone.family, backbone.path) == expected
    asked["backbone"] = {"path": "x", "load_in_4bit": True}
    assert CoatTrainer(asked, tmp_path / "run", model=tiny_path).recipe.backbone.load_in_4bit


def test_a_run_and_its_export_are_trained_on_from_where_they_are(tiny_path, manifest, tmp_path):
    asked = recipe(tiny_path, manifest)
    run = CoatTrainer(asked, tmp_path / "run").train()
    run.save_pretrained(tmp_path / "export")
    run.save_pretrained(tmp_path / "adapter", adapter_only=True)
    begun = {}
    for name, model in {
        "anew": tiny_path,
        "run": run,
        "export": tmp_path / "export",
        "adapter": tmp_path / "adapter",
    }.items():
        trainer = CoatTrainer(asked, tmp_path / f"on-{name}", model=model)
        trainer.train()
        begun[name] = losses(tmp_path / f"on-{name}")["one", 1]["loss/ce"]
    assert begun["run"] == pytest.approx(begun["export"], rel=1e-4)
    assert begun["run"] == pytest.approx(begun["adapter"], rel=1e-4)
    assert begun["run"] < begun["anew"] - 0.01


def test_a_model_of_no_checkpoint_is_refused(tiny_path, manifest, tmp_path):
    made = CoatModel(CoatModel.from_pretrained(tiny_path).model)
    with pytest.raises(CoatError, match="loaded from no checkpoint"):
        CoatTrainer(recipe(tiny_path, manifest), tmp_path / "run", model=made)
