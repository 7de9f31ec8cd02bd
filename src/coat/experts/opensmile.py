"""The affect expert that needs no download: openSMILE's eGeMAPS descriptors, which is no expert of the paper's."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coat.errors import CoatError
from coat.experts.base import Expert, Picture

# Mean and standard deviation of each descriptor, so that all weigh alike: over 84,822 frames of speech, by a human
# voice at the telephone, by volunteers, and by four voices of flite (200, 49 and 200 clips).
DESCRIPTORS = {
    "Loudness_sma3": (0.6541, 0.5648),
    "alphaRatio_sma3": (-14.06, 13.46),
    "hammarbergIndex_sma3": (22.84, 15.27),
    "slope0-500_sma3": (0.0238, 0.04317),
    "slope500-1500_sma3": (-0.008162, 0.02327),
    "spectralFlux_sma3": (0.3625, 0.4237),
    "mfcc1_sma3": (28.48, 21.28),
    "mfcc2_sma3": (5.138, 21.77),
    "mfcc3_sma3": (23.76, 19.73),
    "mfcc4_sma3": (-1.815, 18.61),
    "F0semitoneFrom27.5Hz_sma3nz": (19.6, 15.46),
    "jitterLocal_sma3nz": (0.01158, 0.02406),
    "shimmerLocaldB_sma3nz": (0.7052, 1.062),
    "HNRdBACF_sma3nz": (4.882, 4.735),
    "logRelF0-H1-H2_sma3nz": (5.595, 8.222),
    "logRelF0-H1-A3_sma3nz": (18.08, 16.98),
    "F1frequency_sma3nz": (704.5, 246.8),
    "F1bandwidth_sma3nz": (1307, 301.1),
    "F1amplitudeLogRelF0_sma3nz": (-78.8, 86.82),
    "F2frequency_sma3nz": (1752, 261.1),
    "F2bandwidth_sma3nz": (1051, 356.5),
    "F2amplitudeLogRelF0_sma3nz": (-88.25, 79.57),
    "F3frequency_sma3nz": (2780, 270.2),
    "F3bandwidth_sma3nz": (969.3, 360.5),
    "F3amplitudeLogRelF0_sma3nz": (-90.27, 77.84),
}
# Windows are of 20 and of 60 ms, and frames end where a window does not fit: silence around a clip gives it one every
# 10 ms of its own.
AROUND_SECONDS, SHORTEST_SECONDS = 0.02, 0.1


class OpenSmile(Expert):
    """How it is said: pitch, loudness, voice quality and formants, 25 numbers a hundred times a second. MSE."""

    name: ClassVar[str] = "opensmile"
    licence: ClassVar[str] = "openSMILE's (audEERING): not for commercial use"
    commercial: ClassVar[bool] = False
    reference: ClassVar[str] = "10.1109/TAFFC.2015.2457417"

    mean: Tensor
    deviation: Tensor

    sampling_rate = 16_000
    feature_dim = len(DESCRIPTORS)
    frame_rate = 100.0
    first_frame_seconds = 0.0  # between the middles of its two windows, 10 ms before and behind

    def __init__(self) -> None:
        super().__init__()
        try:
            import opensmile  # type: ignore[import-untyped]
        except ImportError:
            raise CoatError("openSMILE is not installed.", "pip install 'coat-audio[opensmile]'") from None
        # In a list, for it is no module: neither its device nor its weights.
        self._smile: list[Any] = [
            opensmile.Smile(
                feature_set=opensmile.FeatureSet.eGeMAPSv02,
                feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
            )
        ]
        scale = torch.tensor(list(DESCRIPTORS.values()))
        self.register_buffer("mean", scale[:, 0].clone())
        self.register_buffer("deviation", scale[:, 1].clone())

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`; on the host, a clip at a time."""
        rows = [self._descriptors(wave[:length]) for wave, length in zip(waveforms, lengths.tolist(), strict=True)]
        counts = torch.tensor([len(row) for row in rows], device=waveforms.device)
        raw = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(waveforms.device)
        return (raw - self.mean) / self.deviation, counts

    def _descriptors(self, waveform: Tensor) -> Tensor:
        """Descriptors ``(L, 25)`` as the package gives them."""
        around, shortest = (round(s * self.sampling_rate) for s in (AROUND_SECONDS, SHORTEST_SECONDS))
        padded = F.pad(waveform, (around, around + max(0, shortest - len(waveform)))).cpu().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            table = self._smile[0].process_signal(padded, self.sampling_rate)
        return torch.from_numpy(table[list(DESCRIPTORS)].to_numpy("float32").copy())

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """Each descriptor by its name."""
        names = [name.partition("_sma3")[0] for name in DESCRIPTORS]
        return Picture(features.float().cpu().numpy().T, "eGeMAPS descriptors", "descriptor", names)
