from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.data.batching import Shuffled, StepRows, micro_batches


def steps(lengths, **options):
    defaults = {"steps": 10, "batch_size": 8, "seed": 0}
    options = {**defaults, **options}
    return list(StepRows(lengths, draw=Shuffled(len(lengths), options["seed"]), **options))


LENGTHS = np.random.default_rng(0).uniform(0.5, 30, 100).tolist()


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_processes_share_every_step(processes):
    whole = steps(LENGTHS)
    parts = [steps(LENGTHS, rank=rank, processes=processes) for rank in range(processes)]
    for step, rows in enumerate(whole):
        shares = [part[step] for part in parts]
        assert sorted(chain(*shares)) == sorted(rows)
        assert {len(share) for share in shares} == {8 // processes}
        longest = [max(LENGTHS[row] for row in share) for share in shares]
        assert max(longest) - min(longest) <= max(LENGTHS[r] for r in rows) - min(LENGTHS[r] for r in rows)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 5))
def test_no_row_is_seen_again_before_all_are(rows, count, seed):
    made = list(chain(*steps([1.0] * rows, steps=count, batch_size=4, seed=seed, group=False)))
    counts = Counter(made)
    assert len(made) == count * 4
    assert set(counts) <= set(range(rows))
    seen = [counts[row] for row in range(rows)]
    assert max(seen) - min(seen) <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 50), st.lists(st.integers(0, 300), min_size=2, max_size=6), st.integers(0, 3))
def test_an_order_can_be_entered_anywhere(rows, places, seed):
    order = Shuffled(rows, seed).at(0, 301)
    again = Shuffled(rows, seed)
    for start, stop in pairwise(places):
        start, stop = min(start, stop), max(start, stop) + 1
        assert again.at(start, stop).tolist() == order[start:stop].tolist()


def test_grouping_brings_like_lengths_together():
    def waste(made):
        return sum(max(LENGTHS[i] for i in b) * len(b) - sum(LENGTHS[i] for i in b) for b in made)

    assert waste(steps(LENGTHS, steps=40)) < 0.25 * waste(steps(LENGTHS, steps=40, group=False))


def test_the_seed_decides_the_order():
    assert steps(LENGTHS) == steps(LENGTHS)
    assert steps(LENGTHS) != steps(LENGTHS, seed=1)


def test_processes_must_divide_a_batch():
    with pytest.raises(ValueError, match="evenly"):
        steps(LENGTHS, processes=3)


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 9), st.none() | st.integers(1, 900))
def test_passes_hold_every_row_once_within_their_limits(lengths, rows, tokens):
    passes = micro_batches(lengths, rows=rows, tokens=tokens)
    assert sorted(chain(*passes)) == list(range(len(lengths)))
    for places in passes:
        longest = max(lengths[place] for place in places)
        assert len(places) <= rows
        assert tokens is None or len(places) == 1 or longest * len(places) <= tokens


def test_like_lengths_pass_together():
    assert micro_batches([9, 2, 8, 1, 9], rows=2, tokens=None) == [[3, 1], [2, 0], [4]]
    assert micro_batches([9, 2, 8, 1, 9], rows=9, tokens=18) == [[3, 1], [2, 0], [4]]
    assert micro_batches([5] * 4, rows=9, tokens=20) == [[0, 1, 2, 3]]
