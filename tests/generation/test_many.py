"""Many questions: so many at a time, the next where one is done, and each as it would be answered alone."""

import pytest
import torch

from coat.generation import Question, Reply, generate, reply_to_many
from coat.generation.decoding import Decoding
from coat.testing.clips import conversation
from coat.thinking.model import ThinkingModel

CONVERSATIONS = [
    conversation(0.5, answer=None),
    conversation(1.3, text="Describe the audio.", answer=None, seed=2),
    conversation(text="hello", answer=None),
    conversation(0.3, 0.9, answer=None, seed=3),
    conversation(0.7, answer=None, seed=4),
    conversation(2.1, answer=None, seed=5),
]
LIMITS = [8, 3, 12, 1, 5, 2]


@pytest.fixture
def model(backbone):
    return ThinkingModel(backbone).eval()


def questions():
    return [
        Question(lambda item=item: item, sum(clip.seconds for clip in item.clips), limit)
        for item, limit in zip(CONVERSATIONS, LIMITS, strict=True)
    ]


def alone(model):
    return [generate(model, [item], max_new_tokens=limit)[0] for item, limit in zip(CONVERSATIONS, LIMITS, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 32])
def test_each_is_answered_as_alone_up_to_its_own_limit(model, size):
    replies = dict(reply_to_many(model, questions(), batch_size=size))
    assert [replies[index].text for index in range(6)] == alone(model)
    assert all(reply.new_tokens <= limit for reply, limit in zip(map(replies.get, range(6)), LIMITS, strict=True))


def test_places_are_taken_as_they_become_free(model, monkeypatch):
    """One long answer does not keep the others waiting: it is decoded beside all of them."""
    rows = []
    step = Decoding.step
    monkeypatch.setattr(Decoding, "step", lambda self, tokens: (rows.append(len(tokens)), step(self, tokens)))
    monkeypatch.setattr(model.backbone, "end_ids", [])
    asked = [Question(lambda item=CONVERSATIONS[0]: item, 0.5, 24)]
    asked += [Question(lambda item=CONVERSATIONS[4]: item, 0.4, 4) for _ in range(5)]
    replies = list(reply_to_many(model, asked, batch_size=2))
    assert [index for index, _ in replies] == [1, 2, 3, 4, 5, 0]
    assert sum(rows) == 23 + 5 * 3  # a place that is free is filled, and one that cannot be is not computed
    assert len([count for count in rows if count == 2]) == 5 * 3


def test_what_fails_at_any_token_is_answered_in_halves(model, monkeypatch):
    """Memory that is short after some tokens: nothing is lost, and fewer are answered at a time from then on."""
    together = []
    step = Decoding.step

    def tight(self, tokens):
        if len(tokens) > 2 and len(together) >= 3:
            raise torch.OutOfMemoryError("no memory")
        together.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(Decoding, "step", tight)
    monkeypatch.setattr(model.backbone, "end_ids", [])
    replies = list(reply_to_many(model, [Question(q.load, q.seconds, 6) for q in questions()], batch_size=4))
    assert sorted(index for index, _ in replies) == list(range(6))
    assert all(isinstance(reply, Reply) and reply.new_tokens == 6 for _, reply in replies)
    assert max(together[3:]) <= 2


def test_what_fails_alone_is_named_and_the_others_go_on(model):
    def broken():
        raise OSError("no such file")

    asked = questions()
    asked[1] = Question(broken, 1.3)
    expected = alone(model)
    replies = dict(reply_to_many(model, asked, batch_size=3))
    assert str(replies.pop(1)) == "no such file"
    assert {index: reply.text for index, reply in replies.items()} == {
        index: text for index, text in enumerate(expected) if index != 1
    }
