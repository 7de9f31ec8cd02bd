"""The queue, the batches, and the rules of each row."""

import threading
import time

import pytest
import torch

from coat.audio import Clip
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.generation import generate
from coat.generation.decoding import Decoding
from coat.serving.engine import Engine, EngineLimits, QueueFullError, _overlap
from coat.serving.sampling import RowSampler
from coat.serving.schema import Options
from coat.thinking.batch import encode
from tests.serving.conftest import tone


def item(text="What note is this?", seconds=1.0):
    return Conversation([{"role": "user", "content": f"<audio>{text}"}], [Clip(tone(seconds), 16_000)], "question")


class Ear:
    """What one request hears."""

    def __init__(self):
        self.pieces, self.over = [], threading.Event()

    def __call__(self, piece):
        if piece is None:
            self.over.set()
        else:
            self.pieces.append(piece)

    def wait(self):
        assert self.over.wait(60)
        return "".join(self.pieces)


@pytest.fixture
def engine(coat_model):
    engine = Engine(coat_model.model, EngineLimits(max_batch=4, max_wait=0.2, max_queue=3))
    yield engine
    engine.stop()


def test_pieces_join_to_the_library_s_answer(engine, coat_model):
    ear = Ear()
    job = engine.submit(item("What is said?"), Options(max_tokens=40), ear)
    assert ear.wait().strip() == generate(coat_model.model, [item("What is said?")], max_new_tokens=40)[0]
    assert job.finish_reason in ("stop", "length")
    assert job.text == "".join(ear.pieces)
    assert job.arrived <= job.started <= job.first_token


def test_one_batch_keeps_each_request_s_own_rules(engine):
    options = [Options(max_tokens=1), Options(max_tokens=20), Options(max_tokens=20, temperature=1.0, seed=3)]
    ears = [Ear() for _ in options]
    jobs = [engine.submit(item(), o, ear) for o, ear in zip(options, ears, strict=True)]
    [ear.wait() for ear in ears]
    assert [len(job.tokens) <= o.max_tokens for job, o in zip(jobs, options, strict=True)] == [True] * 3
    assert (len(jobs[0].tokens), jobs[0].finish_reason) == (1, "length")
    alone = Ear()
    again = engine.submit(item(), options[2], alone)
    alone.wait()
    assert again.tokens == jobs[2].tokens  # sampled, and yet the same without company


def test_budgets_share_a_batch_and_change_no_answer(coat_model):
    sizes = []
    engine = Engine(coat_model.model, EngineLimits(max_batch=8, max_wait=0.3), sizes.append)
    budgets = ((True, None), (False, None), (True, 1), (True, 2), (True, 4), (False, 2))
    options = [Options(max_tokens=8, think=think, stride=stride) for think, stride in budgets]
    ears = [Ear() for _ in options]
    jobs = [engine.submit(item(), o, ear) for o, ear in zip(options, ears, strict=True)]
    [ear.wait() for ear in ears]
    assert sizes == [6]
    assert [job.num_think_tokens for job in jobs] == [27, 0, 27, 15, 9, 0]  # of 25 audio tokens, with two ends
    for o, job in zip(options, jobs, strict=True):
        alone = Ear()
        again = engine.submit(item(), o, alone)
        alone.wait()
        assert again.tokens == job.tokens
    engine.stop()


def test_who_comes_while_others_are_answered_does_not_wait_for_them(engine):
    """It joins between two of their tokens, and neither's answer is another for it."""
    ends = dict.fromkeys(engine.model.backbone.end_ids, -100.0)
    long, short = Options(max_tokens=300, logit_bias=ends), Options(max_tokens=3)
    first, second = Ear(), Ear()
    slow = engine.submit(item("What is said?"), long, first)
    while not slow.tokens:
        time.sleep(0.001)
    quick = engine.submit(item(), short, second)
    second.wait()
    assert quick.finish_reason is not None
    assert slow.finish_reason is None
    assert slow.started < quick.started
    first.wait()
    for text, options, job in (("What is said?", long, slow), ("What note is this?", short, quick)):
        alone = Ear()
        again = engine.submit(item(text), options, alone)
        alone.wait()
        assert again.tokens == job.tokens


@pytest.fixture
def parts(coat_model):
    """An engine that reads a prompt of a second in some ten parts."""
    engine = Engine(coat_model.model, EngineLimits(max_batch=4, max_wait=0.0, max_read_tokens=8))
    yield engine
    engine.stop()


def test_others_go_on_while_a_long_prompt_is_read(parts):
    """A part between two of their tokens; what is answered is the same."""
    ends = dict.fromkeys(parts.model.backbone.end_ids, -100.0)
    first, second = Ear(), Ear()
    slow = parts.submit(item("What is said?"), Options(max_tokens=200, logit_bias=ends), first)
    while not slow.tokens:
        time.sleep(0.001)
    came = len(slow.tokens)
    late = parts.submit(item(), Options(max_tokens=3), second)
    second.wait()
    assert len(slow.tokens) - came >= late.num_prompt_tokens // 8 - 1
    first.wait()
    for text, job in (("What is said?", slow), ("What note is this?", late)):
        alone = Ear()
        again = parts.submit(item(text), job.options, alone)
        alone.wait()
        assert again.tokens == job.tokens


