"""Arms compared over seeds: the same questions, seed by seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from coat.ablation.plan import Plan
from coat.ablation.questions import errors_over_questions
from coat.errors import CoatError
from coat.evaluation.statistics import Score
from coat.files import write_whole

# That have an interval: Student's of two is nine times their standard deviation, either way.
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Change:
    """An arm against another on a task, seed by seed.

    Attributes:
        value: Mean difference over seeds.
        low: Lower end of its 95 % interval over seeds, and over questions where their error is known; not known of
            fewer than three seeds, for two that agree by chance would make it nothing.
        high: Upper end of the interval.
        wins: Seeds in which it is better.
        each: Difference of each seed.
    """

    value: float
    low: float
    high: float
    wins: int
    each: tuple[float, ...]

    @property
    def seeds(self) -> int:
        """Number of seeds compared."""
        return len(self.each)


@dataclass(frozen=True)
class Ablation:
    """Results of an ablation.

    Attributes:
        arms: Names and titles, in order.
        against: Reference arm of each arm.
        seeds: Seeds of training.
        scores: ``{arm: {task: [a score a seed]}}``.
        errors: ``{arm: {task: error}}``: the standard error, over questions, of an arm's mean change against its
            reference; see :func:`coat.ablation.questions.errors_over_questions`.
    """

    arms: Mapping[str, str]
    against: Mapping[str, str]
    seeds: Sequence[int]
    scores: Mapping[str, Mapping[str, Sequence[Score]]]
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """In order."""
        return list(next(iter(self.scores.values())))

    def values(self, arm: str, task: str) -> np.ndarray:
        """Values by seed; the baseline's is the same for all."""
        found = np.array([score.value for score in self.scores[arm][task]])
        return np.repeat(found, len(self.seeds)) if len(found) == 1 else found

    def mean(self, arm: str, metric: str) -> np.ndarray:
        """By seed, the mean over tasks of one metric's direction: errors (``wer``), or what is right."""
        tasks = self._tasks_of(metric)
        return np.mean([self.values(arm, task) for task in tasks], axis=0) if tasks else np.array([])

    def _tasks_of(self, metric: str) -> list[str]:
        first = next(iter(self.scores.values()))
        return [task for task in self.tasks if (first[task][0].metric == "wer") == (metric == "wer")]

    def change(self, arm: str, task: str, other: str | None = None) -> Change:
        """An arm against what it is compared with; against another one, over seeds alone."""
        first = self.values(other or self.against[arm], task)
        error = 0.0 if other else self.errors.get(arm, {}).get(task, 0.0)
        score = self.scores[arm][task][0]
        return paired(
            first, self.values(arm, task), higher_is_better=score.higher_is_better, error=error, clusters=score.clusters
        )

    def mean_change(self, arm: str) -> Change | None:
        """An arm's mean of what is right against its reference's; None if no task has such a metric."""
        tasks = self._tasks_of("share")
        if not tasks:
            return None
        known = self.errors.get(arm, {})
        error = math.hypot(*(known[task] for task in tasks)) / len(tasks) if all(t in known for t in tasks) else 0.0
        clusters = sum(self.scores[arm][task][0].clusters for task in tasks)
        first, second = self.mean(self.against[arm], "share"), self.mean(arm, "share")
        return paired(first, second, error=error, clusters=clusters)


def paired(
    first: np.ndarray, second: np.ndarray, *, higher_is_better: bool = True, error: float = 0.0, clusters: int = 0
) -> Change:
    """The difference of two arms, seed by seed, with Student's interval.

    Args:
        first: A score a seed.
        second: The other arm's.
        higher_is_better: Whether a larger score is better.
        error: Standard error of the mean difference over questions, whose variance is added to that over seeds, with
            Welch's and Satterthwaite's degrees of freedom; 0 for an interval over seeds alone.
        clusters: Clusters of questions that the error is of.

    Example:
        >>> import numpy as np
        >>> seeds = paired(np.array([0.5, 0.6, 0.4]), np.array([0.6, 0.6, 0.5]))
        >>> both = paired(np.array([0.5, 0.6, 0.4]), np.array([0.6, 0.6, 0.5]), error=0.05, clusters=100)
        >>> [round(change.low, 2) for change in (seeds, both)]
        [-0.08, -0.06]
    """
    from scipy.stats import t

    moved = second - first
    count, wins = len(moved), int(((moved > 0) if higher_is_better else (moved < 0)).sum())
    mean, half = float(moved.mean()), float("nan")
    if count >= FEWEST_SEEDS:
        own, asked = float(moved.var(ddof=1)) / count, error**2
        both = own + asked
        parts = own**2 / (count - 1) + asked**2 / max(1, clusters - 1)
        half = float(t.ppf(0.975, both**2 / parts)) * both**0.5 if parts else 0.0
    return Change(mean, mean - half, mean + half, wins, tuple(moved.tolist()))


def collect(plan: Plan) -> Ablation:
    """Every score of a plan that is done; kept as ``ablation.json``.

    Raises:
        CoatError: A job is not done.
    """
    left = plan.jobs()
    if left:
        raise CoatError(
            f"{len(left)} runs are not done, such as {left[0][0].title}, seed {left[0][1]}.", "Run it again."
        )
    files = {
        arm.name: [plan.scores_of(arm, seed) for seed in (plan.seeds if arm.recipe is not None else plan.seeds[:1])]
        for arm in plan.arms
    }
    titles = {arm.name: arm.title for arm in plan.arms}
    return gather(plan.folder, files, titles, {arm.name: arm.against for arm in plan.arms}, plan.seeds)


def gather(
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    titles: Mapping[str, str],
    against: Mapping[str, str],
    seeds: Sequence[int],
) -> Ablation:
    """Scores of arms out of their files; kept as ``ablation.json``.

    Args:
        folder: Folder to keep them in.
        files: A ``scores-strict.json`` a seed, by arm.
        titles: Titles of arms, for tables.
        against: Reference arm of each arm.
        seeds: Seeds of training.
    """
    scores: dict[str, dict[str, list[Score]]] = {}
    for arm, paths in files.items():
        for path in paths:
            for task in json.loads(path.read_text()):
                scores.setdefault(arm, {}).setdefault(task["task"], []).append(Score(**task["scores"][0]))
    runs = {arm: [path.parent for path in paths] for arm, paths in files.items()}
    errors = errors_over_questions(runs, against) if len(seeds) >= FEWEST_SEEDS else {}
    found = Ablation(dict(titles), dict(against), list(seeds), scores, errors)
    plain = {
        "arms": found.arms,
        "against": found.against,
        "seeds": found.seeds,
        "scores": {arm: {task: [asdict(s) for s in each] for task, each in by.items()} for arm, by in scores.items()},
        "errors": found.errors,
    }
    write_whole(folder / "ablation.json", json.dumps(plain, indent=1))
    return found


def read_ablation(folder: Path) -> Ablation:
    """Read the file that :func:`collect` wrote.

    Raises:
        CoatError: There is none.
    """
    path = folder / "ablation.json"
    if not path.is_file():
        raise CoatError(f"{folder} holds no ablation.", "coat ablate RECIPE --tasks ... --out FOLDER makes one.")
    raw = json.loads(path.read_text())
    scores = {
        arm: {task: [Score(**score) for score in each] for task, each in by_task.items()}
        for arm, by_task in raw["scores"].items()
    }
    return Ablation(raw["arms"], raw["against"], raw["seeds"], scores, raw.get("errors", {}))
