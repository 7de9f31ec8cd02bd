"""Base class of families whose tower hears a long clip in windows of 30 s, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coat.backbones.features import AudioFeatures
from coat.backbones.whisper import WhisperBackbone, log_mel, mel_frames


class WindowedBackbone(WhisperBackbone):
    """A family with Whisper's log-mel over windows of 30 s.

    Attributes:
        max_audio_len: The longest clip in seconds, unless the checkpoint's processor says otherwise. That processor
            cuts what is longer, with a warning; here it is refused by name.
    """

    max_audio_len: float

    def read_processor(self, fields: Mapping[str, Any]) -> None:
        """See :meth:`Backbone.read_processor`: the longest clip."""
        self.max_audio_len = float(fields.get("max_audio_len") or fields.get("max_seconds") or self.max_audio_len)
        self.audio_spec = self._audio_spec()

    @property
    def _max_seconds(self) -> float:
        """Processors cut to whole windows."""
        window = self.feature_extractor.chunk_length
        return float(self.max_audio_len // window * window)

    def num_audio_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.num_audio_tokens`: the sum over windows, as the tower gives them."""
        extractor = self.feature_extractor
        whole, rest = divmod(num_samples, extractor.n_samples)
        tail = self.window_tokens(mel_frames(extractor, rest)) if rest else 0
        return whole * self.window_tokens(extractor.nb_max_frames) + tail

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(W, mels, frames)`` of the windows of all clips; a short clip costs what is in it."""
        size = self.feature_extractor.n_samples
        cut = [[wave[i : i + size] for i in range(0, len(wave), size)] for wave in waveforms]
        pieces = [piece for pieces in cut for piece in pieces]
        values, lengths = log_mel(self.feature_extractor, pieces, look_ahead=self.look_ahead)
        counts = torch.tensor([self.num_audio_tokens(len(wave)) for wave in waveforms])
        return AudioFeatures(values, lengths, counts, torch.tensor([len(pieces) for pieces in cut]))

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`."""
        rows = self.encode_windows(features)
        assert features.windows is not None
        ends = features.windows.cumsum(0).tolist()
        return [torch.cat(rows[end - n : end]) for end, n in zip(ends, features.windows.tolist(), strict=True)]
