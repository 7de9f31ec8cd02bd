"""Qwen2-Audio (``Qwen/Qwen2-Audio-7B-Instruct``)."""

from __future__ import annotations

from typing import Any

from coat.backbones.whisper import WhisperBackbone


class Qwen2Audio(WhisperBackbone):
    """Qwen2-Audio: a Whisper-like tower, a linear projector and a Qwen2 decoder. It hears 30 s."""

    family = "qwen2_audio"
    hub_id = "Qwen/Qwen2-Audio-7B-Instruct"
    model_class = "Qwen2AudioForConditionalGeneration"

    def __init__(self, model: Any, tokenizer: Any, feature_extractor: Any, chat_template: str | None = None) -> None:
        super().__init__(model, tokenizer, feature_extractor, chat_template)
        if self.chat_template is None:  # checkpoints of this family have none; their processor's class brings it
            from transformers import Qwen2AudioProcessor

            self.chat_template = Qwen2AudioProcessor(feature_extractor, tokenizer).default_chat_template
