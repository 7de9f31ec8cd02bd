"""A folder of an ablation is one plan's: results of another recipe, or to other questions, are not taken over."""

import json
from dataclasses import replace

import pytest

from coat.ablation.arms import arms_of
from coat.ablation.claim import claim, share_of_steps
from coat.ablation.plan import Plan
from coat.config.reading import parse_recipe
from coat.errors import CoatError

RAW = {
    "stages": [{"name": "experts", "steps": 4, "experts": {"basic_pitch": "auto"}}],
    "data": {"train_dataset": "rows-{seed}.jsonl"},
}


@pytest.fixture
def plan(tmp_path):
    tasks = tmp_path / "test.jsonl"
    tasks.write_text("{}\n")
    arms = arms_of(parse_recipe(RAW), ["ladder"])
    return Plan(tmp_path / "out", arms, (0, 1), [str(tasks)], limit=150)


def keep(plan, name, recipe):
    folder = plan.folder / name
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.dump())


def test_a_folder_is_claimed_again_by_its_own_plan(plan):
    for arm, seed in plan.all_jobs():
        if arm.recipe is not None:
            keep(plan, f"{arm.name}-seed{seed}", arm.recipe.seeded(seed))
    claim(plan)
    claim(plan)
    claim(replace(plan, arms=plan.arms[:2], seeds=(1,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"train_dataset": "rows-0.jsonl"}}, r"full-seed1 holds(.|\n)*'rows-0.jsonl', now 'rows-1.jsonl'"),
        ({"thinking": {"stride": 2}}, r"full-seed1 holds(.|\n)*thinking.stride: 2, now 1"),
        ({"stages": [{**RAW["stages"][0], "steps": 3}]}, r"full-seed1 holds(.|\n)*stages\[0\].steps: 3, now 4"),
    ],
)
def test_a_run_of_another_recipe_is_not_taken_for_the_arms(plan, change, message):
    keep(plan, "full-seed1", parse_recipe({**RAW, **change}).seeded(1))
    with pytest.raises(CoatError, match=message):
        claim(plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 20}, "limit: 150, now 20"),
        ({"tasks": ["mmau"]}, "tasks: .*test.jsonl.*, now .'mmau'"),
        ({"max_new_tokens": 8}, "max_new_tokens: 64, now 8"),
        ({"data": "sample"}, "data: None, now 'sample'"),
    ],
)
def test_answers_to_other_questions_are_not_taken_over(plan, change, message):
    claim(plan)
    with pytest.raises(CoatError, match=rf"answers to other questions(.|\n)*{message}"):
        claim(replace(plan, **change))


def test_rows_that_were_corrected_are_other_questions(plan, tmp_path):
    claim(plan)
    (tmp_path / "test.jsonl").write_text('{"corrected": 1}\n')
    with pytest.raises(CoatError, match="manifests"):
        claim(plan)


def test_a_budget_is_measured_once(tmp_path):
    measured = iter((0.5, 0.7))
    assert share_of_steps(tmp_path, "8h", lambda: next(measured)) == 0.5
    assert share_of_steps(tmp_path, "8h", lambda: next(measured)) == 0.5, "a new start goes on with the same steps"
    assert share_of_steps(tmp_path, "9h", lambda: next(measured)) == 0.7
    assert json.loads((tmp_path / "budget.json").read_text()) == {"budget": "9h", "share": 0.7}
