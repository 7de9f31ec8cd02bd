"""``backbone: miniature``: the way of one's own recordings on a laptop."""

import pytest

from coat.checkpoints import load_model
from coat.checkpoints.references import run_in
from coat.config.reading import load_recipe, parse_recipe
from coat.errors import CoatError
from coat.hub import shipped_folder
from coat.training.run import train

RECIPE = "recipes/laptop.yaml"


def test_the_laptop_recipe_trains_and_the_run_finds_its_base_from_anywhere(manifest, tmp_path, monkeypatch):
    sizes = ["stages.0.steps=1", "training.batch_size=2", "training.micro_batch_size=2"]
    sets = [f"data.train_dataset={manifest}", f"data.cache={tmp_path / 'features'}", *sizes]
    run = train(load_recipe(RECIPE, sets), tmp_path / "run", say=lambda _: None)
    monkeypatch.chdir(tmp_path)
    assert run_in(run).base == str(shipped_folder() / "backbone")
    assert set(load_model(run, heads=True).heads) == {"audio_reconstruction", "basic_pitch"}


def test_another_name_is_told_where_it_goes():
    with pytest.raises(CoatError, match="path: Qwen/Qwen2-Audio-7B-Instruct"):
        parse_recipe({"backbone": "Qwen/Qwen2-Audio-7B-Instruct", "stages": [], "data": {"train_dataset": "a"}})


def test_pocket_is_a_backbone_by_its_name():
    recipe = load_recipe(RECIPE, ["backbone=pocket"])
    assert (recipe.backbone.family, recipe.backbone.path) == ("qwen2_audio", "pocket")
