"""Every task by an oracle, a constant and an empty predictor, under every protocol; and numbers worked out by hand."""

import math

import pytest

from coat.evaluation.items import Item
from coat.evaluation.scoring import PROTOCOLS, Answer, score_task
from coat.evaluation.sources import measured, open_task
from coat.evaluation.task import LETTERS, Task, load_task, task_names


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    return {name: measured(open_task(load_task(name), "sample", folder)) for name in task_names()}


def answered(opened, say, rating=None):
    return {
        (item.id, 0): Answer(say(item), rating=rating, verdict="" if rating is None else f"Rating: {rating}")
        for item in opened.items
    }


def oracle(item):
    return LETTERS[item.right] if item.right is not None else item.reference


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", task_names())
def test_an_oracle_is_right(samples, name, protocol):
    opened = samples[name]
    score, _ = score_task(opened.task, opened.items, answered(opened, oracle, 5), protocol)
    best = 0.0 if "WER" in score.leading.metric.upper() else 1.0
    if name == "mmau" and protocol != "strict":
        best = 0.75  # one of the four has its answer at E, which lmms-eval cannot read
    assert score.leading.value == pytest.approx(best)
    assert score.missing == score.unjudged == 0
    if protocol == "strict":
        assert score.unread == 0
        assert all(each.value == pytest.approx(best) for each in score.scores)


@pytest.mark.parametrize("name", task_names())
def test_silence_scores_nothing_and_says_so(samples, name):
    opened = samples[name]
    score, scored = score_task(opened.task, opened.items, answered(opened, lambda item: ""), "strict")
    assert all(each.value == (1.0 if each.metric == "wer" else 0.0) for each in score.scores)
    assert score.unread == len(scored) == score.leading.items
    if opened.task.kind == "choice" and opened.task.upstream:
        there, _ = score_task(opened.task, opened.items, answered(opened, lambda item: ""), "upstream")
        assert there.leading.value > 0.15, "there, silence is rewarded"


@pytest.mark.parametrize("name", task_names())
def test_one_answer_for_all_scores_its_share(samples, name):
    opened = samples[name]
    if opened.task.kind in ("transcript", "judge"):
        pytest.skip("no share of items")
    first = opened.items[0]
    score, _ = score_task(opened.task, opened.items, answered(opened, lambda item: oracle(first)), "strict")
    share = sum(oracle(item) == oracle(first) for item in opened.items) / len(opened.items)
    assert score.leading.value == pytest.approx(share)


def choices(*right):
    task = Task(name="t", title="t", kind="choice", columns={"options": "choices"},
                upstream={"task": "t", "rule": "letter"})  # fmt: skip
    items = [
        Item(str(i), "t", "?", "abcd"[place], tuple("wxyz"), place, cluster=str(i)) for i, place in enumerate(right)
    ]  # fmt: skip
    return task, items


def test_both_protocols_by_hand():
    """Right, wrong, unread, unread with brackets of its own, and a letter past the end."""
    task, items = choices(0, 1, 2, 3, 0)
    said = ["A", "C", "no idea", "<answer>D</answer>", "G"]
    answers = {(item.id, 0): Answer(text) for item, text in zip(items, said, strict=True)}
    strict, _ = score_task(task, items, answers, "strict")
    assert strict.leading.value == pytest.approx(2 / 5)
    assert strict.unread == 2
    there, _ = score_task(task, items, answers, "upstream")
    assert there.leading.value == pytest.approx((1 + 0 + 1 / 4 + 1 / 4 + 1 / 4) / 5)
    assert there.unread == 3


def test_orders_of_options_by_hand():
    """The first is found in all orders; the second is the same letter always: right once in four, never consistent."""
    task, items = choices(0, 1)
    answers = {("0", order): Answer(LETTERS[items[0].right_in(order)]) for order in range(4)}
    answers |= {("1", order): Answer("A") for order in range(4)}
    score, scored = score_task(task, items, answers, "strict")
    assert len(scored) == 8
    assert score.leading.items == 2
    assert score.leading.value == 0.5
    assert score.orders == {
        "items": 2, "orders": 4, "consistency": 0.5, "correctness": (1 + 1 / 4) / 2, "right in every order": 0.5,
    }  # fmt: skip


def test_empty_references_are_left_out_and_counted(samples):
    opened = samples["gigaspeech"]
    said = answered(opened, lambda item: "six tomatoes")
    strict, _ = score_task(opened.task, opened.items, said, "strict")
    assert strict.left_out == {"empty reference": 1}
    # The long one: nine of ten words wrong at best; worked out by the alignment: 11 words, none shared.
    assert strict.leading.value == pytest.approx(11 / 13)
    there, _ = score_task(opened.task, opened.items, said, "upstream")
    assert there.left_out == {}
    assert there.leading.value == pytest.approx((11 + 2) / 13), "words said over music are insertions there"


def test_means_over_utterances_are_upstreams_alone(samples):
    opened = samples["voxpopuli"]
    said = {("v1", 0): Answer("we must act"), ("v2", 0): Answer("thank you mister president")}
    assert score_task(opened.task, opened.items, said, "strict")[0].leading.value == pytest.approx(1 / 8)
    assert score_task(opened.task, opened.items, said, "upstream")[0].leading.value == pytest.approx((1 / 4 + 0) / 2)


def test_the_judges_verdicts_by_each_protocol(samples):
    """The paper's scale, and what lmms-eval reads of the same words."""
    opened = samples["alpaca_audio"]
    verdict = "Explanation: The 1st part agrees. Rating: 4"
    said = {(item.id, 0): Answer("Red.", rating=4, verdict=verdict) for item in opened.items}
    values = {p: score_task(opened.task, opened.items, said, p)[0].leading.value for p in PROTOCOLS}
    assert values == {"strict": pytest.approx(0.8), "paper": pytest.approx(0.8), "upstream": pytest.approx(0.2)}
    said[opened.items[0].id, 0] = Answer("Red.")
    waiting, _ = score_task(opened.task, opened.items, said, "strict")
    assert (waiting.unjudged, waiting.leading.items) == (1, 1), "what has no verdict is no zero"


def test_what_has_no_answer_is_missing_not_wrong():
    task, items = choices(0, 0)
    score, _ = score_task(task, items, {("0", 0): Answer("A", finished=False)}, "strict")
    assert (score.leading.value, score.leading.items, score.missing, score.cut) == (1.0, 1, 1, 1)
    nothing, _ = score_task(task, items, {}, "strict")
    assert math.isnan(nothing.leading.value)


def test_scores_apart_and_classes_confused(samples):
    opened = samples["meld"]
    score, _ = score_task(opened.task, opened.items, answered(opened, lambda item: "neutral"), "strict")
    assert score.by_fact["Sentiment"]["neutral"].value == 1.0
    assert score.by_fact["Sentiment"]["negative"].value == 0.0
    # one of four is neutral: its F1 is 2 x 0.25 x 1 / 1.25, weighted by a quarter
    assert score.scores[1].value == pytest.approx(0.4 / 4)
    assert score.leading.clusters == 2, "two dialogues"
    events = [Item(str(i), "e", "?", name) for i, name in enumerate(["rain", "wind"] * 3)]
    said = ["Rain", "rain", "wind.", "wind", "", "hail"]
    answers = {(item.id, 0): Answer(text) for item, text in zip(events, said, strict=True)}
    table, _ = score_task(Task(name="e", title="e", kind="exact"), events, answers, "strict")
    assert table.confusion["rain"] == {"rain": 1, "other": 1, "nothing read": 1}
    assert table.confusion["wind"] == {"rain": 1, "wind": 1, "other": 1}
