"""A model of this process, by transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

from coat.config.thinking import ThinkingConfig
from coat.evaluation.backends.base import Request
from coat.generation import Question, Reply, reply_to_many
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import PromptBuilder


class TransformersBackend:
    """Answers so many at a time, those of like length together.

    Args:
        model: In evaluation mode.
        model_path: The model's path or name, for the record.
        fingerprint: Fingerprint of its weights, from :mod:`coat.checkpoints.fingerprint`.
        profile: The family whose prompts are used; the model's own if empty.
        thinking: Ask it to think in another way than it was trained to; its own if None.
        builder: Builds the prompts, where no configuration says how; made from ``thinking`` if None.
        batch_size: Questions at a time.
    """

    name = "transformers"

    def __init__(
        self,
        model: ThinkingModel,
        *,
        model_path: str = "",
        fingerprint: str = "",
        profile: str = "",
        thinking: ThinkingConfig | None = None,
        builder: PromptBuilder | None = None,
        batch_size: int = 32,
    ) -> None:
        self.model = model
        self.model_path = model_path
        thinking = thinking or model.thinking
        self.builder = builder or model.prompt_builder(thinking)
        block = json.dumps(asdict(thinking)) if thinking.enabled else "no block"
        dtype = next(model.backbone.model.parameters()).dtype
        self.fingerprint = f"{fingerprint} | {block} | {dtype}"
        self.profile = profile or model.backbone.family
        self.batch_size = batch_size

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Exception]]:
        """See :class:`coat.evaluation.backends.base.Backend`."""
        backbone = self.model.backbone
        hears = backbone.audio_spec.max_seconds if backbone.max_clips is None else None
        questions = [
            Question(partial(request.conversation, hears), request.seconds, request.max_new_tokens)
            for request in requests
        ]
        yield from reply_to_many(self.model, questions, builder=self.builder, batch_size=self.batch_size)
