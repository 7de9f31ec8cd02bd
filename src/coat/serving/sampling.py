"""One request's own rules for choosing its next token, whatever it is batched with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from coat.serving.schema import Options


class RowSampler:
    """Chooses a request's tokens, one after another, with a generator of random numbers of its own.

    Args:
        options: The request's.
        prompt: Ids of its prompt, which a repetition penalty counts too.

    Attributes:
        is_greedy: Whether it takes the likeliest token as it is.
    """

    def __init__(self, options: Options, prompt: Sequence[int] = ()) -> None:
        self.options = options
        self.prompt = list(prompt)
        self.generator = _generator(options.seed)
        self.processors = _processors(options)
        self.warpers = _warpers(options)
        counts = options.frequency_penalty or options.presence_penalty
        self.is_greedy = not (self.processors or counts or options.temperature > 0)

    def choose(self, said: Sequence[int], scores: Tensor) -> int:
        """The next token.

        Args:
            said: The answer so far.
            scores: ``(V,)`` logits.
        """
        scores = self.ruled(said, scores)
        if self.options.temperature <= 0:
            return int(scores.argmax())
        ids = torch.tensor([list(said)], dtype=torch.long)
        probabilities = self.warpers(ids, scores[None].float().cpu())[0].softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))

    def ruled(self, said: Sequence[int], scores: Tensor) -> Tensor:
        """Scores ``(V,)`` after penalties and biases, which hold whether it samples or not."""
        if self.processors:
            every = torch.tensor([[*self.prompt, *said]], dtype=torch.long, device=scores.device)
            scores = self.processors(every, scores[None].clone())[0]
        if self.options.frequency_penalty or self.options.presence_penalty:
            ids = torch.tensor(list(said), dtype=torch.long, device=scores.device)
            times = torch.bincount(ids, minlength=len(scores)).to(scores)
            scores = scores - self.options.frequency_penalty * times - self.options.presence_penalty * (times > 0)
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
