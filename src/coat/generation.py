"""Answers: one prefill that holds the block, then plain greedy decoding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from coat.audio import Clip
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import Conversation
from coat.thinking.batch import Encoded, collate, encode
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import PromptBuilder

LOADERS = 4
# Embeddings of clips that are kept: benchmarks ask several questions about one clip, in several orders of options.
KEPT_BYTES = 2**30


@dataclass(frozen=True)
class Reply:
    """An answer and what it took.

    Attributes:
        text: Text of the answer.
        prompt_tokens: Tokens of the prefill, block included.
        think_tokens: Those of them in blocks, their ends included; None where a server does not say.
        new_tokens: Decoded, the end of the turn included.
        finished: False if it was cut at the most tokens.
    """

    text: str
    prompt_tokens: int
    think_tokens: int | None
    new_tokens: int
    finished: bool


@torch.inference_mode()
def generate(
    model: ThinkingModel,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int = 256,
    thinking: ThinkingConfig | None = None,
    **options: Any,
) -> list[str]:
    """Answer some conversations as one batch: greedily, unless options say otherwise.

    Args:
        model: In evaluation mode.
        conversations: Each ends with a user turn.
        max_new_tokens: Most tokens of an answer.
        thinking: Think in another way than the model was trained to, for example not at all.
        **options: Options of transformers' ``generate``: ``temperature``, ``top_p``, ``repetition_penalty``, others. A
            temperature above zero samples. Penalties count the answer's tokens, for the prompt comes as embeddings.

    Returns:
        One answer each.
    """
    builder = model.builder if thinking is None else model.prompt_builder(thinking)
    encoded = [encode(builder, conversation) for conversation in conversations]
    return [reply.text for reply in reply_to(model, encoded, max_new_tokens=max_new_tokens, **options)]


@torch.inference_mode()
def reply_to(
    model: ThinkingModel,
    encoded: Sequence[Encoded],
    *,
    max_new_tokens: int,
    embeddings: Embeddings | None = None,
    **options: Any,
) -> list[Reply]:
    """Answer some conversations as one batch; see :func:`generate`.

    Args:
        model: In evaluation mode.
        encoded: From :func:`coat.thinking.batch.encode`.
        max_new_tokens: Most tokens of an answer.
        embeddings: Keeps those of clips that are asked about again.
        **options: See :func:`generate`.
    """
    if embeddings is not None:
        embeddings.fill(model, encoded)
    batch = collate(model.builder, encoded, padding_side="left", embed=embeddings.of if embeddings else None)
    batch = batch.to(model.backbone.device)
    prefill = model.prepare_prefill(batch)
    tokenizer = model.backbone.tokenizer
    ends = set(model.backbone.end_ids)
    temperature = options.pop("temperature", 0.0)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    asked = {
        "max_new_tokens": max_new_tokens,
        "suppress_tokens": list(model.tokens.ids),  # think tokens are consumed, never produced
        **sampling,
        **options,
    }
    new = model.backbone.generate(**prefill, **asked)
    texts = [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    replies = []
    for row, text, item in zip(new.tolist(), texts, encoded, strict=True):
        first = next((place for place, token in enumerate(row) if token in ends), None)
        finished = first is not None
        think = sum(block.length for block in item.prompt.blocks)
        length = len(row) if first is None else first + 1
        replies.append(Reply(text, len(item.prompt.input_ids), think, length, finished))
    return replies


def reply_to_many(
    model: ThinkingModel,
    load: Sequence[Callable[[], Conversation]],
    lengths: Sequence[float],
    *,
    builder: PromptBuilder | None = None,
    batch_size: int = 32,
    max_new_tokens: int = 256,
) -> Iterator[tuple[int, Reply | Exception]]:
    """Answer many conversations, those of like length together; clips are decoded while others are answered.

    A conversation that cannot be loaded or answered gives its error, and the others go on; a batch that does not fit
    in memory is halved.

    Args:
        model: In evaluation mode.
        load: Loads one clip; called when its turn is near.
        lengths: To sort by; those of equal length stay neighbours.
        builder: Builds the prompts; the model's own if None.
        batch_size: Conversations at a time.
        max_new_tokens: See :func:`generate`.

    Yields:
        Index and reply, or what went wrong, in the order of length.
    """
    parts = batches_by_length(lengths, batch_size)
    embeddings = Embeddings()

    def ready(index: int) -> Encoded | Exception:
        try:
            return encode(builder or model.builder, load[index]())
        except Exception as error:  # of one conversation; the caller names it
            return error

    with ThreadPoolExecutor(LOADERS) as pool:
        coming = [pool.submit(ready, index) for index in parts[0]] if parts else []
        for number, part in enumerate(parts):
            encoded = [future.result() for future in coming]
            coming = [pool.submit(ready, index) for index in parts[number + 1]] if number + 1 < len(parts) else []
            good = [(i, item) for i, item in zip(part, encoded, strict=True) if isinstance(item, Encoded)]
            yield from ((i, item) for i, item in zip(part, encoded, strict=True) if isinstance(item, Exception))
            yield from _replies(model, good, max_new_tokens, embeddings)


def batches_by_length(lengths: Sequence[float], batch_size: int) -> list[list[int]]:
    """Places of those of like length together, the longest first; those of equal length stay in order."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _replies(
    model: ThinkingModel, part: list[tuple[int, Encoded]], max_new_tokens: int, embeddings: Embeddings
) -> Iterator[tuple[int, Reply | Exception]]:
    """One batch; in halves where it fails, until what fails stands alone."""
    if not part:
        return
    try:
        replies = reply_to(model, [item for _, item in part], max_new_tokens=max_new_tokens, embeddings=embeddings)
    except Exception as error:
        embeddings.clear()
        if isinstance(error, torch.cuda.OutOfMemoryError):
            torch.cuda.empty_cache()
        if len(part) == 1:
            yield part[0][0], error
            return
        for half in (part[: len(part) // 2], part[len(part) // 2 :]):
            yield from _replies(model, half, max_new_tokens, embeddings)
        return
    yield from zip((index for index, _ in part), replies, strict=True)


class Embeddings:
    """The tower's states of clips, so that a clip that is asked about again is encoded once.

    Args:
        kept_bytes: The oldest go beyond this; clips of the batch that is being answered stay.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self.rows: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def fill(self, model: ThinkingModel, encoded: Sequence[Encoded]) -> None:
        """Encode the clips that are new, all at once."""
        new: dict[tuple[str, int], Any] = {}
        wanted = set()
        for item in encoded:
            for clip, waveform, length in zip(item.clips, item.waveforms, item.num_audio_tokens, strict=True):
                key = clip.content_key, length
                wanted.add(key)
                if key in self.rows:
                    self.rows.move_to_end(key)
                else:
                    new[key] = waveform
        if not new:
            return
        features = model.backbone.audio_features(list(new.values()))
        features = replace(features, values=features.values.to(model.backbone.device))
        self.rows.update(zip(new, model.backbone.tower_states(features), strict=True))
        held = sum(row.nbytes for row in self.rows.values())
        while held > self.kept_bytes and len(self.rows) > len(wanted):
            held -= self.rows.popitem(last=False)[1].nbytes

    def of(self, clip: Clip, length: int) -> Tensor:
        """The tower's states of a clip with so many audio tokens, ``(L_a, audio_size)``."""
        return self.rows[clip.content_key, length]

    def clear(self) -> None:
        """Forget all."""
        self.rows.clear()
