"""Sounds that two data sets share, whatever they are called and however they were encoded.

Benchmarks hold clips of training corpora (MMAU's test-mini has some of MELD, IEMOCAP, Clotho and MusicBench), mostly
at another rate and in another format. Clips are compared by acoustic fingerprints after Haitsma and Kalker (2002):
32 bits for every 23 ms, the signs of energy differences between neighbouring bands and frames. Frames with equal bits
propose a pair and its offset; the share of equal bits over all that overlaps decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from coat.data.manifest import AudioRef
from coat.errors import CoatError
from coat.processes import each

RATE, WINDOW, HOP = 8_000, 2_960, 184
BANDS, LOWEST_HZ, HIGHEST_HZ = 33, 300.0, 2_000.0
# Frames more than 60 dB below a clip's loudest say nothing, and neither do bits that are nearly all alike.
FLOOR, FEWEST_BITS = 1e-6, 6
# Bits that may differ over an overlap, frames that it must have, and frames that must propose it.
MAX_BIT_ERRORS, MIN_FRAMES, MIN_VOTES = 0.3, 32, 3
CHUNK = 16


@dataclass(frozen=True)
class Overlap:
    """A sound in both sets.

    Attributes:
        ref: In the first.
        other: In the second.
        seconds: That they share.
        bit_errors: The share of bits that differ: 0 is the same signal, 0.5 is chance.
    """

    ref: AudioRef
    other: AudioRef
    seconds: float
    bit_errors: float


@dataclass(frozen=True)
class Fingerprint:
    """Fingerprint of one clip.

    Attributes:
        bits: ``(frames,)`` uint32.
        telling: ``(frames,)`` frames loud and varied enough to propose a pair.
    """

    bits: np.ndarray
    telling: np.ndarray


def fingerprint(waveform: np.ndarray) -> Fingerprint:
    """Fingerprint of a waveform ``(samples,)`` at ``RATE``; empty where it is shorter than a window."""
    count = (len(waveform) - WINDOW) // HOP + 1
    if count < 2:
        return Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool))
    frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), 4096)) ** 2
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) / RATE * 4096
    energies = np.add.reduceat(spectrum, edges.astype(int), axis=1)[:, :BANDS]
    along = energies[:, :-1] - energies[:, 1:]
    signs = along[1:] - along[:-1] > 0
    bits = (signs.astype(np.uint32) << np.arange(BANDS - 1, dtype=np.uint32)).sum(1, dtype=np.uint32)
    set_bits = signs.sum(1)
    loud = energies.sum(1)[1:] > FLOOR * energies.sum(1).max(initial=1e-12)
    return Fingerprint(bits, loud & (set_bits >= FEWEST_BITS) & (set_bits <= BANDS - 1 - FEWEST_BITS))


def find_overlaps(
    first: Iterable[AudioRef],
    second: Iterable[AudioRef],
    *,
    workers: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Overlap]:
    """Sounds of one set that are in another; clips that cannot be read are in none.

    Args:
        first: The larger set, which is gone through clip by clip.
        second: The smaller, which is held in memory: about 1 kB a second of audio.
        workers: Processes that decode.
        progress: Called with (what, clips just done, clips in all).
    """
    firsts, seconds = list(dict.fromkeys(first)), list(dict.fromkeys(second))
    made = each(_of, [*seconds, *firsts], workers=workers, chunk=CHUNK)
    held: list[Fingerprint] = []
    for _, fingerprint_of_clip in zip(seconds, made, strict=False):
        held.append(fingerprint_of_clip)
        if progress:
            progress("benchmark", 1, len(seconds))
    index, found = _Index(held), []
    for ref, heard in zip(firsts, made, strict=True):
        found += [
            Overlap(ref, seconds[clip], frames * HOP / RATE, errors) for clip, frames, errors in index.search(heard)
        ]
        if progress:
            progress("training", 1, len(firsts))
    return found


def _of(ref: AudioRef) -> Fingerprint:
    try:
        return fingerprint(ref.load().at(RATE))
    except CoatError:
        return Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool))


class _Index:
    """Frames of many clips by their bits."""

    def __init__(self, clips: Sequence[Fingerprint]) -> None:
        self.clips = clips
        places = [np.flatnonzero(clip.telling) for clip in clips]
        telling = [clip.bits[at] for clip, at in zip(clips, places, strict=True)]
        bits = np.concatenate([*telling, np.zeros(0, np.uint32)])
        owner = np.repeat(np.arange(len(clips)), [len(at) for at in places])
        order = np.argsort(bits, kind="stable")
        self.bits, self.owner = bits[order], owner[order]
        self.frame = np.concatenate([*places, np.zeros(0, int)]).astype(int)[order]

    def search(self, clip: Fingerprint) -> list[tuple[int, int, float]]:
        """Clips that share a sound: their places, frames in common, share of bits that differ."""
        frames = np.flatnonzero(clip.telling)
        low = np.searchsorted(self.bits, clip.bits[frames], side="left")
        high = np.searchsorted(self.bits, clip.bits[frames], side="right")
        hits = [(place, frame) for place, a, b in zip(frames, low, high, strict=True) for frame in range(a, b)]
        if not hits:
            return []
        mine, theirs = np.array(hits).T
        votes, counts = np.unique(np.stack([self.owner[theirs], self.frame[theirs] - mine]), axis=1, return_counts=True)
        found: dict[int, tuple[int, int, float]] = {}
        for (owner, offset), count in zip(votes.T.tolist(), counts.tolist(), strict=True):
            if count >= MIN_VOTES:
                frames_shared, errors = self._compare(clip, self.clips[owner], offset)
                if frames_shared >= MIN_FRAMES and errors < min(MAX_BIT_ERRORS, found.get(owner, (0, 0, 1.0))[2]):
                    found[owner] = (owner, frames_shared, errors)
        return list(found.values())

    def _compare(self, clip: Fingerprint, other: Fingerprint, offset: int) -> tuple[int, float]:
        """Frames that are telling in both at an offset, and the share of their bits that differ."""
        start, stop = max(0, -offset), min(len(clip.bits), len(other.bits) - offset)
        both = clip.telling[start:stop] & other.telling[start + offset : stop + offset]
        differ = clip.bits[start:stop] ^ other.bits[start + offset : stop + offset]
        shared = int(both.sum())
        return shared, float(np.unpackbits(differ[both].view(np.uint8)).sum()) / max(1, shared * (BANDS - 1))
