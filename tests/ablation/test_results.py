"""Arms over seeds as tables, with intervals that hold."""

import numpy as np
import pytest

from coat.ablation.results import Ablation, paired
from coat.evaluation.statistics import Score, error_of_change, ratio
from coat.reports.ablation import change_cell, change_table, score_table
from coat.reports.page import markdown


def made():
    def scores(metric, *values):
        return [Score(metric, value, 0.0, 1.0, 100) for value in values]

    return Ablation(
        {"baseline": "as it is", "sft": "fine-tuning alone", "full": "CoAT"},
        {"baseline": "baseline", "sft": "baseline", "full": "sft"},
        [0, 1, 2],
        {
            "baseline": {"mood": scores("accuracy", 0.1), "speech": scores("wer", 0.5)},
            "sft": {"mood": scores("accuracy", 0.5, 0.6, 0.7), "speech": scores("wer", 0.3, 0.3, 0.3)},
            "full": {"mood": scores("accuracy", 0.6, 0.7, 0.9), "speech": scores("wer", 0.4, 0.3, 0.2)},
        },
    )


def test_differences_over_seeds_by_hand():
    change = made().change("full", "mood")
    # 0.1, 0.1, 0.2: mean 0.1333, deviation 0.0577; t at two degrees of freedom is 4.303
    assert change.value == pytest.approx(0.4 / 3)
    assert change.high - change.value == pytest.approx(4.303 * np.std([0.1, 0.1, 0.2], ddof=1) / 3**0.5, rel=1e-3)
    assert (change.wins, change.seeds) == (3, 3)
    assert made().change("full", "speech").wins == 1, "fewer errors are better"
    assert made().change("sft", "mood").value == pytest.approx(0.5)
    assert np.isnan(paired(np.array([0.1]), np.array([0.2])).low)
    # Two that agree show nothing: an interval of no width would hold nothing but their value.
    two = paired(np.array([0.1, 0.2]), np.array([0.2, 0.3]))
    assert np.isnan(two.low)
    assert change_cell(two) == "+10.0 (+10.0, +10.0), 2/2"
    assert change_cell(paired(np.array([0.1]), np.array([0.2]))) == "+10.0, 1/1"


def test_tables_show_them():
    scores, changes = score_table(made()), change_table(made())
    assert scores.rows[0] == ["mood (accuracy), n = 100", "10.0", "60.0 ± 10.0", "73.3 ± 15.3"]
    assert (0, 3) in scores.best
    assert scores.rows[-1][0] == "mean of word errors"
    assert changes.head == ["task", "fine-tuning alone - as it is", "CoAT - fine-tuning alone"]
    assert changes.rows[0][1].startswith("+50.0 [+25.2, +74.8], 3/3")
    assert (0, 1) in changes.best
    assert (0, 2) not in changes.best, "an interval that holds nothing shows nothing"
    assert "| **60.0 ± 10.0**" not in markdown(scores)
    assert "**73.3 ± 15.3**" in markdown(scores)


def test_the_error_over_questions_is_added_by_hand():
    """Variances 1/3 of 0.01 over three seeds and 0.03 squared: their sum, with Satterthwaite's degrees of freedom."""
    moved = np.array([0.2, 0.1, 0.0])
    change = paired(np.zeros(3), moved, error=0.03, clusters=101)
    own, asked = 0.01 / 3, 0.0009
    freedom = (own + asked) ** 2 / (own**2 / 2 + asked**2 / 100)
    assert freedom == pytest.approx(3.221, abs=0.001)
    half = 3.0624 * (own + asked) ** 0.5  # Student's 97.5 % point at 3.221
    assert (change.high - change.low) / 2 == pytest.approx(half, rel=1e-3)


def test_intervals_hold_other_seeds_and_other_questions_as_often_as_they_say():
    """Arms whose true difference is 0.1: seeds shift each arm, and some questions gain while others lose."""
    rng, held = np.random.default_rng(0), {"seeds": 0, "both": 0}
    times, seeds, items = 300, 5, 40
    for _ in range(times):
        gains = rng.normal(0.1, 0.6, items)
        shares = [
            np.clip(0.4 + which * gains + rng.normal(0, 0.03), 0, 1) for which in (0, 1) for _ in range(seeds)
        ]  # fmt: skip
        runs = [ratio("accuracy", (rng.random(items) < share).astype(float)) for share in shares]
        values = np.array([run.rows[:, 0].mean() for run in runs])
        error = error_of_change(runs[:seeds], runs[seeds:])
        truth = float(np.clip(0.4 + np.random.default_rng(1).normal(0.1, 0.6, 10**5), 0, 1).mean()) - 0.4
        for name, change in (
            ("seeds", paired(values[:seeds], values[seeds:])),
            ("both", paired(values[:seeds], values[seeds:], error=error, clusters=items)),
        ):
            held[name] += change.low <= truth <= change.high
    assert held["both"] / times >= 0.93
    assert held["seeds"] / times < 0.9, "over seeds alone: too narrow for other questions"
