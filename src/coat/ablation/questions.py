"""How far a comparison of arms may be off because other questions could have been asked.

Seeds are paired on the same questions, so their spread says nothing of what other questions would have shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from coat.evaluation.results import answers_of
from coat.evaluation.run import read_run
from coat.evaluation.scoring import task_sums
from coat.evaluation.statistics import Sums, error_of_change

# Names of the items, and what each adds to the leading metric.
Answers = tuple[tuple[str, ...], Sums]


def errors_over_questions(
    runs: Mapping[str, Sequence[Path]], against: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """The standard error of every arm's mean change against its reference, over questions.

    Args:
        runs: Folders of evaluations, one a seed, by arm; an arm without seeds has one.
        against: Reference of each arm.

    Returns:
        By arm and task. Tasks without a scored answer, and those whose questions differ between the runs, are left out.
    """
    read = {folder: _answers(folder) for folders in runs.values() for folder in folders}
    errors: dict[str, dict[str, float]] = {}
    for arm, reference in against.items():
        if arm == reference or not {arm, reference} <= runs.keys():
            continue
        first, second = ([read[folder] for folder in runs[name]] for name in (reference, arm))
        for task in set.intersection(*(set(run) for run in (*first, *second))):
            items = {run[task][0] for run in (*first, *second)}
            if len(items) == 1 and any(items):
                sides = ([run[task][1] for run in side] for side in (first, second))
                errors.setdefault(arm, {})[task] = error_of_change(*sides)
    return errors


def _answers(folder: Path) -> dict[str, Answers]:
    """The leading metric of every task of a run, item by item."""
    found = {}
    for task in read_run(folder)[1]:
        scored = [each for each in answers_of(task, "strict") if each.order == 0]
        found[task.task.name] = tuple(each.item.id for each in scored), task_sums(task.task, scored, "strict")[0]
    return found
