"""Audio Flamingo 3 in vLLM."""

from __future__ import annotations

from vllm.model_executor.models.audioflamingo3 import (
    AudioFlamingo3DummyInputsBuilder,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3MultiModalProcessor,
    AudioFlamingo3ProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, ThinkingDummyInputs, ThinkingInfo, ThinkingProcessor


class Info(ThinkingInfo, AudioFlamingo3ProcessingInfo):
    """Any sampling rate."""


class DummyInputs(ThinkingDummyInputs, AudioFlamingo3DummyInputsBuilder):
    """With the block."""


class Processor(ThinkingProcessor, AudioFlamingo3MultiModalProcessor):
    """With the block."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=DummyInputs)
class CoatAudioFlamingo3(NeverAloud, PlacedThinking, AudioFlamingo3ForConditionalGeneration):
    """Audio Flamingo 3 that thinks."""
