"""Qwen2-Audio (``Qwen/Qwen2-Audio-7B-Instruct``)."""

from __future__ import annotations

from coat.backbones.whisper import WhisperBackbone


class Qwen2Audio(WhisperBackbone):
    """Qwen2-Audio: a Whisper-like tower, a linear projector and a Qwen2 decoder. It hears 30 s."""

    family = "qwen2_audio"
    hub_id = "Qwen/Qwen2-Audio-7B-Instruct"
    model_class = "Qwen2AudioForConditionalGeneration"

    @classmethod
    def default_template(cls) -> str | None:
        """The template of the stock processor's class: a tokenizer's own template may know no audio."""
        from transformers import Qwen2AudioProcessor

        return Qwen2AudioProcessor.default_chat_template.fget(None)
