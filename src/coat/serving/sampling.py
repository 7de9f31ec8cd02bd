"""Many requests in one batch, each decoded by its own rules, each heard as its tokens come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from coat.serving.schema import Options


class RowSampler(LogitsProcessor):
    """Chooses each row's next token by that row's temperature, top-p and seed.

    What is not chosen is set to minus infinity, so that greedy search takes the choice. A row draws from a
    generator of its own: what it is batched with changes nothing.
    """

    def __init__(self, options: Sequence[Options]) -> None:
        self.options = options
        self.generators = [_generator(option.seed) for option in options]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(B, V)`` with one token left in rows that sample."""
        for row, (option, generator) in enumerate(zip(self.options, self.generators, strict=True)):
            if option.temperature > 0:
                choice = _draw(scores[row].float().cpu() / option.temperature, option.top_p, generator)
                kept = scores[row, choice].clone()
                scores[row] = float("-inf")
                scores[row, choice] = kept
        return scores


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    return generator


def _draw(logits: Tensor, top_p: float, generator: torch.Generator) -> int:
    probabilities, order = logits.softmax(-1).sort(descending=True)
    # The most likely token always stays; those whose predecessors already hold top_p go.
    probabilities[probabilities.cumsum(-1) - probabilities >= top_p] = 0
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


class RowListener(BaseStreamer):
    """Hands every row's new token to whoever listens to it."""

    def __init__(self, hear: Callable[[int, int], None]) -> None:
        self.hear = hear
        self.started = False

    def put(self, value: Tensor) -> None:
        """A step's tokens ``(B,)``; first of all comes the prompt, which is skipped."""
        if not self.started:
            self.started = True
            return
        for row, token in enumerate(value.tolist()):
            self.hear(row, token)

    def end(self) -> None:
        """Nothing to do: the batch's owner knows."""


class RowStops(StoppingCriteria):
    """Stops rows that are finished, one by one."""

    def __init__(self, finished: Callable[[], list[bool]]) -> None:
        self.finished = finished

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """``(B,)``, True where a row is done."""
        return torch.tensor(self.finished(), device=input_ids.device)
