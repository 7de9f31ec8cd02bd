"""Named events on a time line, read from what an expert hears or a head predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Event:
    """Something that is heard for a while.

    Attributes:
        start: Its beginning, in seconds.
        end: Its end, in seconds.
        label: Its name: ``A4``, ``Dog``.
        confidence: Mean probability over its frames, from 0 to 1.
        expert: The expert in whose terms it is named.
    """

    start: float
    end: float
    label: str
    confidence: float
    expert: str = ""


def events_of(
    probabilities: np.ndarray, labels: Sequence[str], frame_rate: float, *, threshold: float, min_seconds: float
) -> list[Event]:
    """Runs of frames in which a label is at least as probable as a threshold.

    Args:
        probabilities: ``(L, C)``, from 0 to 1.
        labels: The C names.
        frame_rate: Frames a second; the first frame begins at 0.
        threshold: Probability from which a label is there.
        min_seconds: Shorter runs are left out.

    Returns:
        By start, then label.

    Example:
        >>> events_of(np.array([[0.1], [0.9], [0.7], [0.2]]), ["Dog"], 10.0, threshold=0.5, min_seconds=0.1)
        [Event(start=0.1, end=0.3, label='Dog', confidence=0.8, expert='')]
    """
    there = probabilities >= threshold
    found = []
    for column in np.flatnonzero(there.any(0)).tolist():
        edges = np.flatnonzero(np.diff(np.pad(there[:, column].astype(int), 1)))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            if (last - first) / frame_rate >= min_seconds:
                confidence = round(float(probabilities[first:last, column].mean()), 4)
                found.append(Event(float(first / frame_rate), float(last / frame_rate), labels[column], confidence))
    return sorted(found, key=lambda event: (event.start, event.label))
