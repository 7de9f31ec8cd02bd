"""Many requests in one batch, each decoded by its own rules, each heard as its tokens come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria
from transformers.generation import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from coat.serving.schema import Options


class RowSampler(LogitsProcessor):
    """Chooses each row's next token by that row's own rules.

    What is not chosen is set to minus infinity, so that greedy search takes the choice. A row draws from a
    generator of its own: what it is batched with changes nothing.

    Args:
        options: The options of each row.
        prompts: Ids of each row's prompt, which a repetition penalty counts too.
    """

    def __init__(self, options: Sequence[Options], prompts: Sequence[Sequence[int]]) -> None:
        self.options = options
        self.generators = [_generator(option.seed) for option in options]
        self.processors = [_processors(option) for option in options]
        self.warpers = [_warpers(option) for option in options]
        # Of rows whose rules look at it; made once, not for every token.
        self.prompts = [
            torch.tensor([ids], dtype=torch.long) if rules else None
            for ids, rules in zip(prompts, self.processors, strict=True)
        ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(B, V)`` with one token left in rows that sample.

        Args:
            input_ids: ``(B, T)`` the answers so far; the prompt comes as embeddings, and is not in there.
            scores: ``(B, V)`` logits.
        """
        for row, option in enumerate(self.options):
            said = input_ids[row : row + 1]
            prompt = self.prompts[row]
            if prompt is not None:
                prompt = self.prompts[row] = prompt.to(said.device)
                every = torch.cat([prompt, said], dim=1)
                scores[row] = self.processors[row](every, scores[row : row + 1])[0]
            if option.frequency_penalty or option.presence_penalty:
                times = torch.bincount(said[0], minlength=scores.shape[1]).to(scores)
                scores[row] -= option.frequency_penalty * times + option.presence_penalty * (times > 0)
            if option.temperature > 0:
                logits = self.warpers[row](said, scores[row : row + 1].float().cpu())[0]
                probabilities = logits.softmax(-1)
                choice = int(torch.multinomial(probabilities, 1, generator=self.generators[row]))
                kept = scores[row, choice].clone()
                scores[row] = float("-inf")
                scores[row, choice] = kept
        return scores


def _processors(option: Options) -> LogitsProcessorList:
    """Logits processors that apply whether a row samples or not."""
    made = LogitsProcessorList()
    if option.repetition_penalty != 1:
        made.append(RepetitionPenaltyLogitsProcessor(option.repetition_penalty))
    if option.logit_bias:
        made.append(SequenceBiasLogitsProcessor({(token,): float(bias) for token, bias in option.logit_bias.items()}))
    return made


def _warpers(option: Options) -> LogitsProcessorList:
    """Logits processors for sampling, in transformers' order."""
    made = LogitsProcessorList()
    if option.temperature not in (0.0, 1.0):
        made.append(TemperatureLogitsWarper(option.temperature))
    if option.top_k:
        made.append(TopKLogitsWarper(option.top_k))
    if option.top_p < 1:
        made.append(TopPLogitsWarper(option.top_p))
    if option.min_p:
        made.append(MinPLogitsWarper(option.min_p))
    return made


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    return generator


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
