"""A model of this process, by transformers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

from coat.evaluation.answerers.base import Request
from coat.generation import Reply, reply_to_many
from coat.thinking.model import CoatModel


class LocalAnswerer:
    """Answers in batches of like length.

    Args:
        model: In evaluation mode.
        place: Where it came from, for the record.
        fingerprint: Of its weights, from :mod:`coat.evaluation.fingerprint`.
        batch_size: Questions at a time.
    """

    backend = "transformers"

    def __init__(self, model: CoatModel, *, place: str = "", fingerprint: str = "", batch_size: int = 32) -> None:
        self.model = model
        self.place = place
        settings = model.settings
        block = f"{settings.placement}, {settings.pace}, {settings.fill}" if settings.enabled else "no block"
        dtype = next(model.backbone.model.parameters()).dtype
        self.fingerprint = f"{fingerprint} | {block} | {dtype}"
        self.profile = model.backbone.family
        self.batch_size = batch_size

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Exception]]:
        """See :class:`coat.evaluation.answerers.base.Answerer`."""
        backbone = self.model.backbone
        hears = backbone.hearing.max_seconds if backbone.max_clips is None else None
        by_limit: dict[int, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            by_limit[request.max_new_tokens].append(index)
        for limit, chosen in by_limit.items():
            replies = reply_to_many(
                self.model,
                [partial(requests[index].conversation, hears) for index in chosen],
                [requests[index].seconds for index in chosen],
                batch_size=self.batch_size,
                max_new_tokens=limit,
            )
            yield from ((chosen[place], reply) for place, reply in replies)
