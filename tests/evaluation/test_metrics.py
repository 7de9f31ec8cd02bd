import pytest

from coat.data.manifest import Row
from coat.evaluation.metrics import accuracy, wer
from coat.evaluation.runner import answer_rows, score_rows
from coat.thinking.model import CoatModel


def test_word_error_rate_is_of_the_corpus_and_by_hand():
    # 1 of 4 and 1 of 1 wrong: 2 of 5 words, not the mean of 25 % and 100 %
    score = wer(["the red dog runs", "yes"], ["the red cat runs", "no"])
    assert score.value == pytest.approx(0.4)
    assert wer(["a b"], ["a b c d e"]).value == pytest.approx(1.5)  # insertions count, and can pass 1


def test_normalisation_forgives_case_and_punctuation():
    assert wer(["The red dog."], ["the RED dog"]).value == 0
    assert accuracy(["C sharp"], ["c sharp."]).value == 1


def test_empty_answers_are_wrong():
    assert accuracy(["yes", "no"], ["", ""]).value == 0
    assert wer(["two words"], [""]).value == 1


def test_intervals_hold_the_value_and_shrink_with_more_items():
    few = accuracy(["a"] * 10, ["a"] * 6 + ["b"] * 4)
    many = accuracy(["a"] * 1000, ["a"] * 600 + ["b"] * 400)
    for score in (few, many):
        assert score.low <= score.value <= score.high
    assert many.high - many.low < few.high - few.low
    # close to the normal approximation: 1.96 sqrt(0.6 x 0.4 / 1000)
    assert many.high - many.low == pytest.approx(2 * 1.96 * (0.6 * 0.4 / 1000) ** 0.5, rel=0.15)


def row(index, task="event"):
    messages = [{"role": "user", "content": f"hello {index}"}, {"role": "assistant", "content": "rain"}]
    return Row(f"r{index}", messages, [], task)


def test_a_stopped_evaluation_goes_on(backbone, tmp_path):
    model = CoatModel(backbone).eval()
    path = tmp_path / "predictions.jsonl"
    rows = [row(i) for i in range(6)]
    first = answer_rows(model, rows[:3], path, max_new_tokens=4)
    path.write_text(path.read_text() + '{"id": "r3", "ans')  # killed while writing
    asked = []
    answers = answer_rows(model, rows, path, max_new_tokens=4, progress=asked.append)
    assert asked == [3, 1, 1, 1]
    assert {k: answers[k] for k in first} == first
    assert list(answers) == [f"r{i}" for i in range(6)]
    assert len(path.read_text().splitlines()) == 6


def test_scores_go_by_task():
    rows = [row(0), row(1), row(2, "transcription")]
    scores = score_rows(rows, {"r0": "rain", "r1": "wind", "r2": "rain"})
    assert scores["event"].value == 0.5
    assert (scores["transcription"].metric, scores["transcription"].value) == ("wer", 0.0)
