import pytest
import yaml

from coat.config.reading import load_recipe
from coat.errors import CoatError
from tests.config.recipes import GOOD


def write(folder, raw, name="recipe.yaml"):
    path = folder / name
    path.write_text(yaml.safe_dump(raw))
    return path


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


def test_overrides_and_extends(tmp_path):
    write(tmp_path, {**GOOD, "lora": {"rank": 8, "alpha": 16}}, "base.yaml")
    child = write(tmp_path, {"extends": "base.yaml", "lora": {"rank": 4}})
    recipe = load_recipe(child, ["training.seed=3", "stages.1.learning_rate=2e-4", "thinking.stride=2"])
    assert (recipe.lora.rank, recipe.lora.alpha) == (4, 16)
    assert recipe.training.seed == 3
    assert recipe.stages[1].learning_rate == 2e-4
    assert recipe.thinking.stride == 2


def test_an_override_names_a_stage_by_its_place_or_its_name(tmp_path):
    path = write(tmp_path, GOOD)
    for override in ("stages.1.steps=7", "stages.experts.steps=7"):
        assert [stage.steps for stage in load_recipe(path, [override]).stages] == [10, 7]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed", r"a\.b=c"),
        ("=3", r"a\.b=c"),
        ("training..seed=3", r"a\.b=c"),
        ("stages.2.steps=3", r"no '2'; there is 0 \(warm-up\), 1 \(experts\)"),
        ("stages.-1.steps=3", "no '-1'"),
        ("stages.warm.steps=3", "no 'warm'"),
        ("stages.2=3", "no '2'"),
        ("data.ignore_fields.0=a", "there is nothing"),
        ("lora.rank=[1", r"lora.rank: \[1 is not YAML"),
        ("lora={rank: 1, rank: 2}", "'rank' is given twice"),
        ("lora.rank.r=1", "'rank' has no fields"),
    ],
)
def test_a_bad_override_says_what_is_wrong(tmp_path, override, message):
    data = {**GOOD["data"], "ignore_fields": []}
    path = write(tmp_path, {**GOOD, "lora": {"rank": 1}, "data": data})
    with pytest.raises(CoatError, match=message):
        load_recipe(path, [override])


def test_extends_names_one_other_recipe(tmp_path):
    write(tmp_path, {"extends": "b.yaml"}, "a.yaml")
    with pytest.raises(CoatError, match=r"a\.yaml extends itself, by way of .*b\.yaml"):
        load_recipe(write(tmp_path, {"extends": "a.yaml"}, "b.yaml").with_name("a.yaml"))
    with pytest.raises(CoatError, match="extends names one recipe"):
        load_recipe(write(tmp_path, {"extends": ["b.yaml"]}, "c.yaml"))


def test_missing_and_malformed_files(tmp_path):
    with pytest.raises(CoatError, match="no recipe at"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(CoatError, match="not YAML"):
        load_recipe(tmp_path / "bad.yaml")
