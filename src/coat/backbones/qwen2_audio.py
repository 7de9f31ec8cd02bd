"""Qwen2-Audio (``Qwen/Qwen2-Audio-7B-Instruct``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coat.audio import Hearing
from coat.backbones.base import AudioFeatures, Backbone
from coat.data.conversation import Message

# The tower's convolutions look at most this many mel frames past a position; beyond the last true frame
# they must see the log-mel of silence, as they would in a clip padded to 30 s.
LOOK_AHEAD_FRAMES = 4


class Qwen2Audio(Backbone):
    """Qwen2-Audio: a Whisper-like tower, a linear projector and a Qwen2 decoder.

    The stock model encodes every clip as 30 s of mel frames, most of them padding. Here the tower's own
    layers run over the longest true clip of the batch alone; the embeddings are the same.
    """

    family = "qwen2_audio"
    hub_id = "Qwen/Qwen2-Audio-7B-Instruct"
    lora_targets = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

    def __init__(self, model: Any, tokenizer: Any, feature_extractor: Any, chat_template: str | None = None) -> None:
        super().__init__()
        from transformers import Qwen2AudioProcessor

        self.model = model
        # The processor knows the family's template and placeholder; its padding to 30 s is not used.
        self.processor = Qwen2AudioProcessor(feature_extractor, tokenizer, chat_template=chat_template)
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor
        self.hearing = Hearing(
            sampling_rate=feature_extractor.sampling_rate,
            token_rate=feature_extractor.sampling_rate / (4 * feature_extractor.hop_length),
            # A mel frame is centred on its hop; a token averages frames 4i .. 4i + 2 around 4i + 1.
            first_token_seconds=feature_extractor.hop_length / feature_extractor.sampling_rate,
            max_seconds=feature_extractor.n_samples / feature_extractor.sampling_rate,
        )

    @classmethod
    def from_pretrained(cls, path: str, *, dtype: torch.dtype = torch.float32) -> Qwen2Audio:
        """See :meth:`Backbone.from_pretrained`."""
        from transformers import AutoTokenizer, Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

        template = Path(path) / "chat_template.jinja"
        tokenizer = AutoTokenizer.from_pretrained(path)
        return cls(
            Qwen2AudioForConditionalGeneration.from_pretrained(path, dtype=dtype),
            tokenizer,
            WhisperFeatureExtractor.from_pretrained(path),
            template.read_text() if template.is_file() else tokenizer.chat_template,
        )

    @property
    def audio_token_id(self) -> int:
        """The id of ``<|AUDIO|>``."""
        return int(self.model.config.audio_token_id)

    @property
    def audio_tower(self) -> nn.Module:
        """The Whisper-like encoder."""
        return self.model.model.audio_tower

    @property
    def language_model(self) -> nn.Module:
        """The Qwen2 decoder."""
        return self.model.model.language_model

    @property
    def lm_head(self) -> nn.Module:
        """The output layer."""
        return self.model.lm_head

    @property
    def assistant_header(self) -> str:
        """ChatML's header."""
        return "<|im_start|>assistant\n"

    @property
    def end_of_turn(self) -> str:
        """ChatML's end of turn."""
        return "<|im_end|>"

    def render(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        """See :meth:`Backbone.render`."""
        return self.processor.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False)

    def num_audio_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.num_audio_tokens`: two convolutions and a pooling over mel frames."""
        frames = -(-num_samples // self.feature_extractor.hop_length)
        return ((frames - 1) // 2 + 1 - 2) // 2 + 1

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(N, mels, frames)``, padded with silence to the longest clip and the tower's look-ahead."""
        extractor = self.feature_extractor
        hop = extractor.hop_length
        frames = torch.tensor([-(-len(w) // hop) for w in waveforms])
        longest = int(frames.max()) + LOOK_AHEAD_FRAMES
        # The transform reflects its input's last n_fft / 2 samples: keep that edge out of what is used.
        padded = min(longest * hop + extractor.n_fft, extractor.n_samples)
        features = extractor(
            waveforms, sampling_rate=extractor.sampling_rate, padding="max_length", max_length=padded,
            return_tensors="pt",
        )  # fmt: skip
        values = features["input_features"][..., : min(longest, extractor.nb_max_frames)]
        counts = torch.tensor([self.num_audio_tokens(len(w)) for w in waveforms])
        return AudioFeatures(values, frames, counts)

    def audio_embeddings(self, features: AudioFeatures, *, frozen: bool = True) -> list[Tensor]:
        """See :meth:`Backbone.audio_embeddings`."""
        from transformers.masking_utils import create_bidirectional_mask

        tower: Any = self.audio_tower
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            values = features.values.to(self.device, tower.conv1.weight.dtype)
            states = F.gelu(tower.conv2(F.gelu(tower.conv1(values)))).transpose(1, 2)
            states = states + tower.embed_positions.weight[: states.shape[1]]
            conv_lengths = ((features.lengths - 1) // 2 + 1).to(self.device)
            real = torch.arange(states.shape[1], device=self.device) < conv_lengths[:, None]
            mask = create_bidirectional_mask(config=tower.config, inputs_embeds=states, attention_mask=real.long())
            for layer in tower.layers:
                states = layer(states, mask)
            pooled = tower.avg_pooler(states.transpose(1, 2)).transpose(1, 2)
            projected = self.model.model.multi_modal_projector(tower.layer_norm(pooled))
        return [row[:length] for row, length in zip(projected, features.num_audio_tokens.tolist(), strict=True)]

    def save_pretrained(self, folder: str) -> None:
        """See :meth:`Backbone.save_pretrained`."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)
        (Path(folder) / "chat_template.jinja").write_text(self.processor.chat_template)
