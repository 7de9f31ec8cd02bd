"""Qwen2.5-Omni in vLLM."""

from __future__ import annotations

from vllm.model_executor.models.qwen2_5_omni_thinker import (
    Qwen2_5OmniThinkerDummyInputsBuilder,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2_5OmniThinkerMultiModalProcessor,
    Qwen2_5OmniThinkerProcessingInfo,
)

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, served


@served(
    info=Qwen2_5OmniThinkerProcessingInfo,
    dummy_inputs=Qwen2_5OmniThinkerDummyInputsBuilder,
    processor=Qwen2_5OmniThinkerMultiModalProcessor,
)
class CoatQwen25Omni(NeverAloud, PlacedThinking, Qwen2_5OmniThinkerForConditionalGeneration):
    """Qwen2.5-Omni that thinks."""
