"""Which rows make up each step: shuffled, similar lengths together, the same for every way to split a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

# Rows are sorted by length within pools of this many effective batches: padding nearly vanishes, and order
# stays random.
POOL_BATCHES = 32


class LengthGroupedBatches(Sampler[list[int]]):
    """Micro-batches for a fixed number of optimizer steps.

    Each step's rows depend on seed, step and effective batch alone, so 8 x 1, 4 x 2 and 2 x 4 train on the
    same rows at the same step, and every arm of a comparison on the same data in the same order. A row is
    seen again only when all have been seen.

    Args:
        lengths: A length for each row, in any unit.
        steps: Optimizer steps.
        batch_size: Rows in an effective batch.
        micro_batch_size: Rows in one forward pass; it divides ``batch_size``.
        seed: Of the order.
        group: False leaves the order wholly random.
    """

    def __init__(
        self,
        lengths: Sequence[float],
        *,
        steps: int,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        group: bool = True,
    ) -> None:
        if batch_size % micro_batch_size:
            raise ValueError(f"micro batch size {micro_batch_size} does not divide batch size {batch_size}")
        self.lengths = np.asarray(lengths, dtype=np.float64)
        self.steps, self.batch_size, self.micro_batch_size = steps, batch_size, micro_batch_size
        self.seed, self.group = seed, group

    def __len__(self) -> int:
        return self.steps * (self.batch_size // self.micro_batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches():
            yield from (batch[i : i + self.micro_batch_size] for i in range(0, self.batch_size, self.micro_batch_size))

    def _batches(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, 3])
        made = 0
        stream = self._shuffled(rng)
        while made < self.steps:
            batches = min(POOL_BATCHES, self.steps - made)
            pool = np.array([next(stream) for _ in range(batches * self.batch_size)])
            if self.group:
                pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            for index in rng.permutation(batches):
                yield pool[index * self.batch_size : (index + 1) * self.batch_size].tolist()
            made += batches

    def _shuffled(self, rng: np.random.Generator) -> Iterator[int]:
        while True:
            yield from rng.permutation(len(self.lengths)).tolist()
