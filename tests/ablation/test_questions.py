"""The error of a comparison over questions, out of the answers that runs keep."""

import numpy as np
import pytest

from coat.ablation.questions import errors_over_questions
from coat.evaluation.asking import ask_and_score
from coat.files import read_jsonl, write_jsonl
from coat.generation import Reply


class Answers:
    """A backend that says what it is told to."""

    name, model_path, profile = "transformers", "told", "qwen2_audio"

    def __init__(self, said):
        self.said, self.fingerprint = said, repr(said)

    def answer(self, requests):
        for place in range(len(requests)):
            yield place, Reply(self.said[place % len(self.said)], 1, 0, 1, True)


@pytest.fixture
def evaluated(tmp_path):
    """Evaluates answers to eight questions of one task; right is "yes"."""
    rows = [
        {"id": f"q{i}", "task": "mood", "messages": [{"role": "user", "content": f"{i}?"},
                                                      {"role": "assistant", "content": "yes"}]}
        for i in range(8)
    ]  # fmt: skip
    write_jsonl(tmp_path / "test.jsonl", rows)

    def evaluate(name, said):
        ask_and_score(Answers(said), [str(tmp_path / "test.jsonl")], tmp_path / name, sample=tmp_path / "sample")
        return tmp_path / name

    return evaluate


def test_it_is_the_standard_error_of_the_items_mean_changes(evaluated):
    none = evaluated("none", ["no"])
    runs = [evaluated("some", ["yes", "no", "no", "no"]), evaluated("more", ["yes", "yes", "no", "no"])]
    errors = errors_over_questions({"sft": [none, none], "full": runs}, {"sft": "sft", "full": "sft"})
    changes = np.array([1.0, 0.5, 0, 0, 1.0, 0.5, 0, 0])
    assert errors == {"full": {"mood": pytest.approx(changes.std() / 8**0.5, rel=0.05)}}


def test_tasks_without_a_scored_answer_have_none(evaluated):
    """As those have that nobody judged yet: a table is made of the others."""
    runs = {"sft": [evaluated("none", ["no"])], "full": [evaluated("some", ["yes", "no"])]}
    for (folder,) in runs.values():
        (folder / "predictions.jsonl").write_text("")
    assert errors_over_questions(runs, {"sft": "sft", "full": "sft"}) == {}


def test_tasks_whose_answers_are_not_of_the_same_questions_are_left_out(evaluated):
    runs = {"sft": [evaluated("none", ["no"])], "full": [evaluated("some", ["yes", "no"])]}
    path = runs["full"][0] / "predictions.jsonl"
    write_jsonl(path, read_jsonl(path)[1:])
    assert errors_over_questions(runs, {"sft": "sft", "full": "sft"}) == {}
