"""An ablation as tables: arms by task, each against its own reference, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coat.ablation.results import Ablation, Change
from coat.files import write_whole
from coat.reports.page import Section, Table, markdown, transposed, write_report
from coat.reports.plots import COLOURS, encode, plt

# More arms than this are rows, and tasks are columns.
MANY = 6


def score_table(found: Ablation, tasks: Sequence[str] = ()) -> Table:
    """Mean and :func:`spread`, a column an arm; the best mean of a row is marked."""
    rows: list[list[str]] = []
    best = set()
    for task in tasks or found.tasks:
        first = found.scores[next(iter(found.arms))][task][0]
        means = [found.values(arm, task).mean() for arm in found.arms]
        name = f"{task.replace('_', ' ')} ({first.metric}), n = {first.items}"
        rows.append([name, *(_score_cell(found, arm, task) for arm in found.arms)])
        if len({round(mean, 9) for mean in means}) > 1:
            best.add((len(rows) - 1, 1 + int(np.argmax(means) if first.higher_is_better else np.argmin(means))))
    for metric, name in (("share", "mean of what is right"), ("wer", "mean of word errors")):
        values = {arm: found.mean(arm, metric) for arm in found.arms}
        if all(len(each) for each in values.values()):
            rows.append([name, *(_cell(each) for each in values.values())])
    return Table(["task", *found.arms.values()], rows, best)


def change_table(found: Ablation, tasks: Sequence[str] = ()) -> Table:
    """Each arm against its reference: mean difference, its 95 % interval, seeds in which it is better."""
    rows: list[list[str]] = []
    best = set()
    arms = [arm for arm in found.arms if found.against[arm] != arm and found.against[arm] in found.scores]
    for task in tasks or found.tasks:
        cells = []
        for arm in arms:
            change = found.change(arm, task)
            cells.append(change_cell(change))
            better = found.scores[arm][task][0].higher_is_better
            if change.low > 0 if better else change.high < 0:
                best.add((len(rows), len(cells)))
        rows.append([task.replace("_", " "), *cells])
    cells = []
    for arm in arms:
        overall = found.mean_change(arm)
        cells.append(change_cell(overall) if overall else "")
    rows.append(["mean of what is right", *cells])
    head = [f"{found.arms[arm]} - {found.arms[found.against[arm]]}" for arm in arms]
    return Table(["task", *head], rows, best)


def change_cell(change: Change) -> str:
    """A difference, in hundredths, and its interval; of two seeds, that of each."""
    if not np.isnan(change.low):
        around = f" [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    else:
        around = f" ({', '.join(f'{100 * each:+.1f}' for each in change.each)})" if change.seeds > 1 else ""
    return f"{100 * change.value:+.1f}{around}, {change.wins}/{change.seeds}"


def spread(found: Ablation) -> str:
    """Meaning of ± in :func:`score_table`."""
    return "the standard deviation over seeds" if len(found.seeds) > 1 else "half of the 95 % interval over questions"


def _score_cell(found: Ablation, arm: str, task: str) -> str:
    if len(found.seeds) > 1:
        return _cell(found.values(arm, task))
    score = found.scores[arm][task][0]
    return f"{100 * score.value:.1f} ± {50 * (score.high - score.low):.1f}"


def _cell(values: np.ndarray) -> str:
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(set(values.tolist())) > 1 else ""
    return f"{100 * values.mean():.1f}{spread}"


def plot_ablation(found: Ablation, tasks: Sequence[str] = ()) -> str:
    """A dot a seed, a bar a mean, a group a task; word accuracy stands for word errors, so that up is better."""
    chosen = list(tasks or found.tasks)
    figure, axes = plt.subplots(figsize=(max(6.0, 1.15 * len(chosen)), 3.2))
    width = 0.8 / len(found.arms)
    for index, (arm, title) in enumerate(found.arms.items()):
        for place, task in enumerate(chosen):
            values = found.values(arm, task)
            values = values if found.scores[arm][task][0].higher_is_better else 1 - values
            at = place + (index - (len(found.arms) - 1) / 2) * width
            colour = COLOURS[index % len(COLOURS)]
            axes.bar(at, values.mean(), width * 0.9, color=colour, label=title if place == 0 else None)
            axes.plot([at] * len(values), values, ".", color="#222", ms=2.5)
    axes.set_xticks(range(len(chosen)), [task.replace("_", "\n") for task in chosen])
    axes.set_ylabel("score, or 1 - WER")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8, ncols=min(5, len(found.arms)), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return encode(figure)


def plot_changes(found: Ablation, tasks: Sequence[str] = ()) -> str:
    """Each arm against its reference: mean and interval, a stroke a seed; right is better. For many arms."""
    arms = [arm for arm in found.arms if found.against[arm] != arm and found.against[arm] in found.scores]
    chosen = list(tasks or found.tasks)
    across = min(4, len(chosen))
    down = -(-len(chosen) // across)
    size = (3.0 * across + 1.5, (0.22 * len(arms) + 0.7) * down)
    figure, grid = plt.subplots(down, across, figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, task in zip(grid.flat, chosen, strict=False):
        sign = 100 if found.scores[arms[0]][task][0].higher_is_better else -100
        for place, arm in enumerate(reversed(arms)):
            change = found.change(arm, task)
            moved = sign * (found.values(arm, task) - found.values(found.against[arm], task))
            ends = sorted((sign * change.low, sign * change.high))
            colour = COLOURS[3] if ends[0] > 0 else COLOURS[4] if ends[1] < 0 else COLOURS[0]
            axes.plot(ends, [place, place], color=colour, lw=1.2)
            axes.plot(moved, [place] * len(moved), "|", color="#444", ms=4)
            axes.plot(sign * change.value, place, "o", color=colour, ms=4)
        axes.axvline(0, color="#444", lw=0.7)
        axes.set_title(task.replace("_", " "))
        axes.set_yticks(range(len(arms)), [found.arms[arm] for arm in reversed(arms)], fontsize=8)
    for axes in grid.flat[len(chosen) :]:
        axes.axis("off")
    return encode(figure)


def write_ablation_page(found: Ablation, folder: Path, recipe: str, tasks: Sequence[str] = ()) -> Path:
    """Write ``ablation.html``, and its tables as ``ablation.md``."""
    scores, changes = score_table(found, tasks), change_table(found, tasks)
    picture = (plot_ablation(found, tasks), "A dot is a seed.")
    if len(found.arms) > MANY:
        scores, changes = transposed(scores), transposed(changes)
        picture = (
            plot_changes(found, tasks),
            "Against the reference, in hundredths, right is better; a stroke is a seed.",
        )
    several = len(found.seeds) > 1
    over = f"{'Seeds' if several else 'Seed'} {', '.join(map(str, found.seeds))}; ± is {spread(found)}."
    interval = (
        f"Brackets: Student's 95 % interval over seeds{' and questions' if found.errors else ''}; "
        "then the seeds in which the arm is better."
        if several
        else "One seed has no interval: differences may be chance."
    )
    rows = "In its paths {seed} is each seed in turn." if "{seed}" in recipe else "All seeds train on the same rows."
    sections = [
        Section("Scores", f"Out of a hundred. {over}", scores, [picture]),
        Section("Each arm against its reference", interval, changes),
        Section("The full recipe", rows if several else "", code=recipe),
    ]
    path = folder / "ablation.html"
    write_report(
        path, "An ablation", "Arms of one recipe, on the same data and seeds, asked the same questions.", sections
    )
    write_whole(folder / "ablation.md", f"{markdown(scores)}\n{markdown(changes)}")
    return path
