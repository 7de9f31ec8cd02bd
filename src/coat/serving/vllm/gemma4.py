"""Gemma 4 in vLLM."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from vllm.model_executor.models.gemma4_mm import (
    Gemma4DummyInputsBuilder,
    Gemma4ForConditionalGeneration,
    Gemma4MultiModalProcessor,
    Gemma4ProcessingInfo,
)

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, served


@served(info=Gemma4ProcessingInfo, dummy_inputs=Gemma4DummyInputsBuilder, processor=Gemma4MultiModalProcessor)
class CoatGemma4(NeverAloud, PlacedThinking, Gemma4ForConditionalGeneration):
    """Gemma 4 that thinks."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        # vLLM's product on CPUs refuses what a convolution over time leaves: rows that are columns in memory.
        for name, module in self.audio_tower.named_modules():
            if name.endswith("lconv1d.linear_end"):
                module.register_forward_pre_hook(_in_rows)


def _in_rows(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(),)
