"""GLM-ASR in vLLM."""

from __future__ import annotations

from vllm.model_executor.models.glmasr import (
    GlmAsrDummyInputsBuilder,
    GlmAsrForConditionalGeneration,
    GlmAsrMultiModalProcessor,
    GlmAsrProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, ThinkingDummyInputs, ThinkingInfo, ThinkingProcessor


class Info(ThinkingInfo, GlmAsrProcessingInfo):
    """Any sampling rate."""


class DummyInputs(ThinkingDummyInputs, GlmAsrDummyInputsBuilder):
    """With the block."""


class Processor(ThinkingProcessor, GlmAsrMultiModalProcessor):
    """With the block."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=DummyInputs)
class CoatGlmAsr(NeverAloud, PlacedThinking, GlmAsrForConditionalGeneration):
    """GLM-ASR that thinks."""
