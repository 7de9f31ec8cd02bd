"""Many corpora, one budget: how often each is drawn, and in which order (App. A, Table C).

Groups have shares of the budget; within a group rows are drawn uniformly, so a source's part grows with its size.
No row is repeated more often than a cap allows; what a capped group cannot take goes to the others. The order is a
keyed permutation that can be entered anywhere: a stage of millions of rows needs no list of them, and a resumed run
only the number of its step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from coat.errors import CoatError


@dataclass(frozen=True)
class Pool:
    """Rows of one source.

    Attributes:
        source: Name of the source.
        group: Task group.
        rows: Number of its rows.
        hours: Hours of audio in the rows.
    """

    source: str
    group: str
    rows: int
    hours: float = 0.0


@dataclass(frozen=True)
class Line:
    """Number of rows that a stage draws from a source.

    Attributes:
        source, group: Source or group whose rows are drawn.
        pool: Rows that it has.
        samples: Rows that are drawn.
        share: Share of all that is drawn.
        epochs: Times that a row is drawn, on average.
        hours: Hours of audio that is heard.
    """

    source: str
    group: str
    pool: int
    samples: int
    share: float
    epochs: float
    hours: float


@dataclass(frozen=True)
class Plan:
    """A stage's draw.

    Attributes:
        lines: One for each source, group by group.
        asked: Share of each group, as the recipe has it.
        budget: Rows that were asked for.
    """

    lines: tuple[Line, ...]
    asked: Mapping[str, float]
    budget: int

    @property
    def samples(self) -> int:
        """Rows that are drawn: the budget, unless caps hold all groups below it."""
        return sum(line.samples for line in self.lines)

    def as_dict(self) -> dict[str, object]:
        """Plain data, for a run's folder."""
        return {"budget": self.budget, "asked": dict(self.asked), "lines": [asdict(line) for line in self.lines]}


def plan_mixture(pools: Sequence[Pool], shares: Mapping[str, float], *, budget: int, cap: float) -> Plan:
    """Deal a budget out.

    Args:
        pools: The sources.
        shares: Share of each group; shares need not add up to one.
        budget: Rows to draw.
        cap: Most times that a row may be drawn.

    Returns:
        Rows of each source. They add up to the budget wherever caps allow it.

    Raises:
        CoatError: Groups of sources and of shares differ, or a source is empty.
    """
    groups = list(dict.fromkeys(pool.group for pool in pools))
    if set(groups) != set(shares):
        odd = sorted(set(groups) ^ set(shares))
        raise CoatError(f"Groups have a share but no source, or a source but no share: {', '.join(odd)}.")
    if empty := [pool.source for pool in pools if not pool.rows]:
        raise CoatError(f"Sources without rows: {', '.join(empty)}.")
    rows = {group: sum(pool.rows for pool in pools if pool.group == group) for group in groups}
    limits = {group: sum(int(cap * pool.rows) for pool in pools if pool.group == group) for group in groups}
    taken = _fill(shares, limits, min(budget, sum(limits.values())))
    samples: dict[str, int] = {}
    for group in groups:
        members = {pool.source: pool for pool in pools if pool.group == group}
        own = _fill(
            {name: float(pool.rows) for name, pool in members.items()},
            {name: int(cap * pool.rows) for name, pool in members.items()},
            taken[group],
        )
        samples |= own
    total = sum(samples.values())
    ordered = sorted(pools, key=lambda pool: (groups.index(pool.group), -pool.rows))
    lines = tuple(
        Line(
            pool.source,
            pool.group,
            pool.rows,
            samples[pool.source],
            samples[pool.source] / max(total, 1),
            samples[pool.source] / pool.rows,
            pool.hours * samples[pool.source] / pool.rows,
        )
        for pool in ordered
    )
    assert all(taken[group] <= cap * rows[group] for group in groups)
    return Plan(lines, {group: share / sum(shares.values()) for group, share in shares.items()}, budget)


