"""Think tokens at the positions of their audio, in vLLM.

vLLM asks a model for positions only where its configuration has M-RoPE, which turns parts of each head by positions of
several dimensions. Where these are equal it is plain RoPE: so a family without M-RoPE is given sections, and one
position three times over.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from vllm.model_executor.models.config import MODELS_CONFIG_MAP, VerifyAndUpdateConfig

from coat.checkpoints.export_config import ExportConfig, read_export_config
from coat.thinking.block import positions_at_audio
from coat.thinking.tokens import THINK, THINK_END, THINK_START, ThinkTokens

DIMENSIONS = 3


class AskedForPositions(VerifyAndUpdateConfig):
    """Makes vLLM ask the model for positions, if its think tokens stand where their audio does."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """See vLLM."""
        config = read_export_config(model_config.model)
        text = model_config.hf_config.get_text_config()
        if config is None or config.thinking.positions == "sequence" or "mrope_section" in text.rope_parameters:
            return
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        part = size // 2 // DIMENSIONS
        text.rope_parameters["mrope_section"] = [size // 2 - 2 * part, part, part]


class PlacedThinking:
    """Mix-in for vLLM's model: positions as the export was trained."""

    supports_mrope = True

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        self._place = vllm_config.model_config.model

    @cached_property
    def _ids(self) -> tuple[ExportConfig, int, ThinkTokens]:
        """The export's configuration, and the ids of its placeholder and think tokens."""
        from transformers import AutoTokenizer

        config = read_export_config(self._place)
        assert config is not None  # the processor has read it
        tokenizer = AutoTokenizer.from_pretrained(self._place)
        audio, *thinks = tokenizer.convert_tokens_to_ids([config.audio_token, THINK_START, THINK, THINK_END])
        return config, audio, ThinkTokens(*thinks)

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Any) -> tuple[torch.Tensor, int]:
        """See vLLM."""
        config, audio, tokens = self._ids
        if config.thinking.positions == "sequence":
            return super().get_mrope_input_positions(input_tokens, mm_features)  # type: ignore[misc]
        positions = torch.tensor(positions_at_audio(input_tokens, audio_token=audio, tokens=tokens))
        return positions.expand(DIMENSIONS, -1), int(positions[-1]) + 1 - len(input_tokens)


def ask_for_positions(architectures: Any) -> None:
    """Tell vLLM of some architectures that they may have positions of their own."""
    for architecture in architectures:
        MODELS_CONFIG_MAP[architecture] = AskedForPositions
