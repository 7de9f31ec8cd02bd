"""Scores with intervals, and differences with tests.

Every metric here is a function of sums over items: right answers and answers, word errors and words, a table of
classes. So one bootstrap serves all: whole clusters (a clip's questions, a speaker's utterances) are drawn with
replacement, their sums are added up, and the metric is taken of the sums. The same draws serve two runs that are
compared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
DRAWN_AT_ONCE = 4_000_000
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval.

    Attributes:
        metric: Such as ``wer`` (lower is better) or ``accuracy``.
        value: Between 0 and 1 (a WER can exceed 1).
        low: Lower end: Wilson's interval for shares of right answers, which holds at 0 and 1 too, of the effective
            number of items where they come in clusters; else the bootstrap's percentile.
        high: Upper end of the interval.
        items: Number of scored items.
        clusters: Number of clusters that they form.
    """

    metric: str
    value: float
    low: float
    high: float
    items: int
    clusters: int = 0

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is better."""
        return self.metric not in LOWER_IS_BETTER


LOWER_IS_BETTER = ("wer", "utterance WER")


@dataclass(frozen=True)
class Sums:
    """A metric over items.

    Attributes:
        metric: Name of the metric.
        rows: ``(items, k)``, what each item adds.
        value: Sums ``(..., k)`` to the metric ``(...)``.
        clusters: ``(items,)`` what each belongs to.
        is_share: Whether it is a share of items: Wilson's interval applies, and McNemar's test.
    """

    metric: str
    rows: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]
    clusters: Sequence[Hashable]
    is_share: bool = False

    def take(self, chosen: Sequence[int]) -> Sums:
        """Those of some items."""
        picked = [self.clusters[i] for i in chosen]
        return Sums(self.metric, self.rows[list(chosen)], self.value, picked, self.is_share)

    def by_cluster(self) -> np.ndarray:
        """``(clusters, k)``."""
        _, places = np.unique(np.array([repr(c) for c in self.clusters]), return_inverse=True)
        sums = np.zeros((places.max() + 1, self.rows.shape[1]))
        np.add.at(sums, places, self.rows)
        return sums

    def score(self, *, seed: int = 0) -> Score:
        """The metric with its interval."""
        if not len(self.rows):
            return Score(self.metric, float("nan"), float("nan"), float("nan"), 0, 0)
        grouped = self.by_cluster()
        value = float(self.value(self.rows.sum(0)))
        drawn = self.value(_resampled(grouped, seed))
        low, high = np.quantile(drawn, [0.025, 0.975])
        if self.is_share:
            low, high = wilson(value, len(self.rows), design_effect(self, drawn))
        return Score(self.metric, value, float(low), float(high), len(self.rows), len(grouped))


def ratio(
    metric: str, top: np.ndarray, bottom: np.ndarray | None = None, clusters: Sequence[Hashable] | None = None
) -> Sums:  # fmt: skip
    """A ratio of sums, such as word errors over words, or right answers over answers.

    Args:
        metric: Name of the metric.
        top: ``(items,)``.
        bottom: ``(items,)``; ones if None: a mean.
        clusters: The cluster of each item; every item is its own if None.
    """
    top = np.asarray(top, dtype=float)
    share = bottom is None and bool(np.isin(top, (0, 1)).all())
    bottom = np.ones_like(top) if bottom is None else np.asarray(bottom, dtype=float)
    groups = range(len(top)) if clusters is None else clusters
    return Sums(metric, np.stack([top, bottom], 1), _ratio, groups, share)


def weighted_f1(
    references: Sequence[str], said: Sequence[str | None], labels: Sequence[str],
    clusters: Sequence[Hashable] | None = None,
) -> Sums:  # fmt: skip
    """F1 of each class, weighted by how often it is right: scikit-learn's ``average="weighted"``.

    An answer of no class counts against the class that it should have named, and is no class of its own.

    Args:
        references: The right class of each item.
        said: The class that its answer names, if any.
        labels: All classes.
        clusters: Cluster of each item.
    """
    places = {label: place for place, label in enumerate(labels)}
    count = len(labels)
    table = np.zeros((len(references), count, count + 1))
    for row, (reference, answer) in enumerate(zip(references, said, strict=True)):
        table[row, places[reference], count if answer is None else places[answer]] = 1

    def value(sums: np.ndarray) -> np.ndarray:
        confusion = sums.reshape(*sums.shape[:-1], count, count + 1)
        hits = np.diagonal(confusion[..., :count], axis1=-2, axis2=-1)
        support, named = confusion.sum(-1), confusion[..., :count].sum(-2)
        f1 = 2 * hits / np.maximum(support + named, 1)
        return (f1 * support).sum(-1) / np.maximum(support.sum(-1), 1)

    groups = range(len(references)) if clusters is None else clusters
    return Sums("weighted F1", table.reshape(len(references), -1), value, groups)


def wilson(share: float, items: int, effect: float = 1.0) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Args:
        share: Between 0 and 1.
        items: Number of items.
        effect: By how much clusters widen its variance; the effective number of items is ``items / effect``.
    """
    n = max(items / max(effect, 1.0), 1.0)
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def design_effect(sums: Sums, drawn: np.ndarray) -> float:
    """The variance over drawn clusters against that of as many independent items."""
    share, items = float(sums.value(sums.rows.sum(0))), len(sums.rows)
    alone = share * (1 - share) / items
    if alone == 0 or len(set(map(repr, sums.clusters))) == items:
        return 1.0
    return float(np.var(drawn) / alone)


