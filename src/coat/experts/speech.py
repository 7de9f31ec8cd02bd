"""Layers of SpidR and emotion2vec: wav2vec's convolutions, convolutional positions, post-norm Transformer blocks.

Everything is padding-invariant: a clip's frames are the same whatever it is batched with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coat.experts.weights import PretrainedExpert

# Kernel and stride of wav2vec 2.0's seven convolutions: 400 samples a frame, every 320; and their channels.
CONVOLUTIONS = ((10, 5), *((3, 2),) * 4, *((2, 2),) * 2)
CHANNELS = 512
RECEPTIVE_FIELD, HOP = 400, 320
RATE = 16_000
# Frames of a clip that go through the convolutions at once (30 s), and scores of attention (512 MB).
FRAMES_AT_ONCE = 1500
SCORES_AT_ONCE = 2**27
# An additive mask that broadcasts to ``(N, heads, L, L)``: whole, or its rows ``start`` to ``stop`` when asked for.
Mask = Tensor | Callable[[int, int], Tensor]


def frame_counts(lengths: Tensor) -> Tensor:
    """Frames of clips of so many samples; at least one, of a clip that is padded to it."""
    return ((lengths.clamp(min=RECEPTIVE_FIELD) - RECEPTIVE_FIELD) // HOP) + 1


def normalised(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Each clip with zero mean and unit variance over its true samples, zero beyond; at least one frame long."""
    real = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
    count = lengths[:, None].to(waveforms.dtype)
    mean = (waveforms * real).sum(1, keepdim=True) / count
    centred = (waveforms - mean) * real
    variance = centred.square().sum(1, keepdim=True) / count
    scaled = centred / (variance + 1e-5).sqrt()
    return F.pad(scaled, (0, max(0, RECEPTIVE_FIELD - scaled.shape[1])))


def rows_at_once(clips: int, heads: int, frames: int) -> int:
    """Rows of attention whose scores fit into memory: all of a short clip's."""
    return min(frames, max(1, SCORES_AT_ONCE // (clips * heads * frames)))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Attention over all frames, for as many of them at once as memory takes: ``(N, heads, L, d / heads)`` each.

    The scores of all frames with all are the square of a clip's length: 1.7 GB at two minutes, 43 GB at ten.
    """
    clips, heads, frames, _ = q.shape
    step = rows_at_once(clips, heads, frames)
    parts = [
        F.scaled_dot_product_attention(
            q[:, :, start : start + step],
            k,
            v,
            attn_mask=mask if isinstance(mask, Tensor) else mask(start, min(start + step, frames)),
        )
        for start in range(0, frames, step)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


class ConvFrames(nn.Module):
    """Waveforms to frames; each convolution is followed by a layer norm over channels and GELU."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(channels if index else 1, channels, kernel, stride, bias=False)
            for index, (kernel, stride) in enumerate(CONVOLUTIONS)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in CONVOLUTIONS)

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(N, samples)`` to ``(N, L, width)``; long clips part by part, for the first layers are wide and fine."""
        frames = (waveforms.shape[1] - RECEPTIVE_FIELD) // HOP + 1
        if frames <= FRAMES_AT_ONCE:
            return self._part(waveforms)
        ends = [min(start + FRAMES_AT_ONCE, frames) for start in range(0, frames, FRAMES_AT_ONCE)]
        starts = [0, *ends[:-1]]
        parts = [
            self._part(waveforms[:, start * HOP : (end - 1) * HOP + RECEPTIVE_FIELD])
            for start, end in zip(starts, ends, strict=True)
        ]
        return torch.cat(parts, 1)

    def _part(self, waveforms: Tensor) -> Tensor:
        # As images one pixel high, with channels side by side in memory: so the norm over channels copies nothing.
        x = waveforms[:, None, None]
        for conv, norm, (_, stride) in zip(self.convs, self.norms, CONVOLUTIONS, strict=True):
            kernel = cast(Tensor, conv.weight).unsqueeze(2).contiguous(memory_format=torch.channels_last)
            x = F.conv2d(x, kernel, stride=(1, stride)).permute(0, 2, 3, 1)
            x = F.gelu(norm(x)).permute(0, 3, 1, 2)
        return x.squeeze(2).transpose(1, 2)


class ConvPositions(nn.Module):
    """Where frames stand, from grouped convolutions over their neighbours."""

    def __init__(self, width: int, kernel: int = 19, groups: int = 16, depth: int = 5) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups) for _ in range(depth)
        )

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """``(N, L, d)``, with ``real (N, L)`` True at frames that are no padding."""
        keep = real.unsqueeze(1)
        x = x.transpose(1, 2)
        for conv in self.convs:
            # Frames beyond the end are what they are for a clip alone: the convolution's zero padding.
            x = F.gelu(F.layer_norm(conv(x * keep).transpose(1, 2), (x.shape[1],))).transpose(1, 2)
        return (x * keep).transpose(1, 2)


class Block(nn.Module):
    """Attention and feed-forward, each followed by its norm."""

    def __init__(self, width: int, heads: int, inner: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """``(N, L, d)`` with an additive mask, see :data:`Mask`."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        heard = attend(q, k, v, mask).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.out(heard))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


def padding_mask(real: Tensor, dtype: torch.dtype) -> Tensor:
    """Zero where a frame may be attended to, minus infinity elsewhere: ``(N, 1, 1, L)``, the same for every row."""
    mask = torch.zeros(real.shape, dtype=dtype, device=real.device)
    return mask.masked_fill(~real, float("-inf"))[:, None, None]


def principal_components(features: Tensor, like: Tensor | None = None, rows: int = 16) -> np.ndarray:
    """Features ``(L, e)`` along the directions in which ``like``, or they themselves, vary most: ``(rows, L)``."""
    of = (features if like is None else like).float().detach().cpu()
    directions = torch.linalg.svd(of - of.mean(0), full_matrices=False).Vh[:rows]
    return ((features.float().detach().cpu() - of.mean(0)) @ directions.T).flip(1).T.numpy()


class SpeechExpert(PretrainedExpert):
    """An expert that begins as wav2vec 2.0 does; fifty frames a second of 16 kHz audio."""

    sampling_rate = RATE
    frame_rate = RATE / HOP
    first_frame_seconds = RECEPTIVE_FIELD / 2 / RATE

    def build_front(self, width: int, channels: int) -> None:
        """Convolutions, projection and positions."""
        self.feature_dim = width
        self.frames = ConvFrames(channels)
        self.projection = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width))
        self.positions = ConvPositions(width)

    def embed(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames with their positions ``(N, L, d)``, which of them are real ``(N, L)``, and how many ``(N,)``."""
        counts = frame_counts(lengths)
        x = self.projection(self.frames(normalised(waveforms, lengths)))
        real = torch.arange(x.shape[1], device=x.device) < counts[:, None]
        return x + self.positions(x, real), real, counts
