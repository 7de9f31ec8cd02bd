"""Scores of the expert heads over many clips (Fig. 4 as numbers)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coat.data.conversation import Conversation
from coat.evaluation.statistics import Score, ratio
from coat.experts.align import spread
from coat.experts.base import Expert
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from coat.training.targets import expert_targets


@dataclass(frozen=True)
class HeadScore:
    """Scores of one head.

    Attributes:
        expert: The expert whose features it predicts.
        cosine: Mean over frames of the cosine between prediction and target, each less the data's mean feature.
        explained: R2 over all frames and dimensions, against the data's mean feature.
        own: The expert's own measures, means over clips.
        clips: Measured.
    """

    expert: str
    cosine: Score
    explained: float
    own: Mapping[str, Score]
    clips: int


@torch.inference_mode()
def score_heads(
    model: ThinkingModel,
    experts: Mapping[str, Expert],
    load: Sequence[Callable[[], Conversation]],
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> list[HeadScore]:
    """Compare every head with its expert over clips.

    Args:
        model: With heads, in evaluation mode.
        experts: One for each head.
        load: Conversations of one clip each, called batch by batch.
        batch_size: Rows in a batch.
        progress: Called with the number of clips just done.
    """
    rates = sorted({expert.sampling_rate for expert in experts.values() if expert.needs_waveform})
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    own: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    token_rate = model.backbone.audio_spec.token_rate
    for start in range(0, len(load), batch_size):
        part = [each() for each in load[start : start + batch_size]]
        batch = make_batch(model.builder, part, live_rates=rates).to(model.backbone.device)
        output = model(batch)
        assert output.audio_embeddings is not None
        assert output.audio_lengths is not None
        for name, expert in experts.items():
            targets = expert_targets(expert, batch, output.audio_embeddings, output.audio_lengths, model.builder)
            for row, axis in enumerate(zip(batch.heard_lengths, batch.think_strides, strict=True)):
                target, made = (spread(x[row], *axis).float() for x in (targets, output.predictions[name]))
                pairs[name].append((made.cpu(), target.cpu()))
                for measure, value in expert.agreement(made, target, token_rate).items():
                    own[name][measure].append(value)
        if progress:
            progress(len(part))
    return [_score(name, found, own[name]) for name, found in pairs.items()]


def _score(name: str, pairs: Sequence[tuple[Tensor, Tensor]], own: Mapping[str, Sequence[float]]) -> HeadScore:
    mean = torch.cat([target for _, target in pairs]).mean(0)
    cosines, left, variance = [], 0.0, 0.0
    for made, target in pairs:
        cosines.append(float(torch.cosine_similarity(made - mean, target - mean, dim=-1).mean()))
        left += float((target - made).square().sum())
        variance += float((target - mean).square().sum())
    measures = {measure: ratio(measure, np.array(values)).score() for measure, values in own.items()}
    cosine = ratio("cosine", np.array(cosines)).score()
    return HeadScore(name, cosine, 1 - left / max(variance, 1e-9), measures, len(pairs))
