"""Answers: one prefill that holds the block, then plain greedy decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from coat.data.conversation import Conversation
from coat.thinking.batch import make_batch
from coat.thinking.model import CoatModel


@torch.inference_mode()
def generate(model: CoatModel, conversations: Sequence[Conversation], *, max_new_tokens: int = 256) -> list[str]:
    """Answer some conversations as one batch, greedily.

    Args:
        model: In evaluation mode.
        conversations: Each ends with a user turn.
        max_new_tokens: Where an answer is cut at the latest.

    Returns:
        One answer each.
    """
    batch = make_batch(model.builder, conversations, padding_side="left").to(model.backbone.device)
    embeddings, mask = model.prepare_prefill(batch)
    tokenizer = model.backbone.tokenizer
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        "suppress_tokens": list(model.tokens.ids),  # think tokens are consumed, never produced
        "eos_token_id": tokenizer.convert_tokens_to_ids(model.backbone.end_of_turn),
        "pad_token_id": tokenizer.pad_token_id,
    }
    new = model.backbone.generate(embeddings, mask, **options)
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def generate_many(
    model: CoatModel,
    conversations: Sequence[Callable[[], Conversation]],
    lengths: Sequence[float],
    *,
    batch_size: int = 32,
    max_new_tokens: int = 256,
) -> Iterator[tuple[int, str]]:
    """Answer many conversations, those of like length together.

    Args:
        model: In evaluation mode.
        conversations: How to load each, decoded only when its turn comes.
        lengths: To sort by.
        batch_size: Conversations at a time.
        max_new_tokens: See :func:`generate`.

    Yields:
        Index and answer, in the order of length.
    """
    order = sorted(range(len(conversations)), key=lambda i: -lengths[i])
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        answers = generate(model, [conversations[i]() for i in part], max_new_tokens=max_new_tokens)
        yield from zip(part, answers, strict=True)
