"""Each head's prediction beside its target, as people look at them (Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from coat.data.conversation import Conversation
from coat.experts.align import spread
from coat.experts.base import Expert, Picture
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from coat.training.targets import expert_targets


@dataclass(frozen=True)
class Reconstruction:
    """An expert's features of a clip beside those that its head predicts from the think states.

    Attributes:
        expert: Its name.
        target: The expert's own features.
        prediction: The head's.
        explained: R^2 over the clip's frames and dimensions: 1 is perfect, 0 is no better than the clip's mean.
        measures: Measures in the expert's own terms, by name, where it has some; see :meth:`Expert.agreement`.
        seconds: Seconds of the clip.
    """

    expert: str
    target: Picture
    prediction: Picture
    explained: float
    measures: Mapping[str, float]
    seconds: float

    @property
    def how_well(self) -> str:
        """How much of the expert's features the think states kept: in its own terms where it has some, else R^2."""
        own = ", ".join(f"{name} {value:.2f}" for name, value in self.measures.items())
        return own or f"R² {self.explained:.2f}"


@torch.inference_mode()
def reconstruct(
    model: ThinkingModel, experts: Mapping[str, Expert], conversation: Conversation
) -> list[Reconstruction]:
    """Run every head on one clip.

    Args:
        model: With heads, in evaluation mode.
        experts: One for each head.
        conversation: A user turn with one clip.
    """
    rates = sorted({expert.sampling_rate for expert in experts.values() if expert.needs_waveform})
    batch = make_batch(model.builder, [conversation], live_rates=rates).to(model.backbone.device)
    output = model(batch)
    assert output.audio_embeddings is not None
    assert output.audio_lengths is not None
    made = []
    for name, expert in experts.items():
        pooled = expert_targets(expert, batch, output.audio_embeddings, output.audio_lengths, model.builder)
        axis = batch.heard_lengths[0], batch.think_strides[0]
        target, prediction = (spread(x[0], *axis).float() for x in (pooled, output.predictions[name]))
        variance = (target - target.mean(0)).square().sum().clamp(min=1e-9)
        explained = 1 - float((target - prediction).square().sum() / variance)
        made.append(
            Reconstruction(
                name,
                expert.visualise(target),
                expert.visualise(prediction, like=target),
                explained,
                expert.agreement(prediction, target, model.backbone.audio_spec.token_rate),
                conversation.clips[0].seconds,
            )
        )
    return made
