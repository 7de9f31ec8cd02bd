"""Limits of a waveform: one set for training, chat, servers and exports.

An export carries this file, so it imports NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_SECONDS = 0.1
# Masters clip a little and lossy codecs overshoot; samples at the scale of integers are hundreds of times beyond.
MAX_PEAK = 10.0
# A recorder's offset is below a hundredth of full scale; beyond this the model hears a click at either end.
MAX_OFFSET = 0.2
# Less than a sample at any rate: durations are kept as rounded decimals.
TOLERANCE_SECONDS = 1e-6


@dataclass(frozen=True)
class Problem:
    """Why a waveform cannot be heard.

    Attributes:
        kind: ``too short``, ``too long``, ``not finite``, ``over full scale`` or ``offset``.
        text: The measured fault, to follow the clip's name.
        remedy: The action that solves it.
    """

    kind: str
    text: str
    remedy: str


def too_long(seconds: float, max_seconds: float | None) -> bool:
    """Whether a duration is beyond a model's longest clip; None sets no limit."""
    return max_seconds is not None and seconds > max_seconds + TOLERANCE_SECONDS


def problem_of_length(seconds: float, max_seconds: float | None = None) -> Problem | None:
    """The problem with a duration, or None."""
    if seconds < MIN_SECONDS:
        return Problem(
            "too short",
            f"lasts {seconds * 1000:.0f} ms; at least {MIN_SECONDS * 1000:.0f} ms are needed for one audio token.",
            "Leave this clip out, or join it with its neighbour.",
        )
    if max_seconds is not None and too_long(seconds, max_seconds):
        return Problem(
            "too long",
            f"lasts {seconds:.1f} s; this model hears at most {max_seconds:g} s. Nothing is cut silently.",
            f"Cut it first, for example: ffmpeg -i in.wav -t {max_seconds:g} out.wav",
        )
    return None


def problem_of(waveform: np.ndarray, sampling_rate: int, max_seconds: float | None = None) -> Problem | None:
    """The problem with a waveform, or None.

    Args:
        waveform: ``(samples,)``.
        sampling_rate: Samples a second.
        max_seconds: The longest clip that the model hears.
    """
    if found := problem_of_length(len(waveform) / sampling_rate, max_seconds):
        return found
    if not np.isfinite(waveform).all():
        return Problem("not finite", "holds NaN or infinite samples.", "Decode it anew from its source.")
    peak = float(np.abs(waveform).max())
    if peak > MAX_PEAK:
        return Problem(
            "over full scale",
            f"has a peak of {peak:,.0f}; full scale is 1. Its samples seem to be on the scale of integers.",
            "Divide samples of 16 bits by 32768, then save the file again.",
        )
    offset = float(waveform.mean())
    if abs(offset) > MAX_OFFSET:
        return Problem(
            "offset",
            f"has a constant offset of {offset:+.2f}, which no sound has.",
            "Take it out first, for example: sox in.wav out.wav highpass 10",
        )
    return None
