"""Music Flamingo (``nvidia/music-flamingo-2601-hf``) and Audio Flamingo Next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coat.backbones.audio_flamingo3 import AudioFlamingo3
from coat.backbones.base import AudioFeatures, Backbone
from coat.backbones.token_counts import pooled_frames

# The processor of the family cuts what is longer, with a warning; here it is refused by name.
MAX_SECONDS = 1200.0
# Four mel frames become a token.
FRAMES_PER_TOKEN = 4


class MusicFlamingo(AudioFlamingo3):
    """Music Flamingo: Audio Flamingo 3 with tokens around each clip, and times in the tower's states; up to 20 min.

    Attributes:
        max_audio_len: The longest clip in seconds, as the checkpoint's processor has it: 1,200, or 1,800 of Audio
            Flamingo Next.
    """

    family = "music_flamingo"
    hub_id = "nvidia/music-flamingo-2601-hf"
    model_class = "MusicFlamingoForConditionalGeneration"
    boundaries = ("<|sound_bos|>", "<|sound_eos|>")
    think_prompt = ""
    max_audio_len: float = MAX_SECONDS

    @classmethod
    def from_pretrained(cls, path: str, **options: Any) -> MusicFlamingo:
        """See :meth:`Backbone.from_pretrained`; the longest clip is what the processor says."""
        import transformers

        backbone = super().from_pretrained(path, **options)
        fields, _ = transformers.ProcessorMixin.get_processor_dict(path)
        backbone.max_audio_len = float(fields.get("max_audio_len") or fields.get("max_seconds") or MAX_SECONDS)
        backbone.audio_spec = backbone._audio_spec()
        return backbone

    @property
    def _max_seconds(self) -> float:
        return self.max_audio_len

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`; each window's states are turned by the times that they stand for."""
        from transformers.models.musicflamingo.modeling_musicflamingo import apply_rotary_time_emb

        clips = super().encode(features)
        longest = pooled_frames(self.feature_extractor.nb_max_frames)
        windows = [window for clip in clips for window in clip.split(longest)]
        places = [place for clip in clips for place in range(len(clip.split(longest)))]
        cos, sin = self._angles(torch.tensor(places), longest)
        turned = [
            apply_rotary_time_emb(window[None], cos[i : i + 1, : len(window)], sin[i : i + 1, : len(window)])[0]
            for i, window in enumerate(windows)
        ]
        return list(torch.cat(turned).split([len(clip) for clip in clips]))

    def _angles(self, places: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for windows of a clip, ``(W, longest, r)``, by their places in it."""
        step = self.model.config.audio_frame_step * FRAMES_PER_TOKEN
        within = torch.arange(longest, dtype=torch.float32) * step
        times = places[:, None] * longest * step + within
        return self.model.model.pos_emb(times.to(self.device), seq_len=longest)

    def load_think_mode(self, path: str | None = None) -> None:
        """The family has no adapter that thinks in text."""
        Backbone.load_think_mode(self, path)
