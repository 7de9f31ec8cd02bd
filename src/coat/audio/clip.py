"""A mono recording, and how a family of models hears one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from coat.audio.errors import refuse
from coat.audio.limits import problem_of


@dataclass(frozen=True)
class Clip:
    """A mono recording at its native rate.

    Attributes:
        waveform: ``(samples,)`` float32 in [-1, 1].
        sampling_rate: Samples a second.
        name: Name in messages.

    Example:
        >>> clip = Clip(np.zeros(24_000, np.float32), 16_000)
        >>> clip.seconds, len(clip.at(8_000))
        (1.5, 12000)
    """

    waveform: np.ndarray
    sampling_rate: int
    name: str = "clip"

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.sampling_rate

    @cached_property
    def content_key(self) -> str:
        """A hash of the samples and their rate: the same sound has the same key whatever its file is called."""
        digest = blake2b(np.ascontiguousarray(self.waveform, dtype=np.float32).tobytes(), digest_size=16)
        digest.update(str(self.sampling_rate).encode())
        return digest.hexdigest()

    def at(self, sampling_rate: int) -> np.ndarray:
        """The waveform at another rate, ``(samples,)`` float32, by soxr's high-quality resampler."""
        if sampling_rate == self.sampling_rate:
            return self.waveform
        import soxr

        return soxr.resample(self.waveform, self.sampling_rate, sampling_rate).astype(np.float32)


@dataclass(frozen=True)
class AudioSpec:
    """How a family turns seconds into audio tokens.

    Attributes:
        sampling_rate: Sampling rate of the waveforms it takes, in Hz.
        token_rate: r_s, audio tokens a second.
        first_token_seconds: The time at the middle of the first audio token.
        max_seconds: The longest clip it hears.
    """

    sampling_rate: int
    token_rate: float
    first_token_seconds: float
    max_seconds: float


def check_clip(clip: Clip, *, max_seconds: float | None = None) -> Clip:
    """Return the clip if a model can hear it.

    Raises:
        AudioError: It is too short or too long, holds NaN or infinity, is on the scale of integers, or has a
            constant offset; see :mod:`coat.audio.limits`.
    """
    refuse(problem_of(clip.waveform, clip.sampling_rate, max_seconds), clip.name)
    return clip
