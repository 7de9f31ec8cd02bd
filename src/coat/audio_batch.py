"""The clips of a batch as tensors, at every rate that an expert wants, resampled where the batch is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from coat.audio import Clip

# Rates in a ratio of larger numbers need too large a filter bank; such clips go through this rate on the host.
MAX_PHASES = 1000
STUDIO_RATE = 48_000


@dataclass(frozen=True)
class Take:
    """Clips of one native rate.

    Attributes:
        rate: Sampling rate, in Hz.
        places: ``(n,)`` their places among all clips.
        waveforms: ``(n, samples)`` float32, zero-padded on the right.
        lengths: ``(n,)`` true samples.
    """

    rate: int
    places: Tensor
    waveforms: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class AudioBatch:
    """N clips at their native rates; :meth:`at` gives them at another, made once however many ask.

    Attributes:
        takes: The clips, by native rate.
        count: N.
    """

    takes: tuple[Take, ...]
    count: int
    _made: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, clips: Sequence[Clip], rates: Sequence[int]) -> AudioBatch:
        """Gather clips.

        Args:
            clips: At least one.
            rates: Those that will be asked for, in Hz.
        """
        waveforms: dict[int, list[tuple[int, np.ndarray]]] = {}
        for place, clip in enumerate(clips):
            rate = clip.sampling_rate
            if any(rate != other and max(rate, other) // gcd(rate, other) > MAX_PHASES for other in rates):
                rate = STUDIO_RATE
            waveforms.setdefault(rate, []).append((place, clip.at(rate)))
        return cls(tuple(_take(rate, found) for rate, found in sorted(waveforms.items())), len(clips))

    def at(self, rate: int) -> tuple[Tensor, Tensor]:
        """Every clip at one rate: ``(N, samples)`` float32, zero beyond a clip's end, and ``(N,)`` true samples."""
        if rate not in self._made:
            parts = [(take.places, *resample(take.waveforms, take.lengths, take.rate, rate)) for take in self.takes]
            longest = max(waveforms.shape[1] for _, waveforms, _ in parts)
            all_waveforms = parts[0][1].new_zeros(self.count, longest)
            all_lengths = parts[0][2].new_zeros(self.count)
            for places, waveforms, lengths in parts:
                all_waveforms[places, : waveforms.shape[1]] = waveforms
                all_lengths[places] = lengths
            self._made[rate] = (all_waveforms, all_lengths)
        return self._made[rate]

    def part(self, first: int, last: int) -> AudioBatch:
        """Clips ``first`` to ``last``."""
        takes = []
        for take in self.takes:
            chosen = (take.places >= first) & (take.places < last)
            if chosen.any():
                takes.append(Take(take.rate, take.places[chosen] - first, take.waveforms[chosen], take.lengths[chosen]))
        return AudioBatch(tuple(takes), last - first)

    def to(self, device: torch.device | str) -> AudioBatch:
        """The same clips on a device."""
        takes = (
            replace(
                take,
                places=take.places.to(device),
                waveforms=take.waveforms.to(device, non_blocking=True),
                lengths=take.lengths.to(device),
            )
            for take in self.takes
        )
        return AudioBatch(tuple(takes), self.count)


def _take(rate: int, found: list[tuple[int, np.ndarray]]) -> Take:
    rows = [torch.from_numpy(waveform) for _, waveform in found]
    lengths = torch.tensor([len(row) for row in rows])
    return Take(rate, torch.tensor([place for place, _ in found]), pad_sequence(rows, batch_first=True), lengths)


def resample(waveforms: Tensor, lengths: Tensor, rate: int, target: int) -> tuple[Tensor, Tensor]:
    """Bring a padded batch to another rate by windowed sinc filters, each clip as if it were alone.

    Args:
        waveforms: ``(N, samples)`` at ``rate``, zero-padded on the right.
        lengths: ``(N,)`` true samples.
        rate: Sampling rate, in Hz.
        target: Target sampling rate, in Hz.

    Returns:
        ``(N, samples)`` at ``target``, zero beyond a clip's end, and ``(N,)`` true samples.
    """
    if rate == target:
        return waveforms, lengths
    kernel = _resampler(rate, target).to(waveforms.device)
    made = (lengths * target) // rate
    # The filters repeat a batch's last sample beyond it; with zeros there, every clip ends in silence.
    silent = torch.nn.functional.pad(waveforms, (0, kernel.kernel.shape[-1]))
    longest = int(made.max())
    resampled = kernel(silent, output_length=longest) if longest else silent[:, :0]
    return resampled * (torch.arange(longest, device=waveforms.device) < made[:, None]), made


@lru_cache(maxsize=32)
def _resampler(rate: int, target: int) -> Any:
    import julius

    # Made and kept as an ordinary tensor, wherever it is asked for first.
    with torch.inference_mode(False), torch.no_grad():
        return julius.ResampleFrac(rate, target)
