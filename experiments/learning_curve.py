"""The method's claim, most directly: how many labelled answers do experts stand for?

    python -m experiments.learning_curve --world runs/demo --out runs/curve

Fine-tuning alone and CoAT on 50, 200, 1,000 and all labelled clips of the scarce tasks. Everything else is the same:
clips, other questions, steps, seeds (:mod:`coat.synthetic.labels`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coat.ablation.arms import FULL, SFT, Arm, arms_of, changed
from coat.ablation.plan import Plan, run_plan
from coat.ablation.results import Ablation, collect
from coat.config.reading import load_recipe
from coat.config.recipe import Recipe
from coat.files import write_whole
from coat.reports.ablation import change_cell, write_ablation_page
from coat.reports.page import Section, Table, markdown, write_report
from coat.reports.plots import COLOURS, encode, plt
from coat.synthetic.items import SCARCE_TASKS
from coat.synthetic.labels import labelled_manifest, write_manifests
from coat.training.progress import bar_for, make_progress

COUNTS = ("50", "200", "1000", "all")


def curve_arms(recipe: Recipe, corpus: Path, counts: tuple[str, ...]) -> list[Arm]:
    """Fine-tuning alone and CoAT for each number of labels."""
    ladder = {arm.name: arm for arm in arms_of(recipe, ["ladder"])}
    arms = []
    for count in counts:
        rows = str(labelled_manifest(corpus, count))
        for name, title in ((SFT, "fine-tuning"), (FULL, "CoAT")):
            base = ladder[name].recipe
            assert base is not None
            made = changed(base, "data.train_dataset", rows)
            arms.append(Arm(f"{name}-{count}", f"{title}, {count}", f"{SFT}-{count}", made))
    return arms


def plot_curve(found: Ablation, counts: tuple[str, ...]) -> str:
    """Scores over the number of labels; a thin line a seed."""
    figure, grid = plt.subplots(1, len(SCARCE_TASKS), figsize=(4 * len(SCARCE_TASKS), 3), layout="constrained")
    for axes, task in zip(np.atleast_1d(grid), SCARCE_TASKS, strict=True):
        for index, (name, title) in enumerate(((SFT, "fine-tuning alone"), (FULL, "CoAT"))):
            values = np.array([found.values(f"{name}-{count}", task) for count in counts])
            axes.plot(range(len(counts)), values, color=COLOURS[1 + 2 * index], lw=0.6, alpha=0.5)
            axes.plot(range(len(counts)), values.mean(1), marker="o", color=COLOURS[1 + 2 * index], label=title)
        axes.set_xticks(range(len(counts)), counts)
        axes.set_xlabel("labelled clips")
        axes.set_title(task.replace("_", " "))
        axes.set_ylim(0, 1.02)
    np.atleast_1d(grid)[0].legend(frameon=False)
    return encode(figure)


def change_table(found: Ablation, counts: tuple[str, ...]) -> Table:
    """CoAT against fine-tuning, for each number of labels."""
    rows = []
    for task in found.tasks:
        cells = [change_cell(found.change(f"{FULL}-{count}", task)) for count in counts]
        rows.append([task.replace("_", " "), *cells])
    return Table(["task", *(f"{count} labels" for count in counts)], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, and draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, default=Path("runs/demo"))
    parser.add_argument("--recipe", type=Path, default=Path("recipes/small-world.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="FIELD=VALUE over the recipe.")
    parser.add_argument("--out", type=Path, default=Path("runs/curve"))
    parser.add_argument("--counts", nargs="*", default=list(COUNTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args(argv)
    counts, seeds, corpus = tuple(args.counts), range(args.seeds), args.world / "corpus"
    recipe = load_recipe(args.recipe, args.overrides)
    write_manifests(corpus, counts, seeds)
    tasks = [str(corpus / "test.jsonl")]
    plan = Plan(args.out, curve_arms(recipe, corpus, counts), seeds, tasks, limit=args.limit, max_new_tokens=32)
    args.out.mkdir(parents=True, exist_ok=True)
    with make_progress() as bar:
        advance, total = bar_for(bar), len(plan.arms) * len(seeds)
        advance("arms and seeds", total - len(plan.jobs()), total)
        run_plan(plan, recipe, workers=args.workers, progress=lambda _: advance("arms and seeds", 1, total))
    found = collect(plan)
    write_ablation_page(found, args.out, recipe.dump())
    changes = change_table(found, counts)
    write_whole(args.out / "curve.md", markdown(changes))
    text = f"Seeds {', '.join(map(str, seeds))}. Differences in hundredths: CoAT less fine-tuning alone."
    section = Section(
        "Over the number of labels", text, changes, [(plot_curve(found, counts), "A thin line is a seed.")]
    )
    write_report(args.out / "curve.html", "How many labels do experts stand for?", "On the small world.", [section])


if __name__ == "__main__":
    main()
