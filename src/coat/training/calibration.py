"""Where heads start and what experts weigh: both from a pass over some clips before training.

A head starts by predicting its expert's mean feature, and ``auto`` weights make that cost 1. So every loss
begins at 1, whatever the scale of its features, and what it falls to is the share left unexplained. The paper
says only that weights compensate for output scale; this is the project's way to do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from coat.config.recipe import StageConfig
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.losses import masked_loss
from coat.thinking.batch import Batch
from coat.thinking.model import ThinkingModel
from coat.training.targets import expert_targets

Batches = Callable[[], Iterable[Batch]]


@torch.no_grad()
def mean_features(model: ThinkingModel, experts: Mapping[str, Expert], batches: Batches) -> dict[str, Tensor]:
    """The mean of every expert's features over all real frames, ``(e_k,)`` each.

    Args:
        model: Gives audio embeddings and the think tokens' time axis; its language model does not run.
        experts: Experts, by name.
        batches: Makes some training batches, the same at every call.

    Raises:
        CoatError: The batches hold no audio.
    """
    sums: dict[str, Tensor] = {}
    frames = dict.fromkeys(experts, 0)
    for name, _, target, mask in _targets(model, experts, batches):
        sums[name] = sums.get(name, 0.0) + target[mask].double().sum(0)
        frames[name] += int(mask.sum())
    if len(sums) < len(experts):
        raise CoatError("No row among the first of the data holds audio, so experts have nothing to teach.")
    return {name: (total / frames[name]).float() for name, total in sums.items()}


@torch.no_grad()
def unit_weights(
    model: ThinkingModel, experts: Mapping[str, Expert], means: Mapping[str, Tensor], batches: Batches
) -> dict[str, float]:
    """The weight of each expert: one over the loss of predicting its mean feature.

    Args:
        model: See :func:`mean_features`.
        experts: To weigh.
        means: From :func:`mean_features`.
        batches: The batches that the means were measured on.

    Raises:
        CoatError: An expert's features never vary.
    """
    losses, frames = dict.fromkeys(experts, 0.0), dict.fromkeys(experts, 0)
    for name, expert, target, mask in _targets(model, experts, batches):
        losses[name] += float(masked_loss(expert.loss, means[name].expand_as(target), target, mask))
        frames[name] += int(mask.sum())
    for name, loss in losses.items():
        if loss < 1e-9 * frames[name]:
            raise CoatError(f"The features of expert {name} never vary.", "Check its weights and the audio.")
    return {name: frames[name] / loss for name, loss in losses.items()}


def resolve_weights(stage: StageConfig, calibrated: Mapping[str, float]) -> dict[str, float]:
    """A stage's w_k: explicit weights as they are, ``auto`` from the calibration, all times the stage's scale."""
    asked = {name: calibrated[name] if weight == "auto" else float(weight) for name, weight in stage.experts.items()}
    return {name: weight * stage.expert_scale for name, weight in asked.items()}


def _targets(
    model: ThinkingModel, experts: Mapping[str, Expert], batches: Batches
) -> Iterator[tuple[str, Expert, Tensor, Tensor]]:
    """Name, expert, ``(N, L, e_k)`` targets and ``(N, L)`` mask, batch by batch and expert by expert."""
    for batch in batches():
        if batch.think_lengths is None:
            continue
        audio = model.reference_embeddings(batch)
        lengths = torch.tensor([len(row) for row in audio], device=audio[0].device)
        embeddings = pad_sequence(audio, batch_first=True)
        for name, expert in experts.items():
            target = expert_targets(expert, batch, embeddings, lengths, model.builder).float()
            heard = batch.heard_think_lengths.to(target.device)
            mask = torch.arange(target.shape[1], device=target.device) < heard[:, None]
            yield name, expert, target, mask
