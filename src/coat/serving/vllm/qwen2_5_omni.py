"""Qwen2.5-Omni in vLLM."""

from __future__ import annotations

from vllm.model_executor.models.qwen2_5_omni_thinker import (
    Qwen2_5OmniThinkerDummyInputsBuilder,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2_5OmniThinkerMultiModalProcessor,
    Qwen2_5OmniThinkerProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, ThinkingDummyInputs, ThinkingInfo, ThinkingProcessor


class Info(ThinkingInfo, Qwen2_5OmniThinkerProcessingInfo):
    """Any sampling rate."""


class DummyInputs(ThinkingDummyInputs, Qwen2_5OmniThinkerDummyInputsBuilder):
    """With the block."""


class Processor(ThinkingProcessor, Qwen2_5OmniThinkerMultiModalProcessor):
    """With the block."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=DummyInputs)
class CoatQwen25Omni(NeverAloud, PlacedThinking, Qwen2_5OmniThinkerForConditionalGeneration):
    """Qwen2.5-Omni that thinks."""
