"""Base class of families with a Whisper-like tower: log-mel of true length, the token count, the tower's layers.

Stock models encode every clip as a full window of 30 s, most of it padding. Here log-mel and tower run over
the longest true clip of the batch alone; the embeddings are the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from coat.audio import AudioSpec
from coat.backbones.base import Backbone
from coat.backbones.features import AudioFeatures
from coat.backbones.token_counts import pooled_frames

# The convolutions look at most this many mel frames past a position; beyond the last true frame they must
# see the log-mel of silence, as they would in a padded window.
LOOK_AHEAD_FRAMES = 4


def mel_frames(extractor: Any, num_samples: int) -> int:
    """Mel frames that hold sound, as the extractor's own attention mask counts them."""
    return -(-num_samples // extractor.hop_length)


def log_mel(extractor: Any, waveforms: list[np.ndarray], *, look_ahead: int = 0) -> tuple[Tensor, Tensor]:
    """Log-mel of waveforms, padded with silence to the longest.

    Args:
        extractor: A ``WhisperFeatureExtractor``.
        waveforms: ``(samples,)`` each, none longer than the extractor's window.
        look_ahead: Frames to keep beyond the longest.

    Returns:
        Log-mel ``(N, mels, frames)`` and true frames ``(N,)``.
    """
    frames = torch.tensor([mel_frames(extractor, len(waveform)) for waveform in waveforms])
    longest = int(frames.max()) + look_ahead
    # The transform reflects its input's last n_fft / 2 samples: keep that edge out of what is used.
    padded = min(longest * extractor.hop_length + extractor.n_fft, extractor.n_samples)
    features = extractor(
        waveforms, sampling_rate=extractor.sampling_rate, padding="max_length", max_length=padded, return_tensors="pt"
    )
    return features["input_features"][..., : min(longest, extractor.nb_max_frames)], frames


def encode_windows(tower: Any, values: Tensor, lengths: Tensor) -> list[Tensor]:
    """Run a tower's own layers over windows of true length.

    Args:
        tower: Two convolutions, positions, layers, average pooling, a norm.
        values: ``(W, mels, frames)``.
        lengths: ``(W,)`` true mel frames.

    Returns:
        States of each window, ``(tokens, audio_size)``.
    """
    from transformers.masking_utils import create_bidirectional_mask

    values = values.to(tower.conv1.weight.device, tower.conv1.weight.dtype)
    states = F.gelu(tower.conv2(F.gelu(tower.conv1(values)))).transpose(1, 2)
    states = states + tower.embed_positions.weight[: states.shape[1]]
    after_conv = ((lengths - 1) // 2 + 1).to(states.device)
    real = torch.arange(states.shape[1], device=states.device) < after_conv[:, None]
    mask = create_bidirectional_mask(config=tower.config, inputs_embeds=states, attention_mask=real.long())
    for layer in tower.layers:
        states = layer(states, mask)
    pooled = tower.avg_pooler(states.transpose(1, 2)).transpose(1, 2)
    normed = tower.layer_norm(pooled)
    return [row[: pooled_frames(length)] for row, length in zip(normed, lengths.tolist(), strict=True)]


class WhisperBackbone(Backbone):
    """A family with Whisper's log-mel and a token for every few frames of it.

    Attributes:
        look_ahead: Frames of silence that the tower must see beyond a clip's last.
        frames_per_token: Mel frames from one token to the next.
        middle_frame: The middle of the frames whose states are in the first token.
    """

    look_ahead: ClassVar[int] = LOOK_AHEAD_FRAMES
    frames_per_token: ClassVar[int] = 4
    middle_frame: ClassVar[int] = 1  # of 4i .. 4i + 2, which are averaged

    @property
    def _max_seconds(self) -> float:
        return self.feature_extractor.n_samples / self.feature_extractor.sampling_rate

    def _audio_spec(self) -> AudioSpec:
        extractor = self.feature_extractor
        hop_seconds = extractor.hop_length / extractor.sampling_rate
        return AudioSpec(
            sampling_rate=extractor.sampling_rate,
            token_rate=1 / (self.frames_per_token * hop_seconds),
            first_token_seconds=self.middle_frame * hop_seconds,
            max_seconds=self._max_seconds,
        )

    def num_audio_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.num_audio_tokens`."""
        return self.window_tokens(mel_frames(self.feature_extractor, num_samples))

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(N, mels, frames)`` of the longest clip's length, and the tower's look-ahead."""
        values, lengths = log_mel(self.feature_extractor, waveforms, look_ahead=self.look_ahead)
        return AudioFeatures(values, lengths, torch.tensor([self.num_audio_tokens(len(w)) for w in waveforms]))

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`."""
        return self.encode_windows(features)

    def encode_windows(self, features: AudioFeatures) -> list[Tensor]:
        """The tower's states of each window, ``(tokens, audio_size)``."""
        return encode_windows(self.audio_tower, features.values, features.lengths)

    def window_tokens(self, frames: int) -> int:
        """Audio tokens of a window of so many mel frames."""
        return pooled_frames(frames)