def _fill(shares: Mapping[str, float], limits: Mapping[str, int], budget: int) -> dict[str, int]:
    """Whole numbers in proportion to shares, none over its limit, adding up to the budget."""
    taken = dict.fromkeys(shares, 0)
    open_ = {name for name in shares if shares[name] > 0}
    while open_ and (left := budget - sum(taken.values())):
        weight = sum(shares[name] for name in open_)
        exact = {name: left * shares[name] / weight for name in sorted(open_)}
        whole = {name: int(value) for name, value in exact.items()}
        # Largest remainders first, so that nothing of the budget is lost to rounding.
        for name in sorted(exact, key=lambda name: (whole[name] - exact[name], name))[: left - sum(whole.values())]:
            whole[name] += 1
        for name, count in whole.items():
            taken[name] += min(count, limits[name] - taken[name])
        open_ = {name for name in open_ if taken[name] < limits[name]}
    return taken


class MixtureDraw:
    """The order of a planned stage: see :class:`coat.data.batching.Draw`.

    Rows are places in the sources one after another, in the order in which they are given.

    Args:
        plan: From :func:`plan_mixture`.
        sources: Their names, in the order of their rows.
        seed: Seed of the order.
        stage: Draws of other stages are others.
    """

    def __init__(self, plan: Plan, sources: Sequence[str], *, seed: int, stage: int = 0) -> None:
        lines = {line.source: line for line in plan.lines}
        self.pools = np.array([lines[name].pool for name in sources], dtype=np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.pools)])[:-1]
        self.ends = np.cumsum([lines[name].samples for name in sources])
        self.key = np.array([seed, stage], dtype=np.uint64)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def at(self, start: int, stop: int) -> np.ndarray:
        """See :class:`coat.data.batching.Draw`; beyond a stage's end it begins anew, in another order."""
        places = np.arange(start, stop, dtype=np.int64)
        rounds, places = np.divmod(places, len(self))
        drawn = np.empty_like(places)
        for turn in np.unique(rounds):
            now = rounds == turn
            mixed = permuted(places[now], len(self), [*self.key, turn])
            source = np.searchsorted(self.ends, mixed, side="right")
            ordinal = mixed - np.concatenate([[0], self.ends])[source]
            epoch, row = np.divmod(ordinal, self.pools[source])
            drawn[now] = self._rows(source, epoch, row, int(turn))
        return drawn

    def _rows(self, source: np.ndarray, epoch: np.ndarray, row: np.ndarray, turn: int) -> np.ndarray:
        out = np.empty_like(row)
        for which in np.unique(source):
            for times in np.unique(epoch[source == which]):
                now = (source == which) & (epoch == times)
                shuffled = permuted(row[now], int(self.pools[which]), [*self.key, turn, 1 + which, 1 + times])
                out[now] = self.first[which] + shuffled
        return out


def permuted(places: np.ndarray, size: int, key: Sequence[int]) -> np.ndarray:
    """Where a keyed permutation of ``0 .. size - 1`` takes some places, without a list of all.

    A Feistel network over the next power of four, walked until it is inside.

    Args:
        places: ``(n,)`` int64 below ``size``.
        size: Size of the permutation.
        key: Whole numbers; another key is another permutation.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = [_mixed(np.uint64(round_)) for round_ in range(ROUNDS)]
    for number in key:
        keys = [_mixed(value ^ np.uint64(int(number))) for value in keys]
    out = places.astype(np.uint64)
    outside = np.ones(len(out), dtype=bool)
    while outside.any():
        walking = out[outside]
        left, right = walking >> np.uint64(half), walking & mask
        for value in keys:
            left, right = right, left ^ (_mixed(right ^ value) & mask)
        out[outside] = (left << np.uint64(half)) | right
        outside = out >= size
    return out.astype(np.int64)


ROUNDS = 6


def _mixed(value: np.ndarray | np.uint64) -> np.ndarray | np.uint64:
    """SplitMix64's finaliser: every bit of the result depends on every bit."""
    with np.errstate(over="ignore"):
        value = value + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
