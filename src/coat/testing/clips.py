"""Clips of noise and conversations about them, from a seed."""

from __future__ import annotations

import numpy as np

from coat.audio import Clip
from coat.data.conversation import Conversation, Message

RATE = 16_000


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> Clip:
    """A clip of white noise.

    Args:
        seconds: Length.
        seed: Seed of its samples.
        rate: Its sampling rate, in Hz.

    Example:
        >>> noise(0.5).waveform.shape
        (8000,)
    """
    rng = np.random.default_rng(seed)
    return Clip(rng.normal(0, 0.1, round(seconds * rate)).astype(np.float32), rate, f"noise-{seed}")


def user(text: str) -> Message:
    """A question."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """An answer."""
    return {"role": "assistant", "content": text}


def conversation(
    *seconds: float, text: str = "What is said?", answer: str | None = "the red dog", seed: int = 0
) -> Conversation:
    """A question about clips of noise.

    Args:
        *seconds: A clip each.
        text: The question.
        answer: Its answer, for training; None asks for generation.
        seed: Seed of the first clip.
    """
    messages = [user("<audio>" * len(seconds) + text)]
    if answer is not None:
        messages.append(assistant(answer))
    return Conversation(messages, [noise(s, seed + i) for i, s in enumerate(seconds)])
