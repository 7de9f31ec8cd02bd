"""Music Flamingo (``nvidia/music-flamingo-2601-hf``) and Audio Flamingo Next."""

from __future__ import annotations

import torch
from torch import Tensor

from coat.backbones.audio_flamingo3 import AudioFlamingo3
from coat.backbones.base import Backbone
from coat.backbones.features import AudioFeatures
from coat.backbones.token_counts import pooled_frames

# Four mel frames become a token.
FRAMES_PER_TOKEN = 4


class MusicFlamingo(AudioFlamingo3):
    """Audio Flamingo 3 with tokens around each clip, and times in the tower's states; up to 20 min, or Next's 30."""

    family = "music_flamingo"
    hub_id = "nvidia/music-flamingo-2601-hf"
    model_class = "MusicFlamingoForConditionalGeneration"
    boundaries = ("<|sound_bos|>", "<|sound_eos|>")
    think_prompt = ""
    max_audio_len = 1200.0

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`; each window's states are turned by the times that they stand for."""
        clips = super().encode(features)
        longest = pooled_frames(self.feature_extractor.nb_max_frames)
        windows = [window for clip in clips for window in clip.split(longest)]
        places = torch.tensor([place for clip in clips for place in range(len(clip.split(longest)))])
        cos, sin = self._angles(places, longest)
        turned = [turn(window[None], cos[[i]], sin[[i]])[0] for i, window in enumerate(windows)]
        return list(torch.cat(turned).split([len(clip) for clip in clips]))

    def _angles(self, places: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        times = window_times(places, longest, self.model.config.audio_frame_step)
        return self.model.model.pos_emb(times.to(self.device), seq_len=longest)

    def load_think_mode(self, path: str | None = None) -> None:
        """The family has no adapter that thinks in text."""
        Backbone.load_think_mode(self, path)


def window_times(places: Tensor, tokens: int, frame_step: float) -> Tensor:
    """Times of the states of whole windows, ``(W, tokens)``, in seconds from the start of their clip.

    Args:
        places: Place of each window in its clip, ``(W,)``.
        tokens: Tokens of a whole window.
        frame_step: Seconds between mel frames.
    """
    step = frame_step * FRAMES_PER_TOKEN
    return places[:, None] * tokens * step + torch.arange(tokens, dtype=torch.float32) * step


def turn(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first dimensions of the tower's states, ``(W, T, d_A)``, by the angles of their times.

    Args:
        states: States of windows, of which the last may be shorter than whole ones.
        cos: Cosines of whole windows, ``(W, tokens, r)``.
        sin: Sines of whole windows, ``(W, tokens, r)``.
    """
    from transformers.models.musicflamingo.modeling_musicflamingo import apply_rotary_time_emb

    kept = states.shape[1]
    return apply_rotary_time_emb(states, cos[:, :kept], sin[:, :kept])
