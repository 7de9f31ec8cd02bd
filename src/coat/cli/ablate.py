"""``coat ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coat.errors import CoatError

if TYPE_CHECKING:
    from coat.ablation.plan import Plan
    from coat.config.recipe import Recipe


def ablate(
    recipe: Annotated[Path, typer.Argument(help="The full method's recipe.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of all arms.")],
    tasks: Annotated[list[str] | None, typer.Option("--tasks", help="As for coat eval run.")] = None,
    arms: Annotated[
        str,
        typer.Option(
            "--arms",
            help="Groups: ladder (Table 4), heads (Table 5), placement, stride, experts (leave one out), weights, "
            "lora, stages, steps, rate (learning rates), fill (of the block), positions (of think tokens), mixed "
            "(strides); or all. Single arms by name.",
        ),
    ] = "ladder",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each arm.")] = 3,
    sets: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE over the recipe.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="As for coat eval run.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Items a task.")] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer to a manifest's question, in tokens.")
    ] = 64,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes side by side.")] = 1,
    ray: Annotated[str | None, typer.Option("--ray", help="Address of a Ray cluster, or 'local'.")] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Such as 90m or 8h: all arms are shortened alike to fit.")
    ] = None,
) -> None:
    """Run an ablation: train variants of a recipe, evaluate them on the same questions, and compare over seeds.

    Stopped and started again, it goes on. Ends in ablation.html, ablation.md and ablation.json.

    coat ablate recipes/small-world.yaml --tasks runs/demo/corpus/test.jsonl --out runs/ladder
    """
    if not tasks:
        raise CoatError("Missing option: --tasks.", "coat eval list shows tasks; or --tasks my-test.jsonl")
    from coat.cli.options import split
    from coat.cli.quiet import quiet

    quiet()
    from rich.console import Console

    from coat.ablation.arms import GROUPS, arms_of, fitted
    from coat.ablation.claim import claim, share_of_steps
    from coat.ablation.plan import Plan, run_plan
    from coat.ablation.results import collect
    from coat.ablation.side_by_side import compute_features
    from coat.config.reading import load_recipe
    from coat.reports.ablation import change_table, write_ablation_page
    from coat.reports.terminal import terminal_table
    from coat.training.progress import bar_for, make_progress, watch_for

    full = load_recipe(recipe, sets or [])
    groups = list(GROUPS) if arms == "all" else split([arms])
    made = arms_of(full, groups)
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(out, made, range(seeds), split(tasks), data, limit, max_new_tokens)
    console = Console()
    if not budget:
        claim(plan)
    if budget or workers > 1 or ray is not None:  # a budget is measured on steps alone
        with make_progress() as bar:
            compute_features(full, plan, bar_for(bar))
    if budget:
        share = share_of_steps(out, budget, lambda: _share(plan, full, seconds_of(budget), workers))
        console.print(
            f"{budget}: {share:.0%} of every arm's steps." if share < 1 else f"{budget} is enough for all steps."
        )
        plan = Plan(out, fitted(made, share), plan.seeds, plan.tasks, data, limit, max_new_tokens)
    with make_progress() as bar:
        advance = bar_for(bar)
        total = sum(len(plan.seeds) if arm.recipe is not None else 1 for arm in plan.arms)
        advance("arms and seeds", total - len(plan.jobs()), total)
        run_plan(
            plan,
            full,
            workers=workers,
            ray=ray,
            progress=lambda _: advance("arms and seeds", 1, total),
            watch=watch_for(bar),
        )
    found = collect(plan)
    changes = change_table(found)
    console.print(terminal_table(changes, "differences, in hundredths; interval over seeds; seeds won"))
    console.print(str(write_ablation_page(found, out, full.dump())), highlight=False, soft_wrap=True)


def _share(plan: Plan, full: Recipe, seconds: float, workers: int) -> float:
    """Share of all steps that fits into a time: by timing a few of the full method's, which is the slowest."""
    import time
    from tempfile import TemporaryDirectory

    from coat.training.run import train

    jobs = [arm for arm, _ in plan.jobs() if arm.recipe is not None]
    steps = sum(stage.steps for arm in jobs if arm.recipe for stage in arm.recipe.stages)
    if not steps:
        return 1.0
    times = []
    for count in (2, 12):
        stage = full.stages[-1].model_copy(update={"steps": count})
        with TemporaryDirectory() as scratch:
            began = time.perf_counter()
            short = full.model_copy(update={"stages": [stage]}).seeded(plan.seeds[0])
            train(short, Path(scratch) / "run", say=lambda _: None)
            times.append(time.perf_counter() - began)
    each = max(1e-6, (times[1] - times[0]) / 10)
    start = max(0.0, times[0] - 2 * each) * len(jobs)
    # A tenth is kept for asking; processes that share cores gain less than their number.
    left = seconds * 0.9 * max(1.0, 0.7 * workers) - start
    return max(0.0, min(1.0, left / (steps * each)))


def seconds_of(text: str) -> float:
    """A time such as 90m, 8h or 300s.

    Raises:
        CoatError: It is none.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    try:
        return float(text[:-1]) * units[text[-1]]
    except (KeyError, ValueError, IndexError):
        raise CoatError(f"--budget {text} is no time.", "For example: 90m, 8h") from None
