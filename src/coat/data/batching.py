"""Which rows make up each optimizer step: shuffled, like lengths together, the same however many processes share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

# Rows are sorted by length within pools of this many steps: padding nearly vanishes, and order stays random.
POOL_STEPS = 32
DRAWN_STEPS = 64 * POOL_STEPS


class Draw(Protocol):
    """An order of rows without end."""

    def at(self, start: int, stop: int) -> np.ndarray:
        """The rows at some places of the order, ``(stop - start,)``."""


class Shuffled:
    """Every row once, in random order, then again in another.

    Args:
        rows: Number of rows.
        seed: Seed of the orders.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._orders = np.random.default_rng([seed, 3])
        self._order, self._epoch = self._orders.permutation(rows), 0

    def at(self, start: int, stop: int) -> np.ndarray:
        """See :class:`Draw`."""
        parts = []
        while start < stop:
            epoch, place = divmod(start, self.rows)
            count = min(stop - start, self.rows - place)
            parts.append(self._of(epoch)[place : place + count])
            start += count
        return np.concatenate(parts)

    def _of(self, epoch: int) -> np.ndarray:
        if epoch < self._epoch:
            self._orders, self._epoch = np.random.default_rng([self.seed, 3]), 0
            self._order = self._orders.permutation(self.rows)
        while self._epoch < epoch:
            self._order, self._epoch = self._orders.permutation(self.rows), self._epoch + 1
        return self._order


class Later:
    """An order of rows from some place of it on.

    Args:
        draw: The whole order.
        first: Rows that were drawn before.
    """

    def __init__(self, draw: Draw, first: int) -> None:
        self.draw, self.first = draw, first

    def at(self, start: int, stop: int) -> np.ndarray:
        """See :class:`Draw`."""
        return self.draw.at(self.first + start, self.first + stop)


class StepRows(Sampler[list[int]]):
    """The rows of each optimizer step that one process trains on.

    A step's rows depend on the draw, the seed and the effective batch alone, never on how many processes share
    them or how many pass at once; so every arm of a comparison sees the same data in the same order.

    Args:
        lengths: A length for each row, in any unit.
        draw: The order of rows.
        steps: Optimizer steps.
        batch_size: Rows in a step, over all processes.
        seed: Seed of the order of steps.
        group: Put rows of like length into a step.
        rank: This process.
        processes: Number of processes that share each step; it divides ``batch_size``.
    """

    def __init__(
        self,
        lengths: Sequence[float] | np.ndarray,
        *,
        draw: Draw,
        steps: int,
        batch_size: int,
        seed: int,
        group: bool = True,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size % processes:
            raise ValueError(f"{processes} processes cannot share {batch_size} rows evenly")
        self.lengths = np.asarray(lengths, dtype=np.float32)
        self.draw, self.steps, self.batch_size, self.seed, self.group = draw, steps, batch_size, seed, group
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for ahead in range(0, self.steps, DRAWN_STEPS):
            stop = min(ahead + DRAWN_STEPS, self.steps)
            drawn = self.draw.at(ahead * self.batch_size, stop * self.batch_size)  # cheaper than pool by pool
            for start in range(ahead, stop, POOL_STEPS):
                steps = min(POOL_STEPS, stop - start)
                yield from self._pool(
                    start, steps, drawn[(start - ahead) * self.batch_size :][: steps * self.batch_size]
                )

    def _pool(self, start: int, steps: int, rows: np.ndarray) -> Iterator[list[int]]:
        if self.group:
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        for step in np.random.default_rng([self.seed, 5, start]).permutation(steps):
            batch = rows[step * self.batch_size : (step + 1) * self.batch_size]
            # Dealt out by length, so that every process has as much to do.
            yield batch[np.argsort(self.lengths[batch], kind="stable")][self.rank :: self.processes].tolist()


def micro_batches(lengths: Sequence[int], *, rows: int, tokens: int | None) -> list[list[int]]:
    """Which rows of a step pass at once: like lengths together, within a number of rows and of padded tokens.

    Args:
        lengths: Tokens of each row.
        rows: At most so many in a pass.
        tokens: At most so many in a pass, padding counted; a longer row passes alone. None sets no limit.

    Returns:
        Places in ``lengths``; every one is there once.
    """
    passes: list[list[int]] = []
    for place in np.argsort(np.asarray(lengths), kind="stable").tolist():
        longest = lengths[place]  # so far, for they come in order
        full = not passes or len(passes[-1]) == rows
        if full or (tokens is not None and (len(passes[-1]) + 1) * longest > tokens):
            passes.append([])
        passes[-1].append(place)
    return passes
