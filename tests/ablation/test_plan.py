import json
import re
import shutil
from pathlib import Path
from typing import get_type_hints

import pytest

from coat.ablation.arms import GROUPS, arms_of, changed, fitted
from coat.ablation.plan import Plan, run_plan
from coat.ablation.results import collect, read_ablation
from coat.ablation.side_by_side import steps_done, work_of
from coat.cli.ablate import ablate
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.reports.ablation import write_ablation_page

STAGES = [
    {"name": "warm-up", "steps": 2, "learning_rate": 0.01, "experts": {"audio_reconstruction": "auto"}},
    {"name": "experts", "steps": 4, "learning_rate": 0.01,
     "experts": {"audio_reconstruction": "auto", "standin_affect": "auto"}},
]  # fmt: skip


@pytest.fixture
def recipe(tiny_path, manifest):
    return parse_recipe(
        {
            "backbone": {"family": "qwen2_audio", "path": str(tiny_path)},
            "heads": {"num_heads": 2},
            "lora": {"rank": 4, "alpha": 8},
            "stages": STAGES,
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 4, "micro_batch_size": 4, "precision": "fp32", "logging_steps": 1},
        }
    )


def test_the_ladder_adds_one_thing_at_a_time(recipe):
    arms = {arm.name: arm for arm in arms_of(recipe, ["ladder"])}
    assert list(arms) == ["baseline", "sft", "block", "representational", "full"]
    assert [arms[name].against for name in arms] == ["baseline", "baseline", "sft", "block", "representational"]
    assert arms["baseline"].recipe is None
    assert not arms["sft"].recipe.thinking.enabled
    assert arms["block"].recipe.thinking.enabled
    assert arms["block"].recipe.active_experts() == arms["sft"].recipe.active_experts() == []
    assert arms["representational"].recipe.active_experts() == ["audio_reconstruction"]
    assert arms["full"].recipe == recipe
    for arm in arms.values():
        if arm.recipe:
            assert [(s.steps, s.learning_rate) for s in arm.recipe.stages] == [(2, 0.01), (4, 0.01)]
            assert arm.recipe.training == recipe.training
            assert arm.recipe.data == recipe.data


def test_other_groups_change_what_they_say(recipe):
    arms = {arm.name: arm for arm in arms_of(recipe, list(GROUPS))}
    assert arms["linear-heads"].recipe.heads.kind == "linear"
    assert arms["before_assistant"].recipe.thinking.placement == "before_assistant"
    assert [arms[f"stride-{s}"].recipe.thinking.stride for s in (2, 4)] == [2, 4]
    assert arms["without-standin_affect"].recipe.active_experts() == ["audio_reconstruction"]
    assert set(arms["equal-weights"].recipe.stages[1].experts.values()) == {1.0}
    assert [arms[f"weights-x{s}"].recipe.stages[1].expert_scale for s in (0.25, 4)] == [0.25, 4]
    faster = arms["sft-rate-x2"]
    assert [s.learning_rate for s in faster.recipe.stages] == [0.02, 0.02]
    assert (faster.against, faster.recipe.thinking.enabled) == ("sft", False)
    assert arms["full-rate-x0.5"].recipe.stages[0].learning_rate == 0.005
    assert (arms["full-rank-1"].recipe.lora.rank, arms["full-rank-16"].recipe.lora.alpha) == (1, 32)
    assert (arms["sft-rank-16"].recipe.lora.rank, arms["sft-rank-16"].recipe.thinking.enabled) == (16, False)
    assert [s.steps for s in arms["sft-steps-x2"].recipe.stages] == [4, 8]
    assert [s.steps for s in arms["full-steps-x4"].recipe.stages] == [8, 16]
    assert [s.steps for s in arms["one-stage"].recipe.stages] == [6]
    assert arms["random-block"].recipe.thinking.fill == "random"
    assert arms["random-block"].against == "block"
    assert [arms[name].recipe.thinking.positions for name in ("block-at-audio", "full-at-audio")] == ["audio"] * 2
    assert arms["audio-block"].recipe.active_experts() == []
    assert arms["audio-fill"].recipe.active_experts() == recipe.active_experts()
    mixed = arms["mixed-audio-fill"]
    assert (mixed.recipe.thinking.fill, mixed.recipe.thinking.mixed, mixed.against) == (
        "audio", arms["mixed"].recipe.thinking.mixed, "mixed",
    )  # fmt: skip
    assert [(arm.name, arm.against) for arm in arms_of(recipe, ["sft", "full"])] == [("sft", "sft"), ("full", "sft")]
    assert [arm.name for arm in arms_of(recipe, ["sft"])] == ["sft"], "nothing is compared with CoAT"
    assert [arm.name for arm in arms_of(recipe, ["stride-2"])] == ["full", "stride-2"]
    names = [arm.name for arm in arms_of(recipe, ["stride-4", "fill"])]
    assert names == ["block", "full", "stride-4", "random-block", "audio-block", "audio-fill"]
    with pytest.raises(CoatError, match="Did you mean 'ladder'"):
        arms_of(recipe, ["lader"])


