"""Stand-ins for the speech and affect experts, so that the small world needs no downloads.

They are hand-made signal descriptions, not SpidR and not emotion2vec. What they share with those is their
place in the method: dense frame features of what is said and of how it is said.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coat.experts.base import Expert, Picture

HOP = 320  # 50 frames a second at 16 kHz
NUM_MELS = 40
CONTEXT = 2


def _frame_mask(frames: Tensor, longest: int) -> Tensor:
    return torch.arange(longest, device=frames.device) < frames[:, None]


class StandInSpeech(Expert):
    """Stand-in for a speech expert: log-mel frames with their neighbours, each clip's mean taken off.

    Stands where SpidR stands in the paper.
    """

    name = "standin_speech"
    representational = True
    feature_dim = NUM_MELS * (2 * CONTEXT + 1)
    frame_rate = 50.0
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        filters = mel_filter_bank(257, NUM_MELS, 60.0, 7600.0, self.sampling_rate, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", torch.from_numpy(filters).float())

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        frames = lengths // HOP + 1
        window = torch.hann_window(512, device=waveforms.device)
        spectrum = torch.stft(
            F.pad(waveforms, (0, HOP)), 512, HOP, window=window, return_complex=True, pad_mode="constant"
        )
        level = (spectrum.abs().square().transpose(1, 2) @ self.filters + 1e-6).log()  # (N, L, mels)
        level = level[:, : int(frames.max())]
        real = _frame_mask(frames, level.shape[1]).unsqueeze(-1)
        mean = (level * real).sum(1, keepdim=True) / frames[:, None, None]
        level = (level - mean) * real / 3.0
        padded = F.pad(level, (0, 0, CONTEXT, CONTEXT))
        stacked = [padded[:, i : i + level.shape[1]] for i in range(2 * CONTEXT + 1)]
        return torch.cat(stacked, dim=-1), frames

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """The middle frame of each context: a mean-normalised log-mel spectrogram."""
        middle = features[:, CONTEXT * NUM_MELS : (CONTEXT + 1) * NUM_MELS]
        return Picture(middle.float().cpu().numpy().T, "speech content (stand-in)", "mel band")


class StandInAffect(Expert):
    """How it is said: pitch, voicing, energy, tilt, brightness and pulse of every frame.

    With their slopes, and their mean and spread over the surrounding second. Stands where emotion2vec stands
    in the paper.
    """

    name = "standin_affect"
    frame_rate = 50.0
    NAMES = ("pitch", "voicing", "energy", "tilt", "brightness", "pulse")
    feature_dim = 4 * len(NAMES)

    LOWEST_HZ, HIGHEST_HZ = 70.0, 420.0
    WINDOW = 1024
    SURROUNDING_FRAMES = 51

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        frames = lengths // HOP + 1
        longest = int(frames.max())
        padded = F.pad(waveforms, (self.WINDOW // 2, self.WINDOW // 2 + HOP))
        cut = padded.unfold(1, self.WINDOW, HOP)[:, :longest]  # (N, L, window)
        contours = self._contours(cut)
        real = _frame_mask(frames, longest).unsqueeze(-1)
        contours = contours * real
        slopes = self._smooth(_slopes(contours, frames), real, 5) * 10
        mean = self._smooth(contours, real, self.SURROUNDING_FRAMES)
        spread = (self._smooth(contours.square(), real, self.SURROUNDING_FRAMES) - mean.square()).clamp(min=0)
        return torch.cat([contours, slopes, mean, (spread + 1e-6).sqrt()], dim=-1) * real, frames

    def _contours(self, cut: Tensor) -> Tensor:
        """``(N, L, window)`` -> ``(N, L, 6)``, each of about unit spread on speech."""
        window = torch.hann_window(self.WINDOW, device=cut.device)
        spectrum = torch.fft.rfft(cut * window, 2 * self.WINDOW)
        power = spectrum.abs().square()
        energy = (power.mean(-1) + 1e-7).log()
        pitch, voicing = self._pitch(power, window)
        frequency = torch.linspace(0, 1, power.shape[-1], device=cut.device)
        low, high = power[..., :256].sum(-1), power[..., 256:].sum(-1)
        tilt = (high + 1e-7).log() - (low + 1e-7).log()
        brightness = (power * frequency).sum(-1) / (power.sum(-1) + 1e-7)
        rise = F.relu(torch.diff(energy, dim=1, prepend=energy[:, :1]))
        return torch.stack(
            [pitch * voicing * 2, voicing * 2, (energy + 4) / 3, (tilt + 4) / 3, brightness * 8, rise], dim=-1
        )

    def _pitch(self, power: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """Octaves from 150 Hz and periodicity in [0, 1], by the autocorrelation over that of the window."""
        shortest, longest = int(self.sampling_rate / self.HIGHEST_HZ), int(self.sampling_rate / self.LOWEST_HZ)
        own = torch.fft.irfft(torch.fft.rfft(window, 2 * self.WINDOW).abs().square())
        correlation = torch.fft.irfft(power) / own.clamp(min=1e-3 * float(own[0]))
        zero = correlation[..., :1].clamp(min=1e-9) + 1e-4
        periodicity, lag = (correlation[..., shortest:longest] / zero).max(-1)
        hertz = self.sampling_rate / (lag + shortest)
        return torch.log2(hertz / 150.0), periodicity.clamp(0, 1)

    @staticmethod
    def _smooth(values: Tensor, real: Tensor, width: int) -> Tensor:
        """Mean over the ``width`` frames around each, real ones alone."""
        kernel = torch.ones(1, 1, width, device=values.device)

        def total(x: Tensor) -> Tensor:
            flat = x.transpose(1, 2).reshape(-1, 1, x.shape[1])
            return F.conv1d(flat, kernel, padding=width // 2).reshape(x.shape[0], x.shape[2], -1).transpose(1, 2)

        return total(values * real) / total(real.to(values.dtype)).clamp(min=1)

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """The six contours."""
        return Picture(
            features[:, : len(self.NAMES)].float().cpu().numpy().T, "affect (stand-in)", ", ".join(self.NAMES)
        )


def _slopes(contours: Tensor, frames: Tensor) -> Tensor:
    """Change a frame, between both neighbours; at a clip's own ends, from the one that is there."""
    steps = torch.arange(contours.shape[1], device=contours.device)
    after = torch.minimum(steps + 1, frames.to(contours.device)[:, None] - 1).clamp(min=0)  # (N, L)
    before = (steps - 1).clamp(min=0).expand_as(after)
    apart = (after - before).clamp(min=1).unsqueeze(-1)
    wide = (-1, -1, contours.shape[2])
    later = contours.gather(1, after.unsqueeze(-1).expand(wide))
    return (later - contours.gather(1, before.unsqueeze(-1).expand(wide))) / apart
