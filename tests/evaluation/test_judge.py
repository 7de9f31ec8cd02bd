"""Over real HTTP, against a server that is busy, fails, talks nonsense, and is slow."""

import json

import pytest

from coat.errors import CoatError
from coat.evaluation.judge import JudgeSettings, judge_run, read_rating
from coat.evaluation.results import score_run
from coat.evaluation.run import run_tasks
from coat.evaluation.sources import open_tasks
from coat.files import read_jsonl
from tests.evaluation.stub import served
from tests.evaluation.test_run import Scripted


@pytest.mark.parametrize(
    ("verdict", "rating"),
    [
        ("Explanation: The 1st part is right.\nRating: 4", 4), ("Rating: (3)", 3), ("**Rating:** 5/5", 5),
        ("rating: 2", 2), ("Rating: 4.0", 4), ("Rating: 3, no: Rating: 1", 1), ("Rating: 0", 0),
        ("Rating: 10", None), ("Rating: 4.5", None), ("I give it a 4", None), ("", None), ("Rating: six", None),
    ],
)  # fmt: skip
def test_the_last_rating_counts(verdict, rating):
    assert read_rating(verdict) == rating


@pytest.fixture
def run(tmp_path):
    opened = open_tasks(["alpaca_audio", "wavcaps"], "sample", tmp_path)
    said = iter(["Red, blue, yellow. {really}", "Paris.", "A dog barks.", ""])
    run_tasks(Scripted(lambda request: next(said)), opened, tmp_path / "run")
    return tmp_path / "run"


def scores(folder):
    return {score.task: score for score in score_run(folder)}


def test_ratings_become_scores_of_a_hundred(run):
    with served(lambda number, body: "Explanation: The 1st part ... Rating: 4") as (url, stub):
        found = judge_run(run, JudgeSettings(url=url))
    assert (found.wanted, found.known, found.calls, found.rated, found.failed) == (3, 0, 3, 3, {})
    found = scores(run)
    assert found["alpaca_audio"].leading.value == pytest.approx(0.8)  # and 0.2 by the first digit
    assert found["wavcaps"].leading.value == pytest.approx(0.8 / 2), "an empty answer is zero, and needs no judge"
    asked = next(body for body in stub.asked if "primary" in json.dumps(body))
    assert asked["temperature"] == 0
    assert asked["max_tokens"] == 1024
    assert asked["model"] == "gpt-4o-2024-11-20"
    assert [message["role"] for message in asked["messages"]] == ["user"], "no system message"
    text = asked["messages"][0]["content"]
    assert all(
        part in text for part in ("Name three primary colours.", "Red, blue and yellow.", "{really}", "Score 5:")
    )


def test_nothing_is_paid_for_twice(run):
    with served(lambda number, body: "Rating: 3") as (url, stub):
        judge_run(run, JudgeSettings(url=url))
        assert len(stub.asked) == 3
        again = judge_run(run, JudgeSettings(url=url))
        assert (again.known, again.calls, len(stub.asked)) == (3, 0, 3)
        judge_run(run, JudgeSettings(url=url, model="another"))
        assert len(stub.asked) == 6, "another judge is another opinion"


def test_a_busy_server_is_asked_again(run):
    with served(lambda number, body: {0: 429, 1: 500, 2: 429, 4: "garbage"}.get(number, (0.05, "Rating: 5"))) as (
        url,
        stub,
    ):
        found = judge_run(run, JudgeSettings(url=url, concurrency=1))
    assert found.rated + len(found.failed) == 3
    assert found.rated >= 2
    assert found.calls < len(stub.asked), "what the client repeats by itself is no call of the budget"


def test_verdicts_without_a_rating_are_asked_for_again_then_failures(run):
    def say(number, body):
        if "Paris" in json.dumps(body):
            return "I would rather not."
        return "Hm." if len(body["messages"]) == 1 else "Rating: 2"

    with served(say) as (url, stub):
        found = judge_run(run, JudgeSettings(url=url, attempts=3))
        assert list(found.failed) == ["alpaca_audio 000001"]
        assert "no rating in 3 verdicts" in found.failed["alpaca_audio 000001"]
        assert found.calls == len(stub.asked) == 3 + 2 + 2
        score = scores(run)["alpaca_audio"]
        assert (score.unjudged, score.leading.items, score.leading.value) == (1, 1, pytest.approx(0.4)), "never a zero"
        judge_run(run, JudgeSettings(url=url, attempts=1))
        assert len(stub.asked) == 8, "only the failure is asked again"


def test_a_slow_server_is_waited_for_only_so_long(run, monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with served(lambda number, body: (1.0, "Rating: 5")) as (url, _):
        found = judge_run(run, JudgeSettings(url=url, timeout=0.05, concurrency=3))
    assert found.rated == 0
    assert len(found.failed) == 3
    assert "Timeout" in next(iter(found.failed.values()))


def test_a_budget_of_calls_holds(run):
    with served(lambda number, body: "Rating: 1") as (url, stub):
        found = judge_run(run, JudgeSettings(url=url, max_calls=2))
        assert (found.calls, found.rated, found.left, len(stub.asked)) == (2, 2, 1, 2)
        rest = judge_run(run, JudgeSettings(url=url, max_calls=2))
        assert (rest.known, rest.calls, rest.left) == (2, 1, 0)
    assert len(read_jsonl(run / "judge.jsonl")) == 3


def test_a_dry_run_asks_for_nothing(run):
    with served(lambda number, body: "Rating: 1") as (url, stub):
        found = judge_run(run, JudgeSettings(url=url), dry_run=True)
        assert not stub.asked
    assert found.calls == 3
    assert 600 < found.tokens < 1500
    assert not (run / "judge.jsonl").exists()


@pytest.mark.parametrize(("status", "said"), [(401, "refuses the key"), (404, "no model")])
def test_what_cannot_get_better_stops_at_once(run, status, said):
    with served(lambda number, body: status) as (url, _), pytest.raises(CoatError, match=said):
        judge_run(run, JudgeSettings(url=url))
