"""Losses, on tensors alone: cross-entropy at the response, distillation at the think tokens (Eq. 1 and 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def response_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of Eq. 1, summed over response tokens.

    It is computed here for every backbone. A model's own ``loss`` may be normalised by another count than
    the effective batch's, and then gradient accumulation silently rescales it.

    Args:
        logits: ``(R, V)`` at the positions that predict a response token.
        labels: ``(R,)`` those tokens.

    Returns:
        A scalar; divide by the response tokens of the whole effective batch.
    """
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def masked_loss(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor, mask: Tensor
) -> Tensor:
    """An expert's loss, summed over real frames.

    What stands at padded frames is taken out before the loss: taken out after it, a NaN there would leave the loss
    clean and make every gradient NaN.

    Args:
        loss: Loss of ``(N, L, e_k)`` predictions and targets with their ``(N, L)`` mask: ``(N, L)``.
        prediction: ``(N, L, e_k)``.
        target: ``(N, L, e_k)``.
        mask: ``(N, L)``, True at real frames.
    """
    real = mask.unsqueeze(-1)
    zero = prediction.new_zeros(())
    return masked_sum(loss(torch.where(real, prediction, zero), torch.where(real, target, zero.to(target)), mask), mask)


def masked_sum(frame_losses: Tensor, mask: Tensor) -> Tensor:
    """Sum ``(N, L)`` losses over real frames; what stands at padded ones never matters, NaN included."""
    return torch.where(mask, frame_losses, 0.0).sum()


def focal_bce(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal binary cross-entropy with soft targets.

    Each element's cross-entropy is weighed by ``|target - probability| ** gamma``: the many bins that are
    rightly near zero stop counting, and the few active ones are heard.

    Args:
        logits: Before the sigmoid, any shape.
        target: Probabilities in [0, 1], same shape.
        gamma: 0 gives plain cross-entropy.

    Returns:
        Losses of the same shape.
    """
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if gamma == 0:
        return plain
    # The square root of a zero difference has no finite gradient; powers of two and up are safe.
    return (target - logits.sigmoid()).abs().clamp(min=1e-6).pow(gamma) * plain