def test_who_leaves_while_read_is_told_so_and_holds_up_nobody(parts):
    ears = [Ear(), Ear(), Ear()]
    ends = dict.fromkeys(parts.model.backbone.end_ids, -100.0)
    slow = parts.submit(item("What is said?"), Options(max_tokens=300, logit_bias=ends), ears[2])
    while not slow.tokens:
        time.sleep(0.001)
    gone = parts.submit(item("Repeat: " + "dog " * 60), Options(max_tokens=5), ears[0])
    while gone.started is None:
        time.sleep(0.0005)
    gone.cancelled = True
    here = parts.submit(item(), Options(max_tokens=2), ears[1])
    assert ears[0].wait() == ""
    ears[1].wait()
    assert here.finish_reason is not None
    assert slow.finish_reason is None
    assert not gone.tokens


def test_a_part_that_fails_ends_that_request_alone(parts, monkeypatch):
    first, bad = Ear(), Ear()
    ends = dict.fromkeys(parts.model.backbone.end_ids, -100.0)
    slow = parts.submit(item("What is said?"), Options(max_tokens=60, logit_bias=ends), first)
    while not slow.tokens:
        time.sleep(0.001)
    with monkeypatch.context() as patch:
        patch.setattr(Decoding, "_join", lambda *_: 1 / 0)
        job = parts.submit(item(), Options(max_tokens=2), bad)
        bad.wait()
    assert isinstance(job.error, ZeroDivisionError)
    first.wait()
    assert len(slow.tokens) == 60


def test_cancelled_requests_leave(engine):
    ear = Ear()
    job = engine.submit(item("Repeat: " + "dog " * 20), Options(max_tokens=400), ear)
    job.cancelled = True
    ear.wait()
    assert len(job.tokens) < 400


def test_a_full_queue_and_a_stopped_engine_say_so(coat_model):
    engine = Engine(coat_model.model, EngineLimits(max_batch=1, max_queue=1, max_wait=0.0))
    first, jobs = Ear(), []

    def flood():
        for _ in range(20):
            jobs.append(engine.submit(item(), Options(max_tokens=50), first))  # noqa: PERF401 - kept when it raises

    with pytest.raises(QueueFullError):
        flood()
    engine.stop()
    assert not engine.alive
    waiting = [job for job in jobs if isinstance(job.error, CoatError)]
    assert all("shutting down" in str(job.error) for job in waiting)
    assert all(job.done for job in jobs)


def test_a_batch_that_fails_does_not_end_the_worker(engine, monkeypatch):
    bad = Ear()
    with monkeypatch.context() as patch:
        patch.setattr(engine.model, "prepare_prefill", lambda batch: 1 / 0)
        job = engine.submit(item(), Options(max_tokens=2), bad)
        bad.wait()
    assert isinstance(job.error, ZeroDivisionError)
    good = Ear()
    assert engine.submit(item(), Options(max_tokens=2), good)
    assert good.wait() is not None


def test_a_request_whose_rules_fail_leaves_alone(engine, monkeypatch):
    bad, good = Ear(), Ear()
    failing = engine.submit(item(), Options(max_tokens=20, temperature=1.0, seed=0), bad)
    monkeypatch.setattr(failing.sampler, "choose", lambda said, scores: 1 / 0)
    beside = engine.submit(item(), Options(max_tokens=3), good)
    bad.wait()
    good.wait()
    assert isinstance(failing.error, ZeroDivisionError)
    assert beside.error is None
    assert beside.finish_reason is not None


def test_prompts_that_are_too_long_are_refused(coat_model):
    engine = Engine(coat_model.model, EngineLimits(max_prompt_tokens=50))
    with pytest.raises(CoatError, match="at most 50 are served"):
        engine.submit(item(), Options(), Ear())
    engine.stop()


@pytest.mark.parametrize(
    ("text", "stop", "held"), [("abc", "cde", 1), ("abcd", "cde", 2), ("abc", "x", 0), ("aa", "aab", 2), ("", "ab", 0)]
)
def test_the_beginning_of_a_stop_text_is_held_back(text, stop, held):
    assert _overlap(text, stop) == held


def test_text_grows_piece_by_piece_whatever_is_settled(engine, monkeypatch):
    """Characters of several tokens, over many settlings, and no decoding of the whole answer each time."""
    from coat.serving import engine as module

    monkeypatch.setattr(module, "SETTLE_EVERY", 3)
    tokenizer = engine.model.backbone.tokenizer
    text = "naïve 東京 🎵 the red dog 🎶🎶 finds boats é"
    ears = Ear()
    job = module.Job(encode(engine.model.builder, item()), Options(max_tokens=10_000), ears)
    for token in tokenizer(text)["input_ids"]:
        engine._hear(job, token, frozenset())
    assert "".join(ears.pieces) == text == job.text
    assert len(ears.pieces) > 10
    assert job.settled[0] > len(job.tokens) - 12


def test_rows_are_drawn_as_they_are_told():
    scores = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    counts = torch.zeros(3, 4)
    options = [Options(), Options(temperature=1.0, seed=0), Options(temperature=1.0, top_p=0.7, seed=1)]
    for row, option in enumerate(options):
        sampler = RowSampler(option)
        assert sampler.is_greedy == (row == 0)
        for _ in range(2000):
            counts[row, sampler.choose([], scores.clone())] += 1
    assert counts[0].tolist() == [2000, 0, 0, 0]
    torch.testing.assert_close(counts[1] / 2000, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03, rtol=0)
    torch.testing.assert_close(counts[2] / 2000, torch.tensor([0.625, 0.375, 0, 0]), atol=0.03, rtol=0)
