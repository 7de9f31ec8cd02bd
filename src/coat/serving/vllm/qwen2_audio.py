"""Qwen2-Audio in vLLM."""

from __future__ import annotations

from vllm.model_executor.models.qwen2_audio import (
    Qwen2AudioDummyInputsBuilder,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioMultiModalProcessor,
    Qwen2AudioProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from coat.serving.vllm.thinking import NeverAloud, ThinkingDummyInputs, ThinkingInfo, ThinkingProcessor


class Info(ThinkingInfo, Qwen2AudioProcessingInfo):
    """Any sampling rate."""


class DummyInputs(ThinkingDummyInputs, Qwen2AudioDummyInputsBuilder):
    """With the block."""


class Processor(ThinkingProcessor, Qwen2AudioMultiModalProcessor):
    """With the block."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=DummyInputs)
class CoatQwen2Audio(NeverAloud, Qwen2AudioForConditionalGeneration):
    """Qwen2-Audio that thinks."""