@dataclass(frozen=True)
class Difference:
    """One run against another on the same items.

    Attributes:
        metric: Name of the metric.
        first: Its value in the first run.
        second: In the second.
        low: Lower end of the 95 % interval of second minus first, by paired bootstrap over clusters.
        high: Upper end of the interval.
        p: p-value under no difference: by McNemar's exact test for shares of independent items, else by the paired
            bootstrap.
        items: Compared.
        test: Name of the test that ``p`` comes from.
    """

    metric: str
    first: float
    second: float
    low: float
    high: float
    p: float
    items: int
    test: str

    @property
    def value(self) -> float:
        """Second minus first."""
        return self.second - self.first


def difference(first: Sums, second: Sums, *, seed: int = 0) -> Difference:
    """Compare two runs of the same items, in the same order."""
    a, b = first.by_cluster(), second.by_cluster()
    sums = _resampled(np.concatenate([a, b], 1), seed)
    drawn = second.value(sums[:, a.shape[1] :]) - first.value(sums[:, : a.shape[1]])
    low, high = np.quantile(drawn, [0.025, 0.975])
    values = (float(first.value(first.rows.sum(0))), float(second.value(second.rows.sum(0))))
    if first.is_share and second.is_share and len(a) == len(first.rows):
        gained = int(((first.rows[:, 0] == 0) & (second.rows[:, 0] == 1)).sum())
        lost = int(((first.rows[:, 0] == 1) & (second.rows[:, 0] == 0)).sum())
        p, test = mcnemar(gained, lost), "McNemar, exact"
    else:
        # Twice the share of draws on the far side of nothing, itself counted among them.
        side = min((drawn <= 0).sum(), (drawn >= 0).sum())
        p, test = min(1.0, 2 * (side + 1) / (len(drawn) + 1)), "paired bootstrap"
    return Difference(first.metric, *values, float(low), float(high), p, len(first.rows), test)


def error_of_change(first: Sequence[Sums], second: Sequence[Sums], *, seed: int = 0) -> float:
    """The standard error, over clusters of items, of the difference of two means over runs.

    Args:
        first: A run each; the same items in the same order as all others.
        second: Runs that are compared with them.
        seed: Seed of the draws, which all runs share.
    """
    runs = [*first, *second]
    grouped = [run.by_cluster() for run in runs]
    width = grouped[0].shape[1]
    sums = _resampled(np.concatenate(grouped, 1), seed)
    values = [run.value(sums[:, place * width : (place + 1) * width]) for place, run in enumerate(runs)]
    moved = np.mean(values[len(first) :], axis=0) - np.mean(values[: len(first)], axis=0)
    return float(moved.std(ddof=1))


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact test: the p-value of items gained against items lost."""
    from scipy.stats import binomtest

    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values that hold for all tests together."""
    order = np.argsort(p_values)
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, (len(p_values) - rank) * p_values[place])
        corrected[place] = min(1.0, worst)
    return corrected


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-12)


def _resampled(rows: np.ndarray, seed: int) -> np.ndarray:
    """``(resamples, k)``: sums over clusters ``(clusters, k)`` drawn with replacement, as many as there are."""
    rng, count = np.random.default_rng(seed), len(rows)
    step = max(1, min(RESAMPLES, DRAWN_AT_ONCE // count))
    sums = []
    for start in range(0, RESAMPLES, step):
        drawn = rng.integers(count, size=(min(step, RESAMPLES - start), count))
        times = np.apply_along_axis(np.bincount, 1, drawn, minlength=count)
        sums.append(times @ rows)
    return np.concatenate(sums)
