"""Qwen3-Omni (``Qwen/Qwen3-Omni-30B-A3B-Instruct``), its thinker alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from coat.audio import AudioSpec
from coat.backbones.features import AudioFeatures
from coat.backbones.thinker import Thinker, save_thinker
from coat.backbones.token_counts import QWEN3_CHUNK_TOKENS, chunked_frames


class Qwen3Omni(Thinker):
    """Qwen3-Omni: a tower of 13 tokens a second, and a mixture-of-experts decoder whose attention takes LoRA."""

    family = "qwen3_omni"
    hub_id = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
    model_class = "Qwen3OmniMoeThinkerForConditionalGeneration"
    audio_token = "<|audio_pad|>"
    # The experts' weights are single three-dimensional tensors, which LoRA on linear layers does not reach.
    adapted_layers = ("q_proj", "k_proj", "v_proj", "o_proj")
    projector_modules = ("audio_tower.proj1", "audio_tower.proj2")

    def _audio_spec(self) -> AudioSpec:
        extractor = self.feature_extractor
        hop_seconds = extractor.hop_length / extractor.sampling_rate
        chunk_seconds = self._chunk_frames * hop_seconds
        rate = QWEN3_CHUNK_TOKENS / chunk_seconds
        # Tokens stand eight frames apart from the start of their chunk; the thirteenth has but four frames left.
        # An even rate is late by up to 0.037 s within a chunk: half of that at the first keeps all within 0.02 s.
        first = (QWEN3_CHUNK_TOKENS - 1) * (8 * hop_seconds - 1 / rate) / 2
        return AudioSpec(extractor.sampling_rate, rate, first, extractor.n_samples / extractor.sampling_rate)

    @property
    def _chunk_frames(self) -> int:
        return 2 * int(self.model.config.audio_config.n_window)

    def num_audio_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.num_audio_tokens`."""
        return chunked_frames(self._frames(num_samples), self._chunk_frames)

    def _frames(self, num_samples: int) -> int:
        """The family never pads a clip, and leaves out a last frame that is not whole."""
        return num_samples // int(self.feature_extractor.hop_length)

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(N, mels, frames)``, each clip's computed alone: at its end the transform reflects it."""
        extractor = self.feature_extractor
        rows = [
            extractor(wave, sampling_rate=extractor.sampling_rate, padding=True, return_tensors="pt")["input_features"]
            for wave in waveforms
        ]
        lengths = torch.tensor([self._frames(len(wave)) for wave in waveforms])
        values = pad_sequence([row[0].T for row in rows], batch_first=True).transpose(1, 2)
        return AudioFeatures(values, lengths, torch.tensor([self.num_audio_tokens(len(w)) for w in waveforms]))

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`."""
        rows = features.values.to(self.device).transpose(1, 2)
        packed = torch.cat([row[:n] for row, n in zip(rows, features.lengths.tolist(), strict=True)]).T
        states = self.tower_output(packed, feature_lens=features.lengths.to(self.device))
        return list(states.split(features.num_audio_tokens.tolist()))

    @property
    def projector(self) -> nn.Module:
        """See :meth:`Backbone.projector`."""
        tower: Any = self.audio_tower
        return tower.proj1

    def project(self, states: Tensor) -> Tensor:
        """See :meth:`Backbone.project`."""
        tower: Any = self.audio_tower
        return tower.proj2(tower.act(tower.proj1(states)))

    def save_model(self, folder: str) -> None:
        """Write the thinker as a part of the full model, as the hub has it."""
        from transformers import Qwen3OmniMoeConfig

        save_thinker(self.model, Qwen3OmniMoeConfig, folder)
