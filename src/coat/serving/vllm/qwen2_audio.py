"""Qwen2-Audio in vLLM."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.qwen2_audio import (
    Qwen2AudioDummyInputsBuilder,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioMultiModalProcessor,
    Qwen2AudioProcessingInfo,
)

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, served


@served(
    info=Qwen2AudioProcessingInfo, dummy_inputs=Qwen2AudioDummyInputsBuilder, processor=Qwen2AudioMultiModalProcessor
)
class CoatQwen2Audio(NeverAloud, PlacedThinking, Qwen2AudioForConditionalGeneration):
    """Qwen2-Audio that thinks."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        # vLLM has a Qwen2 inside, whatever the configuration says; another model's answers would be noise.
        held = vllm_config.model_config.hf_config.text_config.model_type
        if held != "qwen2":
            raise ValueError(
                f"the checkpoint has a {held} as its language model; vLLM's Qwen2-Audio takes a qwen2 alone"
            )
        super().__init__(vllm_config=vllm_config, prefix=prefix)
