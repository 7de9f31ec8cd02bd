"""The voice expert: Resemblyzer's speaker encoder (Wan et al., arXiv 1710.10467), which is no expert of the paper's."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coat.errors import CoatError
from coat.experts.base import Picture
from coat.experts.speech import principal_components
from coat.experts.weights import PretrainedExpert

PACKAGE = "resemblyzer"
WINDOW, HOP, MELS = 400, 160, 40
# Mel frames that a voice is told from, and between two of these windows.
SPAN, STEP = 160, 25
# The makers raise quieter clips to this level, in dB of full scale, and leave louder ones.
LEVEL_DB = -30.0
# Windows in one pass: five minutes of sound have 1,200, each of them 160 steps.
AT_ONCE = 64


class Resemblyzer(PretrainedExpert):
    """Whose voice it is: 256 numbers of length 1, four times a second, each of 1.6 s around it. Mean squared error."""

    name: ClassVar[str] = "resemblyzer"
    licence: ClassVar[str] = "Apache-2.0 (Resemble AI)"
    reference: ClassVar[str] = "arXiv 1710.10467"
    source: ClassVar[str] = f"{PACKAGE}==0.1.4"
    checksum: ClassVar[str | None] = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"

    filters: Tensor
    window: Tensor

    sampling_rate = 16_000
    frame_rate = sampling_rate / HOP / STEP
    first_frame_seconds = -HOP / 2 / sampling_rate  # a window of 160 frames has its middle between two of them

    def build(self, sizes: tuple[int, int, int]) -> None:
        """See :meth:`PretrainedExpert.build`; sizes are the width, the layers and the numbers of a voice."""
        from transformers.audio_utils import mel_filter_bank

        width, layers, self.feature_dim = sizes
        filters = mel_filter_bank(
            WINDOW // 2 + 1, MELS, 0.0, self.sampling_rate / 2, self.sampling_rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.lstm = nn.LSTM(MELS, width, layers, batch_first=True)
        self.linear = nn.Linear(width, self.feature_dim)

    @classmethod
    def sizes_of(cls, state: Mapping[str, Tensor]) -> tuple[int, int, int]:
        """See :meth:`PretrainedExpert.sizes_of`."""
        layers = sum(name.startswith("lstm.weight_ih_l") for name in state)
        out, width = state["linear.weight"].shape
        return width, layers, out

    @classmethod
    def random_sizes(cls, kind: str) -> tuple[int, int, int]:
        """See :meth:`PretrainedExpert.random_sizes`."""
        return (256, 3, 256) if kind == "official" else (16, 2, 16)

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`PretrainedExpert.convert`; scale and offset of the makers' loss are left out."""
        return {name: value for name, value in state.items() if name.startswith(("lstm.", "linear."))}

    @classmethod
    def fetch(cls, source: str, place: Path) -> Path:
        """See :meth:`PretrainedExpert.fetch`; the official weights are in the installed package."""
        return find_weights() if source == cls.source else super().fetch(source, place)

    @classmethod
    def remedy(cls) -> str:
        """See :meth:`PretrainedExpert.remedy`."""
        return f"pip install --no-deps {cls.source}   (without --no-deps it brings librosa and webrtcvad)"

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        frames = lengths // (HOP * STEP) + 1
        windows = torch.cat([self._windows(w[:n]) for w, n in zip(waveforms, lengths.tolist(), strict=True)])
        voices = torch.cat([self._voices(part) for part in windows.split(AT_ONCE)])
        return nn.utils.rnn.pad_sequence(list(voices.split(frames.tolist())), batch_first=True), frames

    def _windows(self, waveform: Tensor) -> Tensor:
        """Mel frames ``(windows, SPAN, mels)`` around each quarter of a second of a clip, silence beyond its ends."""
        level = 10 * waveform.square().mean().clamp(min=1e-20).log10()
        waveform = waveform * 10 ** ((LEVEL_DB - level).clamp(min=0) / 20)
        count, around = len(waveform) // (HOP * STEP) + 1, SPAN // 2 * HOP
        padded = F.pad(waveform, (around, (count - 1) * STEP * HOP + around - len(waveform) + HOP))
        spectrum = torch.stft(padded, WINDOW, HOP, window=self.window, return_complex=True, pad_mode="constant")
        mel = spectrum.abs().square().T @ self.filters
        return mel.unfold(0, SPAN, STEP)[:count].transpose(1, 2)

    def _voices(self, windows: Tensor) -> Tensor:
        hidden = self.lstm(windows)[1][0][-1]
        return F.normalize(F.relu(self.linear(hidden)), dim=-1, eps=1e-6)

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """The directions that vary most."""
        return Picture(principal_components(features, like), "voice", "principal component")


def find_weights() -> Path:
    """The file of weights in the installed package, found without importing it.

    Raises:
        CoatError: The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        problem = f"The voice expert's weights are in the {PACKAGE} package, which is not installed."
        raise CoatError(problem, Resemblyzer.remedy())
    return Path(spec.submodule_search_locations[0]) / "pretrained.pt"
