"""Requests in a queue, a worker that answers many at once, a token of each at a time.

What comes while others are being answered joins them before their next token, up to a limit; what comes to a free
model waits a moment for company. Each request hears its own tokens as they are made, and leaves when it is finished
or given up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch

from coat.data.conversation import Conversation, texts_of
from coat.errors import CoatError
from coat.generation.decoding import Decoding
from coat.serving.sampling import RowSampler
from coat.serving.schema import Options
from coat.thinking.batch import Encoded, collate, encode
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import PromptBuilder

REPLACEMENT = "�"
SETTLE_EVERY = 32
# A text with more bytes for each token that a prompt may hold is refused before it is tokenised, which takes seconds
# for megabytes. English has four bytes a token, other scripts fewer.
BYTES_A_TOKEN = 16


@dataclass(frozen=True)
class EngineLimits:
    """Limits of the engine.

    Attributes:
        max_batch: Requests answered together.
        max_wait: Seconds to wait for company when the model is free.
        max_queue: Requests that may wait.
        max_prompt_tokens: Longest prompt, block included.
        max_read_tokens: Positions of prompts that are read between two tokens of those who are being answered.
    """

    max_batch: int = 16
    max_wait: float = 0.01
    max_queue: int = 128
    max_prompt_tokens: int = 16_384
    max_read_tokens: int = 1024


@dataclass
class Job:
    """One request on its way.

    Attributes:
        encoded: The request's prompt, and its clips at the backbone's rate.
        options: Options of generation.
        hear: Called from the worker with each new piece of text, and with None at the end.
        text: The answer so far.
        tokens: Token ids.
        finish_reason: ``stop`` or ``length``; None while it is being made.
        error: Why there is no answer.
        cancelled: Nobody waits any more.
        arrived, started, first_token: Times on the monotonic clock.
        heard: Characters of the answer that were handed out.
        settled: Tokens whose text will not change any more, and that text.
        sampler: Chooses its tokens.
    """

    encoded: Encoded
    options: Options
    hear: Callable[[str | None], None]
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    error: Exception | None = None
    cancelled: bool = False
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_token: float | None = None
    heard: int = 0
    settled: tuple[int, str] = (0, "")
    sampler: RowSampler = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = RowSampler(self.options, self.encoded.prompt.input_ids)

    @property
    def done(self) -> bool:
        """Nothing more will come."""
        return self.finish_reason is not None or self.cancelled or self.error is not None

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt, block included."""
        return len(self.encoded.prompt.input_ids)

    @property
    def num_audio_tokens(self) -> int:
        """L_a of all clips together."""
        return sum(self.encoded.num_audio_tokens)

    @property
    def num_think_tokens(self) -> int:
        """Tokens of blocks in the prompt, their ends included: the forced prefix of Table E."""
        return sum(block.length for block in self.encoded.prompt.blocks)


class QueueFullError(Exception):
    """More requests wait than may."""


