from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.data.mixture import MixtureDraw, Pool, permuted, plan_mixture
from coat.errors import CoatError

# Sizes of the corpora of Table C, by their public row counts.
POOLS = [
    Pool("librispeech", "asr", 281_241), Pool("gigaspeech", "asr", 8_282_988), Pool("common_voice", "asr", 1_013_968),
    Pool("voxpopuli", "asr", 182_482), Pool("switchboard", "asr", 185_000), Pool("spgispeech", "asr", 1_966_109),
    Pool("audiocaps_qa", "qa", 40_000), Pool("iemocap_qa", "qa", 5_531), Pool("librisqa", "qa", 104_014),
    Pool("clotho_aqa", "qa", 21_132), Pool("audiocaps", "captioning", 49_838), Pool("clotho", "captioning", 19_195),
    Pool("meld", "choice", 9_989), Pool("iemocap", "choice", 5_531), Pool("librisqa_choice", "choice", 104_014),
    Pool("musicbench", "music", 52_768), Pool("gsqa", "spoken", 51_349), Pool("wildjailbreak", "text", 261_559),
]  # fmt: skip
SHARES = {"asr": 40, "qa": 20, "captioning": 10, "choice": 10, "music": 10, "spoken": 5, "text": 5}


def test_the_papers_corpora_by_hand():
    plan = plan_mixture(POOLS, SHARES, budget=1_600_000, cap=4)
    by_group = Counter()
    for line in plan.lines:
        by_group[line.group] += line.samples
    assert plan.samples == 1_600_000
    assert by_group == {
        "asr": 640_000, "qa": 320_000, "captioning": 160_000, "choice": 160_000, "music": 160_000, "spoken": 80_000,
        "text": 80_000,
    }  # fmt: skip
    lines = {line.source: line for line in plan.lines}
    assert lines["musicbench"].epochs == pytest.approx(160_000 / 52_768)
    assert lines["gigaspeech"].samples == pytest.approx(640_000 * 8_282_988 / 11_911_788, abs=1)
    assert lines["audiocaps"].epochs == pytest.approx(lines["clotho"].epochs, rel=1e-3)  # uniform by row


def test_what_a_capped_group_cannot_take_goes_to_the_others():
    pools = [Pool("small", "a", 10), Pool("large", "b", 1000), Pool("larger", "c", 1000)]
    plan = plan_mixture(pools, {"a": 0.5, "b": 0.25, "c": 0.25}, budget=400, cap=2)
    assert {line.source: line.samples for line in plan.lines} == {"small": 20, "large": 190, "larger": 190}
    assert plan.asked == {"a": 0.5, "b": 0.25, "c": 0.25}


def test_a_budget_beyond_all_caps_is_cut_to_them():
    plan = plan_mixture([Pool("x", "a", 10), Pool("y", "b", 5)], {"a": 1, "b": 1}, budget=400, cap=2)
    assert plan.samples == 30


def test_groups_must_match():
    with pytest.raises(CoatError, match="b, c"):
        plan_mixture([Pool("x", "a", 10), Pool("y", "b", 5)], {"a": 1, "c": 1}, budget=4, cap=2)
    with pytest.raises(CoatError, match="without rows: y"):
        plan_mixture([Pool("x", "a", 10), Pool("y", "b", 0)], {"a": 1, "b": 1}, budget=4, cap=2)


@st.composite
def mixtures(draw):
    groups = draw(st.integers(1, 4))
    pools = [
        Pool(f"s{index}", f"g{draw(st.integers(0, groups - 1))}", draw(st.integers(1, 200)))
        for index in range(draw(st.integers(1, 7)))
    ]
    shares = {pool.group: draw(st.floats(0.01, 1)) for pool in pools}
    return pools, shares, draw(st.integers(1, 900)), draw(st.sampled_from([1.0, 1.5, 4.0]))


@settings(deadline=None, max_examples=150)
@given(mixtures())
def test_totals_and_caps_hold(mixture):
    pools, shares, budget, cap = mixture
    plan = plan_mixture(pools, shares, budget=budget, cap=cap)
    assert plan.samples == min(budget, sum(int(cap * pool.rows) for pool in pools))
    assert all(line.epochs <= cap + 1e-9 for line in plan.lines)
    assert sum(line.share for line in plan.lines) == pytest.approx(1)
    asked = {group: share / sum(shares.values()) for group, share in shares.items()}
    for group in shares:
        members = [line for line in plan.lines if line.group == group]
        held = sum(line.samples for line in members)
        limit = sum(int(cap * line.pool) for line in members)
        # A group has what it asked for, or all that it may have.
        assert held == limit or held >= int(asked[group] * plan.budget) - len(shares) * 2


@settings(deadline=None, max_examples=60)
@given(mixtures(), st.integers(0, 5))
def test_a_draw_is_the_plan(mixture, seed):
    pools, shares, budget, cap = mixture
    plan = plan_mixture(pools, shares, budget=budget, cap=cap)
    names = [pool.source for pool in pools]
    rows = MixtureDraw(plan, names, seed=seed).at(0, plan.samples)
    ends = np.cumsum([pool.rows for pool in pools])
    counts = Counter(np.searchsorted(ends, rows, side="right").tolist())
    lines = {line.source: line for line in plan.lines}
    assert {names[index]: count for index, count in counts.items()} == {
        name: line.samples for name, line in lines.items() if line.samples
    }
    for row, times in Counter(rows.tolist()).items():
        epochs = lines[names[int(np.searchsorted(ends, row, side="right"))]].epochs
        assert int(epochs) <= times <= int(np.ceil(epochs))


@settings(deadline=None, max_examples=60)
@given(mixtures(), st.integers(0, 1500), st.integers(0, 300))
def test_a_draw_can_be_entered_anywhere(mixture, start, count):
    pools, shares, budget, cap = mixture
    plan = plan_mixture(pools, shares, budget=budget, cap=cap)
    names = [pool.source for pool in pools]
    whole = MixtureDraw(plan, names, seed=1).at(0, start + count + 1)
    assert MixtureDraw(plan, names, seed=1).at(start, start + count + 1).tolist() == whole[start:].tolist()


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**40))
def test_a_permutation_takes_every_place_once(size, key):
    assert sorted(permuted(np.arange(size), size, [key]).tolist()) == list(range(size))


def test_permutations_look_random():
    """Neighbours are scattered, keys differ, and no place is preferred (chi squared over a grid)."""
    size = 10_007
    order = permuted(np.arange(size), size, [1, 2])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03
    assert (order == permuted(np.arange(size), size, [2, 1])).mean() < 0.01
    grid, _, _ = np.histogram2d(np.arange(size), order, bins=20)
    expected = size / 400
    assert ((grid - expected) ** 2 / expected).sum() < 480  # 361 degrees of freedom


def test_other_stages_and_seeds_draw_otherwise():
    plan = plan_mixture(POOLS, SHARES, budget=1000, cap=4)
    names = [pool.source for pool in POOLS]
    draws = [MixtureDraw(plan, names, seed=seed, stage=stage).at(0, 1000) for seed, stage in ((0, 0), (1, 0), (0, 1))]
    assert len({tuple(draw.tolist()) for draw in draws}) == 3
