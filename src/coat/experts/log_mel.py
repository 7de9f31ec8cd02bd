"""The spectrogram itself as an expert: no weights, no downloads, and what the decoder for the eye learns to draw."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from coat.experts.base import Expert, Picture

HOP, WINDOW, BANDS = 160, 512, 80
FLOOR = 1e-6


class LogMel(Expert):
    """Log-mel spectrogram, 80 bands a hundred times a second. Mean squared error."""

    name = "log_mel"
    representational = True
    feature_dim = BANDS
    frame_rate = 16_000 / HOP
    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        filters = mel_filter_bank(
            WINDOW // 2 + 1, BANDS, 50.0, 7800.0, self.sampling_rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", torch.from_numpy(filters).float())
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        frames = lengths // HOP + 1
        spectrum = torch.stft(
            F.pad(waveforms, (0, HOP)), WINDOW, HOP, window=self.window, return_complex=True, pad_mode="constant"
        )
        level = (spectrum.abs().square().transpose(1, 2) @ self.filters + FLOOR).log()
        return level[:, : int(frames.max())], frames

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """As it is."""
        return Picture(features.float().detach().cpu().numpy().T, "log-mel spectrogram", "mel band")