class StoppingError(CoatError):
    """The server is going down."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down.", "Ask again elsewhere or later.")


class Engine:
    """One model, one worker thread.

    Args:
        model: In evaluation mode, on its device.
        limits: Limits of requests and batches.
        observe: Called with how many are being answered, whenever some have joined.
    """

    def __init__(
        self, model: ThinkingModel, limits: EngineLimits | None = None, observe: Callable[[int], None] | None = None
    ) -> None:
        self.model = model
        self.limits = limits or EngineLimits()
        self.observe = observe
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._reading: list[Job] = []
        self._wake = threading.Condition()
        self._tokenizing = threading.Lock()  # tokenizers do not bear two threads
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name="coat-engine", daemon=True)
        self._worker.start()

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._worker.is_alive() and not self._stopping

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that are being answered."""
        return sum(not job.done for job in self._running)

    def submit(self, conversation: Conversation, options: Options, hear: Callable[[str | None], None]) -> Job:
        """Put a request into the queue.

        Raises:
            CoatError: The conversation cannot be encoded, or is too long.
            QueueFullError: Too many wait.
            StoppingError: The engine is going down.
        """
        most = self.limits.max_prompt_tokens
        texts = chain.from_iterable(map(texts_of, conversation.messages))
        size = sum(len(text.encode(errors="replace")) for text in texts)
        if size > most * BYTES_A_TOKEN:
            raise CoatError(
                f"The text has {size:,} bytes; a prompt of {most} tokens holds at most {most * BYTES_A_TOKEN:,}.",
                "Send less text.",
            )
        encoded = encode(self._builder(options), conversation, tokenizing=self._tokenizing)
        if len(encoded.prompt.input_ids) > most:
            raise CoatError(
                f"The prompt has {len(encoded.prompt.input_ids)} tokens; at most {most} are served.",
                "Send less text or shorter audio.",
            )
        job = Job(encoded, options, hear)
        with self._wake:
            if self._stopping:
                raise StoppingError
            if len(self._waiting) >= self.limits.max_queue:
                raise QueueFullError
            self._waiting.append(job)
            self._wake.notify()
        return job

    def drain(self) -> None:
        """Refuse what waits and what comes; what is being answered goes on to its end."""
        with self._wake:
            self._stopping = True
            self._refuse_waiting()
            self._wake.notify()

    def stop(self, timeout: float = 30.0) -> None:
        """:meth:`drain`, and wait for what is being answered."""
        self.drain()
        self._worker.join(timeout)
        for job in [*self._running, *self._reading]:
            job.cancelled = True

    def _builder(self, options: Options) -> PromptBuilder:
        if not options.think:
            return self.model.builder.at(0)
        return self.model.builder.at(options.stride) if options.stride else self.model.builder

    @torch.inference_mode()
    def _work(self) -> None:
        decoding = Decoding(self.model.backbone, self.model.tokens.ids)
        parts: Iterator[None] = iter(())
        while True:
            if not self._reading:
                self._reading = self._next_jobs()
                parts = self._parts(decoding, self._reading)
                if not self._reading and not self._running:
                    return
            self._read(parts)
            try:
                self._step(decoding)
            except Exception as error:  # one bad request must not end the server
                for job in self._running:
                    job.error = job.error or error
                decoding.clear()
                self._keep(())

    def _next_jobs(self) -> list[Job]:
        """Those that may join; if nothing is being answered, wait for some, and none is the end."""
        with self._wake:
            while True:
                if not self._running:
                    self._wake.wait_for(lambda: self._stopping or bool(self._waiting))
                    if not self._stopping and len(self._waiting) < self.limits.max_batch:
                        self._wake.wait_for(
                            lambda: self._stopping or len(self._waiting) >= self.limits.max_batch, self.limits.max_wait
                        )
                jobs = self._take()
                if jobs or self._running or self._stopping:
                    return jobs

    def _take(self) -> list[Job]:
        """The oldest, as many as there is room for."""
        taken: list[Job] = []
        while self._waiting and len(self._running) + len(taken) < self.limits.max_batch:
            job = self._waiting.popleft()
            if job.cancelled:
                job.hear(None)
            else:
                taken.append(job)
        return taken

    def _refuse_waiting(self) -> None:
        for job in self._waiting:
            job.error = StoppingError()
            job.hear(None)
        self._waiting.clear()

    def _parts(self, decoding: Decoding, jobs: list[Job]) -> Iterator[None]:
        """Read the prompts of some part by part, so that one of ten minutes does not hold up the others' answers."""
        now = time.monotonic()
        for job in jobs:
            job.started = now
        batch = collate(self.model.builder, [job.encoded for job in jobs], padding_side="left")
        prompts = self.model.prepare_prefill(batch.to(self.model.backbone.device))
        yield from decoding.read(**prompts, most=self.limits.max_read_tokens if self._running else None)

    def _read(self, parts: Iterator[None]) -> None:
        """One more part of the prompts that are being read; after the last they are among those that are answered."""
        jobs = self._reading
        if not jobs:
            return
        try:
            if not all(job.done for job in jobs):
                next(parts)
                return
        except StopIteration:
            self._running = [*self._running, *jobs]
            if self.observe is not None:
                self.observe(len(self._running))
        except Exception as error:  # the others go on
            for job in jobs:
                job.error = error
                job.hear(None)
        else:  # nobody waits for them any more
            for job in jobs:
                job.hear(None)
        self._reading = []

    def _step(self, decoding: Decoding) -> None:
        """One more token of everybody; those that are done leave."""
        if not self._running:
            return
        ends = frozenset(self.model.backbone.end_ids)
        tokens = decoding.likeliest()
        for row, job in enumerate(self._running):
            try:
                if not job.sampler.is_greedy:
                    tokens[row] = job.sampler.choose(job.tokens, decoding.logits[row])
                self._hear(job, tokens[row], ends)
            except Exception as error:  # of one request's rules or listener; the others go on
                job.error = error
        staying = [row for row, job in enumerate(self._running) if not job.done]  # others may be cancelled from here on
        self._keep(staying)
        decoding.keep(staying)
        decoding.step([tokens[row] for row in staying])

    def _keep(self, rows: Sequence[int]) -> None:
        """Let all but some go, and tell them that nothing more will come."""
        kept = [self._running[row] for row in rows]
        gone = [job for row, job in enumerate(self._running) if row not in rows]
        self._running = kept
        for job in gone:
            job.hear(None)

    def _hear(self, job: Job, token: int, ends: frozenset[int]) -> None:
        """One more token of a job: text as far as it is certain, and whether it ends here."""
        if job.done:
            return
        job.first_token = job.first_token or time.monotonic()
        job.tokens.append(token)
        whole = self._text_of(job)
        if token in ends:
            self._say(job, whole)
            job.finish_reason = "stop"
            return
        stops = [whole.find(stop) for stop in job.options.stop if stop in whole]
        if stops:
            self._say(job, whole[: min(stops)])
            job.finish_reason = "stop"
        elif len(job.tokens) >= job.options.max_tokens:
            self._say(job, whole)
            job.finish_reason = "length"
        else:
            # Half a character, or what may become a stop text, waits for the next token.
            certain = whole.rstrip(REPLACEMENT)
            held = max((_overlap(certain, stop) for stop in job.options.stop), default=0)
            self._say(job, certain[: len(certain) - held])

    def _text_of(self, job: Job) -> str:
        """The answer so far. Old tokens are not decoded again and again: bytes before a whole character stay."""
        done, text = job.settled
        tail = self.model.backbone.tokenizer.decode(job.tokens[done:], skip_special_tokens=True)
        if len(job.tokens) - done >= SETTLE_EVERY and not tail.endswith(REPLACEMENT):
            job.settled = (len(job.tokens), text + tail)
        return text + tail

    def _say(self, job: Job, text: str) -> None:
        job.text = text
        if len(text) > job.heard:
            job.hear(text[job.heard :])
            job.heard = len(text)


def _overlap(text: str, stop: str) -> int:
    """How much of the end of ``text`` could be the beginning of ``stop``."""
    return max((size for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
