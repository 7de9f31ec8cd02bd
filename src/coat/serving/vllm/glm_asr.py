"""GLM-ASR in vLLM."""

from __future__ import annotations

from vllm.model_executor.models.glmasr import (
    GlmAsrDummyInputsBuilder,
    GlmAsrForConditionalGeneration,
    GlmAsrMultiModalProcessor,
    GlmAsrProcessingInfo,
)

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, served


@served(info=GlmAsrProcessingInfo, dummy_inputs=GlmAsrDummyInputsBuilder, processor=GlmAsrMultiModalProcessor)
class CoatGlmAsr(NeverAloud, PlacedThinking, GlmAsrForConditionalGeneration):
    """GLM-ASR that thinks."""
