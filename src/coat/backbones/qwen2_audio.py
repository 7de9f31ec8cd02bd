"""Qwen2-Audio (``Qwen/Qwen2-Audio-7B-Instruct``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from coat.audio import Hearing
from coat.backbones.base import AudioFeatures, Backbone
from coat.backbones.whisper import (
    LOOK_AHEAD_FRAMES,
    encode_windows,
    log_mel,
    mel_frames,
    pooled_frames,
    quarter_rate_hearing,
)


class Qwen2Audio(Backbone):
    """Qwen2-Audio: a Whisper-like tower, a linear projector and a Qwen2 decoder. It hears 30 s."""

    family = "qwen2_audio"
    hub_id = "Qwen/Qwen2-Audio-7B-Instruct"
    model_class = "Qwen2AudioForConditionalGeneration"

    def __init__(self, model: Any, tokenizer: Any, feature_extractor: Any, chat_template: str | None = None) -> None:
        super().__init__(model, tokenizer, feature_extractor, chat_template)
        if self.chat_template is None:  # checkpoints of this family have none; their processor's class brings it
            from transformers import Qwen2AudioProcessor

            self.chat_template = Qwen2AudioProcessor(feature_extractor, tokenizer).default_chat_template

    def _hearing(self) -> Hearing:
        return quarter_rate_hearing(
            self.feature_extractor, self.feature_extractor.n_samples / self.feature_extractor.sampling_rate
        )

    def num_audio_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.num_audio_tokens`."""
        return pooled_frames(mel_frames(self.feature_extractor, num_samples))

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(N, mels, frames)`` of the longest clip's length, and the tower's look-ahead."""
        values, lengths = log_mel(self.feature_extractor, waveforms, look_ahead=LOOK_AHEAD_FRAMES)
        return AudioFeatures(values, lengths, torch.tensor([self.num_audio_tokens(len(w)) for w in waveforms]))

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`."""
        return encode_windows(
            self.audio_tower, self.model.model.multi_modal_projector, features.values, features.lengths
        )
