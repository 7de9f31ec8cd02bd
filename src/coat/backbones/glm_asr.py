"""GLM-ASR (``zai-org/GLM-ASR-Nano-2512``)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from coat.backbones.features import AudioFeatures
from coat.backbones.token_counts import merged_frames
from coat.backbones.windows import WindowedBackbone
from coat.data.conversation import Message


class GlmAsr(WindowedBackbone):
    """GLM-ASR: Whisper with rotary positions, of which four states in a row are a token, and a Llama; up to 10.5 min.

    The tower attends to the silence after a clip too, so that a window is encoded whole whatever is in it.
    """

    family = "glm_asr"
    hub_id = "zai-org/GLM-ASR-Nano-2512"
    model_class = "GlmAsrForConditionalGeneration"
    audio_token = "<|pad|>"
    adapted_tower_layers = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
    tower_over_tokens = 4
    whole_windows = True
    max_clips = 1
    max_audio_len = 655.0
    look_ahead: ClassVar[int] = 3000  # to the end of a window
    frames_per_token = 8
    middle_frame = 3  # of 8i, 8i + 2, 8i + 4 and 8i + 6

    def window_tokens(self, frames: int) -> int:
        """See :meth:`WhisperBackbone.window_tokens`."""
        return merged_frames(frames)

    def encode_windows(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`WhisperBackbone.encode_windows`."""
        states = self.audio_tower(features.values.to(self.device, self.dtype)).last_hidden_state
        merged = states.reshape(len(states), -1, self.audio_size)
        return [row[: self.window_tokens(n)] for row, n in zip(merged, features.lengths.tolist(), strict=True)]

    @property
    def audio_size(self) -> int:
        """See :attr:`Backbone.audio_size`."""
        return int(self.model.config.audio_config.intermediate_size)

    def render(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        """See :meth:`Backbone.render`; an answer is closed by the token that opens the user's next turn."""
        text = super().render(messages, add_generation_prompt=add_generation_prompt)
        answered = messages[-1]["role"] == "assistant" and not add_generation_prompt
        return text + self.end_of_turn if answered else text

    @property
    def assistant_header(self) -> str:
        """See :attr:`Backbone.assistant_header`."""
        return "<|assistant|>\n"

    @property
    def end_of_turn(self) -> str:
        """See :attr:`Backbone.end_of_turn`."""
        return "<|user|>"
