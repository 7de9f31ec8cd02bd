import pytest
import yaml

from coat.config.recipe import load_recipe, parse_recipe
from coat.errors import CoatError

GOOD = {
    "stages": [
        {"name": "warm-up", "steps": 10, "experts": {"audio_reconstruction": "auto"}},
        {"name": "experts", "steps": 20, "experts": {"audio_reconstruction": 1.0, "basic_pitch": "auto"}},
    ],
    "data": {"train_dataset": "train.jsonl"},
}


def write(folder, raw, name="recipe.yaml"):
    path = folder / name
    path.write_text(yaml.safe_dump(raw))
    return path


def test_a_recipe_survives_its_own_dump():
    recipe = parse_recipe(GOOD)
    assert parse_recipe(yaml.safe_load(recipe.dump())) == recipe
    assert recipe.active_experts() == ["audio_reconstruction", "basic_pitch"]


def test_everything_wrong_is_said_at_once(tmp_path):
    raw = {
        **GOOD,
        "thinkin": {},
        "thinking": {"strid": 2, "placement": "nowhere"},
        "lora": {"rank": 0, "alhpa": 3},
        "training": {"batch_size": 6, "micro_batch_size": 4, "precision": "fp16"},
        "stages": [{"name": "one", "stpes": 3}],
    }
    with pytest.raises(CoatError) as caught:
        load_recipe(write(tmp_path, raw))
    text = str(caught.value)
    for expected in (
        "thinkin: there is no such field. Did you mean 'thinking'?",
        "thinking.strid: there is no such field. Did you mean 'stride'?",
        "thinking.placement",
        "lora.alhpa: there is no such field. Did you mean 'alpha'?",
        "lora.rank",
        "greater than or equal to 1",
        "training.precision",
        "'auto', 'fp32' or 'bf16'",
        "stages.0.steps: this field is required",
        "stages.0.stpes: there is no such field. Did you mean 'steps'?",
    ):
        assert expected in text, text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thinking": {"enabled": False}}, "nothing to supervise"),
        ({"stages": [{"name": "a", "steps": 1}, {"name": "a", "steps": 1}]}, "names must differ"),
        ({"stages": [{"name": "a", "steps": 1, "experts": {"basic_pitch": -1}}]}, "must be positive"),
        ({"stages": [{"name": "a", "steps": "many"}]}, "stages.0.steps"),
        ({"stages": []}, "stages"),
    ],
)
def test_impossible_values_are_named(change, message):
    with pytest.raises(CoatError, match=message):
        parse_recipe({**GOOD, **change})


def test_overrides_and_extends(tmp_path):
    write(tmp_path, {**GOOD, "lora": {"rank": 8, "alpha": 16}}, "base.yaml")
    child = write(tmp_path, {"extends": "base.yaml", "lora": {"rank": 4}})
    recipe = load_recipe(child, ["training.seed=3", "stages.1.learning_rate=2e-4", "thinking.stride=2"])
    assert (recipe.lora.rank, recipe.lora.alpha) == (4, 16)
    assert recipe.training.seed == 3
    assert recipe.stages[1].learning_rate == 2e-4
    assert recipe.thinking.stride == 2


def test_a_bad_override_says_its_form(tmp_path):
    with pytest.raises(CoatError, match=r"a\.b=c"):
        load_recipe(write(tmp_path, GOOD), ["training.seed"])


def test_missing_and_malformed_files(tmp_path):
    with pytest.raises(CoatError, match="no recipe at"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(CoatError, match="not YAML"):
        load_recipe(tmp_path / "bad.yaml")
