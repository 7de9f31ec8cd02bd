import pytest
import yaml

from coat.config.reading import parse_recipe
from coat.errors import CoatError
from tests.config.recipes import GOOD


def test_a_recipe_survives_its_own_dump():
    recipe = parse_recipe(GOOD)
    assert parse_recipe(yaml.safe_load(recipe.dump())) == recipe
    assert recipe.active_experts() == ["audio_reconstruction", "basic_pitch"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thinking": {"enabled": False}}, "nothing to supervise"),
        ({"stages": [{"name": "a", "steps": 1}, {"name": "a", "steps": 1}]}, "names must differ"),
        ({"stages": [{"name": "a", "steps": 1, "experts": {"basic_pitch": -1}}]}, "must be positive"),
        ({"stages": [{"name": "a", "steps": "many"}]}, "stages.0.steps"),
        ({"stages": []}, "stages"),
        ({"stages": [{"name": "a", "steps": 1, "learning_rate": float("inf")}]}, "finite number"),
        ({"lora": {"dropout": float("nan")}}, "lora.dropout"),
    ],
)
def test_impossible_values_are_named(change, message):
    with pytest.raises(CoatError, match=message):
        parse_recipe({**GOOD, **change})


def test_a_seed_may_have_rows_and_a_start_of_its_own():
    groups = {"speech": {"share": 1.0, "sources": ["a-{seed}.jsonl", "b.jsonl"]}}
    data = {"mixture": {"groups": groups}, "eval_dataset": "dev-{seed}.jsonl", "cache": "features"}
    recipe = parse_recipe({**GOOD, "data": data, "start_from": "runs/before-seed{seed}", "training": {"seed": 7}})
    for seeded, seed in ((recipe.seeded(3), 3), (recipe.seeded(), 7), (recipe.seeded(3).seeded(), 3)):
        assert seeded.training.seed == seed
        assert seeded.data.manifests() == [f"a-{seed}.jsonl", "b.jsonl"]
        assert seeded.data.eval_dataset == f"dev-{seed}.jsonl"
        assert seeded.start_from == f"runs/before-seed{seed}"
    assert recipe.seeded(3).differs_from(recipe.seeded(3)) == []
    plain = parse_recipe(GOOD)
    assert plain.seeded() == plain
