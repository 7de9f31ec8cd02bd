"""Bring expert frames to the audio tokens' time axis, L_k -> L_a, by true time.

An expert frame j stands for the time around ``first_frame + j / frame_rate``, a token i for the time
around ``first_token + i / token_rate``. Faster experts are averaged over each token's span, frames that
lie partly inside counting in part; slower ones are interpolated linearly. Only real frames take part.
"""

from __future__ import annotations

import math

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
        num_tokens: How many tokens to make; those past a clip's end repeat its last frame.
        token_rate: In Hz.
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


def pool(features: Tensor, lengths: Tensor, stride: int) -> Tensor:
    """Average each ``stride`` frames, the last group over what is left of it.

    Args:
        features: ``(N, L, e)``.
        lengths: ``(N,)`` real frames.
        stride: Frames a think token stands for.

    Returns:
        ``(N, ceil(L / stride), e)``.
    """
    if stride == 1:
        return features
    length = features.shape[1]
    groups = math.ceil(length / stride)
    real = (torch.arange(length, device=features.device) < lengths[:, None]).to(features.dtype).unsqueeze(-1)
    pad = (0, 0, 0, groups * stride - length)
    total = torch.nn.functional.pad(features * real, pad).unflatten(1, (groups, stride)).sum(2)
    count = torch.nn.functional.pad(real, pad).unflatten(1, (groups, stride)).sum(2)
    return total / count.clamp(min=1)
