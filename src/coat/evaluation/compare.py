"""One run against another: differences with intervals and tests, and which items flipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coat.errors import CoatError
from coat.evaluation.results import scored
from coat.evaluation.run import Answered, read_run
from coat.evaluation.scoring import Protocol, Scored, task_sums
from coat.evaluation.statistics import Difference, difference, holm


@dataclass(frozen=True)
class Flip:
    """An item whose answer became right, or stopped being so.

    Attributes:
        id: The item's.
        gained: Whether it became right.
        reference: The right answer.
        first: Answer of the first run.
        second: Answer of the second run.
    """

    id: str
    gained: bool
    reference: str
    first: str
    second: str


@dataclass(frozen=True)
class Compared:
    """A task in two runs, or in one of them.

    Attributes:
        task: Name of the task.
        title: Title in tables.
        differences: Differences of every metric, the leading one first; none where no item can be compared.
        corrected: The leading p-value, by Holm over all tasks.
        flips: Items that flipped.
        only_one: Items that only one of the runs has an answer to.
        different: Items that the runs were asked differently.
    """

    task: str
    title: str
    differences: list[Difference]
    corrected: float
    flips: list[Flip]
    only_one: int
    different: int

    @property
    def left_out(self) -> str:
        """Items that are in no difference, in words; empty where all are."""
        counts = ((self.only_one, "answered by one alone"), (self.different, "asked otherwise"))
        return ", ".join(f"{count:,} {why}" for count, why in counts if count)


def compare_runs(first: str | Path, second: str | Path, protocol: Protocol = "strict") -> list[Compared]:
    """Compare two runs task by task, on the items that both answered and that were asked alike.

    Args:
        first: A run's folder, such as the baseline's.
        second: Another's.
        protocol: By which answers are scored.

    Raises:
        CoatError: They share no such item, or were asked in different words.
    """
    about = [read_run(first), read_run(second)]
    _same_words(about[0][0], about[1][0], str(first), str(second))
    tasks = [{task.task.name: task for task in each} for _, each in about]
    if not tasks[0].keys() & tasks[1].keys():
        raise CoatError(f"{first} and {second} share no task.", "Run both on the same tasks.")
    found = [
        _compare(tasks[0][name], tasks[1][name], protocol) if name in tasks[0] and name in tasks[1] else _alone(task)
        for name, task in {**tasks[1], **tasks[0]}.items()
    ]
    tested = [each for each in found if each.differences]
    if not tested:
        why = "; ".join(f"{each.title}: {each.left_out}" for each in found)
        raise CoatError(f"{first} and {second} have nothing to compare: {why}.", "Ask both the same questions.")
    corrected = dict(zip((each.task for each in tested), holm([each.differences[0].p for each in tested]), strict=True))
    return [replace(each, corrected=corrected.get(each.task, 1.0)) for each in found]


def _alone(task: Answered) -> Compared:
    items = {item for item, _ in task.answers}
    return Compared(task.task.name, task.task.title, [], 1.0, [], len(items), 0)


def _compare(first: Answered, second: Answered, protocol: Protocol) -> Compared:
    if first.task.version != second.task.version:
        raise CoatError(
            f"{first.task.name} was version {first.task.version} in one run and {second.task.version} in the other.",
            "Run both with the same version of the package.",
        )
    sides = [{each.item.id: each for each in scored(task, protocol)[1] if each.order == 0} for task in (first, second)]
    both = [name for name in sides[0] if name in sides[1]]
    same = [name for name in both if _alike(sides[0][name], sides[1][name])]
    pairs = [(sides[0][name], sides[1][name]) for name in same]
    alone = len(sides[0].keys() ^ sides[1].keys())
    if not pairs:
        return Compared(first.task.name, first.task.title, [], 1.0, [], alone, len(both))
    sums = [task_sums(first.task, [pair[side] for pair in pairs], protocol) for side in (0, 1)]
    flips = [
        Flip(a.item.id, b.credit > a.credit, a.item.reference, a.answer.text, b.answer.text)
        for a, b in pairs
        if first.task.kind not in ("transcript", "judge") and (a.credit == 1) != (b.credit == 1)
    ]
    return Compared(
        first.task.name,
        first.task.title,
        [difference(a, b) for a, b in zip(*sums, strict=True)],
        1.0,
        flips,
        alone,
        len(both) - len(same),
    )


def _alike(first: Scored, second: Scored) -> bool:
    """Whether two runs were asked the same about the same clip."""
    fields = ("prompt", "reference", "options", "clips", "messages")
    return all(getattr(first.item, name) == getattr(second.item, name) for name in fields)


def _same_words(first: dict[str, Any], second: dict[str, Any], *names: str) -> None:
    """Prompts must be the same; what the comparison is about may differ."""
    profiles = [about["settings"]["profile"] for about in (first, second)]
    if profiles[0] != profiles[1]:
        raise CoatError(
            f"{names[0]} was asked as '{profiles[0] or 'default'}' and {names[1]} as '{profiles[1] or 'default'}': "
            "prompts differ by family, and so would scores.",
            "Run one of them again with the other's --profile.",
        )
