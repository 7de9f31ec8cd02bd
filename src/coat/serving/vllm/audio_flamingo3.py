"""Audio Flamingo 3 in vLLM."""

from __future__ import annotations

from vllm.model_executor.models.audioflamingo3 import (
    AudioFlamingo3DummyInputsBuilder,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3MultiModalProcessor,
    AudioFlamingo3ProcessingInfo,
)

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, served


@served(
    info=AudioFlamingo3ProcessingInfo,
    dummy_inputs=AudioFlamingo3DummyInputsBuilder,
    processor=AudioFlamingo3MultiModalProcessor,
)
class CoatAudioFlamingo3(NeverAloud, PlacedThinking, AudioFlamingo3ForConditionalGeneration):
    """Audio Flamingo 3 that thinks."""
