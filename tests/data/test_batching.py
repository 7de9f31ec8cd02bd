from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.data.batching import LengthGroupedBatches


def batches(lengths, **options):
    defaults = {"steps": 10, "batch_size": 8, "micro_batch_size": 4, "seed": 0}
    return list(LengthGroupedBatches(lengths, **{**defaults, **options}))


LENGTHS = np.random.default_rng(0).uniform(0.5, 30, 100).tolist()


@pytest.mark.parametrize("micro", [1, 2, 4, 8])
def test_every_split_of_a_batch_holds_the_same_rows(micro):
    made = batches(LENGTHS, micro_batch_size=micro)
    assert len(made) == 10 * 8 // micro
    steps = [list(chain(*made[i : i + 8 // micro])) for i in range(0, len(made), 8 // micro)]
    assert steps == batches(LENGTHS, micro_batch_size=8)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 5))
def test_no_row_is_seen_again_before_all_are(rows, steps, seed):
    made = list(chain(*batches([1.0] * rows, steps=steps, batch_size=4, micro_batch_size=2, seed=seed, group=False)))
    counts = Counter(made)
    assert len(made) == steps * 4
    assert set(counts) <= set(range(rows))
    seen = [counts[row] for row in range(rows)]
    # grouping is off, so the order is one shuffle after another, cut at the last step
    assert max(seen) - min(seen) <= 1 + (steps * 4 % rows != 0)


def test_grouping_brings_like_lengths_together():
    def waste(made):
        return sum(max(LENGTHS[i] for i in b) * len(b) - sum(LENGTHS[i] for i in b) for b in made)

    assert waste(batches(LENGTHS, steps=40)) < 0.25 * waste(batches(LENGTHS, steps=40, group=False))


def test_the_seed_decides_the_order():
    assert batches(LENGTHS) == batches(LENGTHS)
    assert batches(LENGTHS) != batches(LENGTHS, seed=1)


def test_a_micro_batch_must_divide():
    with pytest.raises(ValueError, match="does not divide"):
        batches(LENGTHS, micro_batch_size=3)
