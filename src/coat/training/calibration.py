"""Loss weights that put experts on one scale: with w_k, predicting expert k's mean costs 1.

The paper says only that weights compensate for output scale; this is the project's way to do it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from coat.config.recipe import Weight
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.losses import masked_sum
from coat.thinking.batch import Batch
from coat.thinking.model import CoatModel
from coat.training.trainer import expert_targets


@torch.no_grad()
def calibrate(model: CoatModel, experts: Mapping[str, Expert], batches: Iterable[Batch]) -> dict[str, float]:
    """The weight of each expert: one over the loss of predicting its mean feature.

    Args:
        model: Gives audio embeddings and the think tokens' time axis.
        experts: To calibrate.
        batches: Some training batches.

    Raises:
        CoatError: The batches hold no audio, or an expert's features never vary.
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in experts}
    for batch in batches:
        output = model(batch, [])
        if output.think_mask is None:
            continue
        for name, expert in experts.items():
            seen[name].append((expert_targets(expert, batch, output, model.builder).float(), output.think_mask))
    return {name: 1.0 / _mean_predictor_loss(expert, seen[name]) for name, expert in experts.items()}


def _mean_predictor_loss(expert: Expert, seen: list[tuple[Tensor, Tensor]]) -> float:
    frames = sum(int(mask.sum()) for _, mask in seen)
    if not frames:
        raise CoatError("No audio to calibrate expert weights on.", "Give explicit weights, or data with audio.")
    mean = torch.stack([target[mask].sum(0) for target, mask in seen]).sum(0) / frames
    total = sum(masked_sum(expert.loss(mean.expand_as(target), target, mask), mask) for target, mask in seen)
    loss = float(total) / frames
    if loss < 1e-9:
        raise CoatError(f"The features of expert {expert.name} never vary.", "Check its weights and the audio.")
    return loss


def resolve_weights(asked: Mapping[str, Weight], calibrated: Mapping[str, float]) -> dict[str, float]:
    """Explicit weights as they are, ``auto`` from the calibration."""
    return {name: calibrated[name] if weight == "auto" else float(weight) for name, weight in asked.items()}
