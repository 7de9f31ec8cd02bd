"""Many questions, as evaluations ask them: answered greedily, so many at a time, the next where one is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import torch

from coat.data.conversation import Conversation
from coat.generation.decoding import Decoding
from coat.generation.embeddings import Embeddings
from coat.generation.replies import Reply, as_reply
from coat.thinking.batch import Encoded, collate, encode
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import PromptBuilder

LOADERS = 4
# Prompts are read when this share of the places is free: a pass over few is no faster than one over some more.
READ_SHARE = 0.25


@dataclass(frozen=True)
class Question:
    """One of many.

    Attributes:
        load: Decodes the clips; called when its turn is near.
        seconds: Seconds of audio, to sort by.
        max_new_tokens: Most tokens of the answer.
    """

    load: Callable[[], Conversation]
    seconds: float
    max_new_tokens: int = 256


@torch.inference_mode()
def reply_to_many(
    model: ThinkingModel, questions: Sequence[Question], *, builder: PromptBuilder | None = None, batch_size: int = 32
) -> Iterator[tuple[int, Reply | Exception]]:
    """Answer many questions, those of like length together; clips are decoded while others are answered.

    A question that cannot be loaded or answered gives its error, and the others go on. Where memory is short, half as
    many are answered at a time from then on.

    Args:
        model: In evaluation mode.
        questions: In any order.
        builder: Builds the prompts; the model's own if None.
        batch_size: Questions at a time.

    Yields:
        Index and reply, or what went wrong, as they come.
    """
    rows = _Rows(model)

    def ready(index: int) -> _Row | Exception:
        try:
            encoded = encode(builder or model.builder, questions[index].load())
        except Exception as error:  # of one question; the caller names it
            return error
        return _Row(index, encoded, questions[index].max_new_tokens)

    with ThreadPoolExecutor(LOADERS) as pool:
        waiting = iter(sorted(range(len(questions)), key=lambda place: -questions[place].seconds))
        coming: deque[tuple[int, Future[_Row | Exception]]] = deque()
        while True:
            coming.extend((i, pool.submit(ready, i)) for i in islice(waiting, max(0, batch_size - len(coming))))
            part = []
            room = batch_size - len(rows.rows)
            if room >= READ_SHARE * batch_size:
                for index, future in (coming.popleft() for _ in range(min(room, len(coming)))):
                    row = future.result()
                    if isinstance(row, Exception):
                        yield index, row
                    else:
                        part.append(row)
            if not (part or rows.rows or coming):
                return
            try:
                rows.read(part)
                yield from rows.step()
            except Exception as error:
                failed = rows.forget()
                if isinstance(error, MemoryError | torch.OutOfMemoryError):
                    batch_size = max(1, len(failed) // 2)
                yield from _in_halves(rows, failed, error)


def _in_halves(rows: _Rows, failed: list[_Row], error: Exception) -> Iterator[tuple[int, Reply | Exception]]:
    """Answer what failed together, until what fails stands alone."""
    if len(failed) == 1:
        yield failed[0].index, error
        return
    for half in (failed[: len(failed) // 2], failed[len(failed) // 2 :]):
        try:
            rows.read(half)
            while rows.rows:
                yield from rows.step()
        except Exception as again:
            yield from _in_halves(rows, rows.forget(), again)


@dataclass
class _Row:
    """A question that is being answered."""

    index: int
    encoded: Encoded
    max_new_tokens: int
    tokens: list[int] = field(default_factory=list)


class _Rows:
    """Questions that are being answered, a token of each at a time."""

    def __init__(self, model: ThinkingModel) -> None:
        self.model = model
        self.ends = frozenset(model.backbone.end_ids)
        self.decoding = Decoding(model.backbone, model.tokens.ids)
        self.embeddings = Embeddings()
        self.rows: list[_Row] = []

    def read(self, part: list[_Row]) -> None:
        """Read the prompts of some, which are answered with the others from then on."""
        if not part:
            return
        self.rows = self.rows + part
        encoded = [row.encoded for row in part]
        self.embeddings.fill(self.model, encoded)
        batch = collate(self.model.builder, encoded, padding_side="left", embed=self.embeddings.of)
        prompts = self.model.prepare_prefill(batch.to(self.model.backbone.device))
        for _ in self.decoding.read(**prompts):
            pass

    def step(self) -> Iterator[tuple[int, Reply]]:
        """One more token of everyone; those that are done leave."""
        if not self.rows:
            return
        tokens = self.decoding.likeliest()
        for row, token in zip(self.rows, tokens, strict=True):
            row.tokens.append(token)
        done = [row.tokens[-1] in self.ends or len(row.tokens) >= row.max_new_tokens for row in self.rows]
        left = [row for row, is_done in zip(self.rows, done, strict=True) if is_done]
        staying = [place for place, is_done in enumerate(done) if not is_done]
        self.rows = [self.rows[place] for place in staying]
        for row in left:
            yield row.index, as_reply(self.model, row.encoded, row.tokens)
        self.decoding.keep(staying)
        self.decoding.step([tokens[place] for place in staying])

    def forget(self) -> list[_Row]:
        """Give back all that are being answered, from their beginning."""
        rows, self.rows = self.rows, []
        self.decoding.clear()
        self.embeddings.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for row in rows:
            row.tokens = []
        return rows
