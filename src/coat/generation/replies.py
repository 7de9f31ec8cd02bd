"""One batch of conversations, answered by transformers' own ``generate`` with all of its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from coat.config.thinking import ThinkingConfig
from coat.data.conversation import Conversation
from coat.thinking.batch import Encoded, collate, encode
from coat.thinking.model import ThinkingModel


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
def reply_to(model: ThinkingModel, encoded: Sequence[Encoded], *, max_new_tokens: int, **options: Any) -> list[Reply]:
    """Answer some conversations as one batch; see :func:`generate`.

    Args:
        model: In evaluation mode.
        encoded: From :func:`coat.thinking.batch.encode`.
        max_new_tokens: Most tokens of an answer.
        **options: See :func:`generate`.
    """
    batch = collate(model.builder, encoded, padding_side="left").to(model.backbone.device)
    prefill = model.prepare_prefill(batch)
    temperature = options.pop("temperature", 0.0)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    asked = {
        "max_new_tokens": max_new_tokens,
        "suppress_tokens": list(model.tokens.ids),  # think tokens are consumed, never produced
        **sampling,
        **options,
    }
    new = model.backbone.generate(**prefill, **asked)
    return [as_reply(model, item, row) for row, item in zip(new.tolist(), encoded, strict=True)]


def as_reply(model: ThinkingModel, encoded: Encoded, tokens: Sequence[int]) -> Reply:
    """The reply that some new tokens are, up to the end of the turn if it is among them.

    Args:
        model: It said them.
        encoded: The prompt that they follow.
        tokens: New token ids; what follows the end is padding.
    """
    ends = model.backbone.end_ids
    last = next((place for place, token in enumerate(tokens) if token in ends), None)
    said = tokens if last is None else tokens[: last + 1]
    text = model.backbone.tokenizer.decode(said, skip_special_tokens=True).strip()
    think = sum(block.length for block in encoded.prompt.blocks)
    return Reply(text, len(encoded.prompt.input_ids), think, len(said), last is not None)
