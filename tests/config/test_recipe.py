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
