import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from coat.evaluation.statistics import difference, holm, mcnemar, ratio, weighted_f1, wilson


def test_a_ratio_is_of_sums():
    # 1 of 4 and 1 of 1 words wrong: 2 of 5, not the mean of 25 % and 100 %.
    assert ratio("wer", np.array([1, 1]), np.array([4, 1])).score().value == pytest.approx(0.4)


def test_wilson_by_hand():
    low, high = wilson(0.694, 1000)
    assert (round(100 * low, 1), round(100 * high, 1)) == (66.5, 72.2)
    assert wilson(0.0, 3)[0] == 0
    assert wilson(1.0, 10)[1] == pytest.approx(1)
    assert wilson(0.5, 100, effect=4) == pytest.approx(wilson(0.5, 25))


def test_clusters_widen_the_interval():
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(50) < 0.6, 10).astype(float)  # ten questions a clip, all alike
    alone = ratio("accuracy", right).score()
    together = ratio("accuracy", right, clusters=np.repeat(np.arange(50), 10).tolist()).score()
    assert (together.items, together.clusters) == (500, 50)
    assert together.high - together.low > 2.5 * (alone.high - alone.low)
    assert together.low == pytest.approx(wilson(right.mean(), 50)[0], abs=0.03)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_intervals_hold_the_truth_as_often_as_they_say(share):
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        score = ratio("accuracy", (rng.random(80) < share).astype(float)).score()
        held += score.low <= share <= score.high
    assert 0.9 <= held / 200 <= 1.0


def test_bootstrap_of_a_corpus_rate_is_near_the_normal_approximation():
    rng = np.random.default_rng(2)
    words = rng.integers(5, 15, 1000)
    errors = rng.binomial(words, 0.2)
    score = ratio("wer", errors, words).score()
    spread = np.std(errors - score.value * words) / words.mean() / np.sqrt(1000)
    assert score.high - score.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=30))
def test_weighted_f1_is_scikit_learns(pairs):
    references, said = zip(*pairs, strict=True)
    sums = weighted_f1(references, said, list("abc"))
    expected = f1_score(
        references, [s or "nothing" for s in said], labels=list("abc"), average="weighted", zero_division=0
    )
    assert float(sums.value(sums.rows.sum(0))) == pytest.approx(expected)


def test_mcnemar_and_holm_by_hand():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(2 * 0.5**5)
    assert mcnemar(6, 2) == pytest.approx(2 * (1 + 8 + 28) / 256)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_a_difference_is_paired():
    rng = np.random.default_rng(3)
    first = (rng.random(400) < 0.5).astype(float)
    second = first.copy()
    second[:20] = 1 - second[:20] * 0  # twenty become right, or were
    change = difference(ratio("accuracy", first), ratio("accuracy", second))
    gained = int((second - first).sum())
    assert change.value == pytest.approx(gained / 400)
    assert change.test == "McNemar, exact"
    assert change.p == pytest.approx(mcnemar(gained, 0))
    assert 0 < change.low <= change.value <= change.high
    # unpaired intervals of two shares this large would be five points wide
    assert change.high - change.low < 0.05


def test_where_nothing_differs_nothing_is_found():
    rng, found = np.random.default_rng(4), 0
    for _ in range(100):
        words = rng.integers(5, 15, 120)
        a, b = (ratio("wer", rng.binomial(words, 0.2), words) for _ in range(2))
        found += difference(a, b).p < 0.05
    assert found <= 12


def test_many_clusters_fit_in_memory():
    assert ratio("wer", np.ones(40_000), np.full(40_000, 10)).score().value == pytest.approx(0.1)
