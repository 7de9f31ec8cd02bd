"""Bring expert frames to the audio tokens' time axis, L_k -> L_a, by true time.

An expert frame j stands for the time around ``first_frame + j / frame_rate``, a token i for the time
around ``first_token + i / token_rate``. Faster experts are averaged over each token's span, frames that
lie partly inside counting in part; slower ones are interpolated linearly. Only real frames take part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def align(
    features: Tensor,
    frames: Tensor,
    *,
    frame_rate: float,
    first_frame_seconds: float,
    num_tokens: int,
    token_rate: float,
    first_token_seconds: float,
) -> Tensor:
    """Resample features in time.

    Args:
        features: ``(N, L_k, e_k)``.
        frames: ``(N,)`` real frames of each clip, at least 1.
        frame_rate: r_k in Hz.
        first_frame_seconds: The middle of the first frame.
        num_tokens: Number of tokens to make; those past a clip's end repeat its last frame.
        token_rate: Audio tokens a second.
        first_token_seconds: The middle of the first token.

    Returns:
        ``(N, num_tokens, e_k)``.
    """
    centres = first_token_seconds + torch.arange(num_tokens, device=features.device, dtype=torch.float64) / token_rate
    positions = (centres - first_frame_seconds) * frame_rate  # in frames; integer at a frame's middle
    if frame_rate > token_rate:
        return _average(features, frames, positions, frame_rate / token_rate)
    return _interpolate(features, frames, positions)


def _average(features: Tensor, frames: Tensor, positions: Tensor, width: float) -> Tensor:
    """Mean over ``width`` frames around each position."""
    low = positions - width / 2 + 0.5  # frame j covers [j, j + 1)
    high = low + width
    first = low.floor().long()
    total = features.new_zeros(len(features), len(positions), features.shape[-1])
    weight = features.new_zeros(len(features), len(positions), 1)
    for step in range(math.ceil(width) + 1):
        index = first + step
        overlap = torch.minimum(high, index + 1.0) - torch.maximum(low, index.double())
        real = (index >= 0) & (index < frames[:, None])  # (N, T)
        share = (overlap.clamp(min=0) * real).to(features.dtype).unsqueeze(-1)
        total += share * features[:, index.clamp(0, features.shape[1] - 1)]
        weight += share
    nearest = _interpolate(features, frames, positions)
    return torch.where(weight > 1e-6, total / weight.clamp(min=1e-6), nearest)


def _interpolate(features: Tensor, frames: Tensor, positions: Tensor) -> Tensor:
    """Linear interpolation, held at both ends."""
    last = (frames[:, None] - 1).clamp(min=0).double()
    position = torch.minimum(positions.clamp(min=0)[None], last)  # (N, T)
    left = position.floor().long()
    right = torch.minimum(left + 1, last.long())
    share = (position - left).to(features.dtype).unsqueeze(-1)
    expand = (-1, -1, features.shape[-1])
    before = features.gather(1, left.unsqueeze(-1).expand(*expand))
    after = features.gather(1, right.unsqueeze(-1).expand(*expand))
    return torch.lerp(before, after, share)


def pool(features: Tensor, lengths: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Average frames over groups of neighbours.

    Args:
        features: ``(N, L_a, e)``, one frame an audio token.
        lengths: Real frames of each clip.
        strides: Frames of a group of each clip; its last group holds what is left.

    Returns:
        ``(N, L, e)``, with as many frames as the clip with most groups has.
    """
    if all(stride == 1 for stride in strides):
        return features
    steps = torch.arange(features.shape[1])
    owners = torch.stack([steps // stride for stride in strides])
    real = steps < torch.tensor(lengths)[:, None]
    most = int(owners[real].max()) + 1
    owners = torch.where(real, owners, most).to(features.device)  # padding goes to a group that is thrown away
    index = owners.unsqueeze(-1).expand_as(features)
    total = features.new_zeros(len(features), most + 1, features.shape[-1]).scatter_add(1, index, features)
    widths = features.new_zeros(len(features), most + 1).scatter_add(1, owners, torch.ones_like(features[..., 0]))
    return total[:, :most] / widths[:, :most].clamp(min=1).unsqueeze(-1)


def spread(rows: Tensor, length: int, stride: int) -> Tensor:
    """Each row as often as its group has audio tokens: one clip back on its own time axis.

    Args:
        rows: ``(L, ...)``, one for each group, or more.
        length: L_a of the clip.
        stride: Audio tokens of a group.

    Returns:
        ``(L_a, ...)``.
    """
    return rows.repeat_interleave(stride, 0)[:length]
