"""Qwen2.5-Omni (``Qwen/Qwen2.5-Omni-7B``), its thinker alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from coat.backbones.features import AudioFeatures
from coat.backbones.thinker import Thinker, save_thinker
from coat.backbones.whisper import WhisperBackbone


class Qwen25Omni(Thinker, WhisperBackbone):
    """Qwen2.5-Omni without talker and vocoder: a tower that attends within 2 s, and a Qwen2.5 decoder.

    Its tower packs clips and never computes on padding, so it is used as it is. Positions of audio and text
    are those of a plain decoder; three-dimensional ones only matter to images.
    """

    family = "qwen2_5_omni"
    hub_id = "Qwen/Qwen2.5-Omni-7B"
    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"
    look_ahead = 0
    projector_modules = ("audio_tower.proj",)

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`."""
        lengths = features.lengths.to(self.device)
        rows = features.values.to(self.device).transpose(1, 2)
        packed = torch.cat([row[:n] for row, n in zip(rows, features.lengths.tolist(), strict=True)]).T
        states = self.tower_output(packed, feature_lens=lengths, aftercnn_lens=(lengths - 1) // 2 + 1)
        return list(states.split(features.num_audio_tokens.tolist()))

    @property
    def projector(self) -> nn.Module:
        """See :meth:`Backbone.projector`."""
        tower: Any = self.audio_tower
        return tower.proj

    def save_model(self, folder: str) -> None:
        """Write the thinker as a part of the full model, as the hub has it."""
        from transformers import Qwen2_5OmniConfig

        save_thinker(self.model, Qwen2_5OmniConfig, folder)
