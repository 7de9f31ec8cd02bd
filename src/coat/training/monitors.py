"""Watch the think states: collapsed ones are the known failure of latent thinking."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_STATES = 512


@torch.no_grad()
def collapse_metrics(think_hidden: Tensor, mask: Tensor) -> dict[str, float]:
    """How different the think states of a batch are.

    Args:
        think_hidden: ``(N, L, d)``.
        mask: ``(N, L)``, True where real.

    Returns:
        ``effective_rank``: the exponential of the entropy of the centred states' normalised singular values,
        1 if they lie on a line, up to d. ``mean_cosine``: the mean cosine of pairs, 1 if all point one way.
    """
    states = think_hidden[mask].float()
    step = max(1, len(states) // MAX_STATES)
    states = states[::step][:MAX_STATES]
    if len(states) < 2:
        return {}
    singular = torch.linalg.svdvals(states - states.mean(0))
    share = singular / singular.sum().clamp(min=1e-12)
    rank = torch.exp(-(share * (share + 1e-12).log()).sum())
    unit = torch.nn.functional.normalize(states, dim=-1)
    count = len(unit)
    cosine = (unit.sum(0).square().sum() - count) / (count * (count - 1))
    return {"think/effective_rank": float(rank), "think/mean_cosine": float(cosine)}