def test_docs_and_help_name_every_group():
    page = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text()
    (option,) = get_type_hints(ablate, include_extras=True)["arms"].__metadata__
    for group in GROUPS:
        assert f"`{group}`" in page, group
        assert re.search(rf"\b{group}\b", option.help), group


def test_a_budget_shortens_all_arms_alike(recipe):
    for arm in fitted(arms_of(recipe, ["ladder"]), 0.5):
        if arm.recipe:
            assert [stage.steps for stage in arm.recipe.stages] == [1, 2]
    assert fitted(arms_of(recipe, ["ladder"]), 2.0) == arms_of(recipe, ["ladder"])


@pytest.mark.slow
def test_arms_are_trained_asked_and_compared_and_resume(recipe, manifest, tmp_path):
    tasks = tmp_path / "test.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines() if "audios" in line][:4]
    for row in rows:
        row["audios"] = [str(manifest.parent / name) for name in row["audios"]]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arms = [arm for arm in arms_of(recipe, ["ladder"]) if arm.name in ("baseline", "sft", "full")]
    plan = Plan(tmp_path / "out", arms, (0, 1), [str(tasks)], max_new_tokens=4)
    with pytest.raises(CoatError, match="5 runs are not done"):
        collect(plan)
    done = []
    run_plan(plan, recipe, progress=done.append)
    assert len(done) == 5
    assert not plan.jobs()
    found = collect(plan)
    assert read_ablation(plan.folder) == found
    assert len(found.scores["full"]["transcription"]) == 2
    assert len(found.scores["baseline"]["transcription"]) == 1
    again = []
    (plan.folder / "sft-seed1" / "eval" / "scores-strict.json").unlink()
    shutil.rmtree(plan.folder / "full-seed0")
    watched = []
    run_plan(plan, recipe, workers=2, progress=again.append, watch=lambda *now: watched.append(now))
    assert sorted(again) == [str(plan.folder / name) for name in ("full-seed0", "sft-seed1")]
    assert ("CoAT, seed 0", 6, 6, "done") in watched
    assert ("fine-tuning alone, seed 1", 6, 6, "done") in watched
    assert all(0 <= steps <= total for _, steps, total, _ in watched)
    assert "Done. Try it" in (plan.folder / "logs" / "full-seed0.log").read_text()
    assert collect(plan) == found, "the same seed gives the same scores"
    page = write_ablation_page(found, plan.folder, recipe.dump()).read_text()
    assert "fine-tuning alone" in page
    assert "transcription (wer), n = 4" in page
    assert "All seeds train on the same rows." in page


def test_the_steps_of_a_run_are_read_while_it_writes_them(recipe, tmp_path):
    """It is another process's file: what is not a whole line yet is left as it is, and counts later."""
    (arm,) = (arm for arm in arms_of(recipe, ["ladder"]) if arm.name == "full")
    assert steps_done(tmp_path, arm) == 0
    path = tmp_path / "metrics.jsonl"
    first, second = '{"stage": "warm-up", "step": 2}\n', '{"stage": "experts", "step": 3}\n'
    for lines, steps in ((first[:20], 0), (first, 2), (first + second + second[:9], 5)):
        path.write_text(lines)
        assert steps_done(tmp_path, arm) == steps
        assert path.read_text() == lines


def test_changed_recipes_are_checked(recipe):
    with pytest.raises(CoatError, match="stride"):
        changed(recipe, "thinking.stride", 0)


@pytest.mark.slow
def test_arms_run_on_a_cluster_and_a_budget_is_fitted(recipe, manifest, tmp_path, ray_cluster):
    from coat.cli.ablate import _share, seconds_of

    tasks = tmp_path / "test.jsonl"
    row = json.loads(manifest.read_text().splitlines()[0])
    row["audios"] = [str(manifest.parent / name) for name in row["audios"]]
    tasks.write_text(json.dumps(row) + "\n")
    arms = [arm for arm in arms_of(recipe, ["ladder"]) if arm.name in ("baseline", "sft")]
    plan = Plan(tmp_path / "out", arms, (0,), [str(tasks)], max_new_tokens=2)
    assert _share(plan, recipe, seconds_of("2h"), 1) == 1.0
    assert _share(plan, recipe, 0.0, 1) == 0.0
    done = []
    run_plan(plan, recipe, workers=2, ray="local", progress=done.append)
    assert sorted(done) == [str(plan.folder / "baseline"), str(plan.folder / "sft-seed0")]
    assert not plan.jobs()


def test_arms_with_more_to_compute_come_first(recipe):
    """Side by side, the longest begins first, so that no core is left alone with it at the end."""
    arms = {arm.name: work_of(arm) for arm in arms_of(recipe, ["ladder", "steps"])}
    assert arms["baseline"] == 0 < arms["sft"] < arms["block"] < arms["full"] < arms["full-steps-x2"]
