"""Several channels to one, at the level at which they are heard.

The mean of the channels that hold sound: a voice that is in the centre channel of six alone keeps its level, as does
the one live channel of a stereo file. Channels that cancel each other would leave silence, and are refused.
"""

from __future__ import annotations

import numpy as np

from coat.audio.errors import AudioError

# A channel this far below the loudest holds no sound: dither and crosstalk are quieter.
UNUSED = 1e-3
# Uncorrelated channels lose 1/sqrt(C) in a mean of C; what loses more cancels.
CANCELLED = 0.05


def to_mono(samples: np.ndarray, name: str, channel: int | None = None) -> np.ndarray:
    """Mix channels down.

    Args:
        samples: ``(channels, samples)`` float32.
        name: Name of the clip, for messages.
        channel: Take this one alone, counted from 0.

    Returns:
        ``(samples,)`` float32.

    Raises:
        AudioError: There is no such channel, or the channels cancel each other.
    """
    if channel is not None:
        if not 0 <= channel < len(samples):
            raise AudioError(f"{name} has {len(samples)} channel(s); there is no channel {channel}.",
                             "Channels are counted from 0.", "channels")  # fmt: skip
        return np.ascontiguousarray(samples[channel])
    if len(samples) == 1:
        return np.ascontiguousarray(samples[0])
    levels = np.sqrt(np.square(samples, dtype=np.float64).mean(axis=1)) if samples.size else np.zeros(len(samples))
    used = samples[levels > UNUSED * levels.max()] if levels.max() > 0 else samples
    mono = used.mean(axis=0)
    heard = float(np.sqrt(np.square(mono, dtype=np.float64).mean())) if mono.size else 0.0
    if heard < CANCELLED * levels.max():
        raise AudioError(
            f"The {len(used)} channels of {name} cancel each other: one is the other with its sign changed, and mixed "
            "to mono nearly nothing is left.",
            'Name one of them ({"path": "a.wav", "channel": 0} in a row), or save one alone: '
            "sox in.wav out.wav remix 1",
            "channels",
        )
    return mono
