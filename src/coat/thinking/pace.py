"""How many audio tokens a think token stands for: one in the paper, and three ways to fewer think tokens.

The spans of a clip are the audio tokens of each of its think tokens, in order; they add up to L_a. A block is as
long as its clip has spans, and expert features are averaged over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Spans = tuple[int, ...]

# What counts as the same sound is judged in this many bands, down to this far below the loudest.
BANDS, FLOOR_DB = 20, 60.0
# Audio tokens that one think token stands for at most where they are merged by sound.
LONGEST = 16


@dataclass(frozen=True)
class Pace:
    """How think tokens are spread over audio tokens.

    Attributes:
        stride: Audio tokens that one think token stands for; 1 is the paper.
        max_tokens: Think tokens of a clip at most: a longer clip gets a longer stride.
        merge_db: Neighbours whose spectra differ by less than this many dB share a think token; 0 merges none. The
            block's length then follows what is heard.
    """

    stride: int = 1
    max_tokens: int | None = None
    merge_db: float = 0.0

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, got {self.stride}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def spans(self, num_audio_tokens: int, waveform: np.ndarray | None = None) -> Spans:
        """The spans of a clip.

        Args:
            num_audio_tokens: L_a.
            waveform: ``(samples,)``, at the rate that the backbone hears; needed where neighbours are merged.

        Raises:
            ValueError: The clip is to be merged by its sound, and is not given.
        """
        spans: Sequence[int] = (1,) * num_audio_tokens
        if self.merge_db:
            if waveform is None:
                raise ValueError("a block that follows the sound needs the clip itself, not only its length")
            spans = merged(waveform, num_audio_tokens, self.merge_db)
        spans = _grouped(spans, self.stride)
        if self.max_tokens is not None:
            spans = _grouped(spans, math.ceil(len(spans) / self.max_tokens))
        return tuple(spans)

    def __str__(self) -> str:
        most = f", at most {self.max_tokens} think tokens" if self.max_tokens is not None else ""
        return f"stride {self.stride}{most}" + (f", merged under {self.merge_db:g} dB" if self.merge_db else "")


PAPER = Pace()


def _grouped(spans: Sequence[int], size: int) -> Sequence[int]:
    """Each ``size`` neighbours as one, the last over what is left."""
    return spans if size <= 1 else [sum(spans[start : start + size]) for start in range(0, len(spans), size)]


def merged(waveform: np.ndarray, num_tokens: int, threshold: float) -> list[int]:
    """Spans of audio tokens that sound alike.

    A token joins the span before it while its spectrum differs from the span's mean by less than the threshold (root
    mean square over bands).

    Args:
        waveform: ``(samples,)``, any rate.
        num_tokens: L_a; tokens are taken to cover the clip evenly.
        threshold: In dB.
    """
    spans: list[int] = []
    mean = np.zeros(BANDS)
    for level in band_levels(waveform, num_tokens):
        size = spans[-1] if spans else LONGEST
        if size < LONGEST and float(np.square(level - mean).mean()) < threshold**2:
            spans[-1] += 1
            mean += (level - mean) / (size + 1)
        else:
            spans.append(1)
            mean = level.copy()
    return spans


def band_levels(waveform: np.ndarray, num_tokens: int) -> np.ndarray:
    """Levels in dB under each token, ``(num_tokens, BANDS)``, in bands of equal width in log frequency.

    What is more than ``FLOOR_DB`` below the clip's loudest counts as silence.
    """
    if num_tokens < 1:
        return np.zeros((0, BANDS))
    width = max(64, math.ceil(len(waveform) / num_tokens))
    starts = np.linspace(0, max(len(waveform) - width, 0), num_tokens).round().astype(int)
    padded = np.pad(np.asarray(waveform, dtype=np.float64), (0, max(0, width - len(waveform))))
    frames = padded[starts[:, None] + np.arange(width)] * np.hanning(width)
    power = np.square(np.abs(np.fft.rfft(frames)))
    edges = np.geomspace(1, power.shape[1], BANDS + 1).round().astype(int)
    edges = np.maximum(edges, np.arange(1, BANDS + 2))
    edges = np.minimum(edges, power.shape[1])
    total = np.concatenate([np.zeros((num_tokens, 1)), power.cumsum(1)], axis=1)
    bands = (total[:, edges[1:]] - total[:, edges[:-1]]) / np.maximum(np.diff(edges), 1)
    levels = 10 * np.log10(np.maximum(bands, 1e-20))
    return np.asarray(np.maximum(levels, levels.max() - FLOOR_DB))
