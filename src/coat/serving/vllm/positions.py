"""Think tokens at the positions of their audio, in vLLM.

vLLM asks a model for positions only where its configuration has M-RoPE, of three dimensions. A family without M-RoPE is
said to have it, gives one position three times over, and reads one of the three.
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
# By this attribute of a configuration vLLM finds M-RoPE too, if it is not among the parameters of RoPE.
DECLARED = "mrope_section"


class PlacedThinking:
    """Mix-in for vLLM's model: positions as the export was trained."""

    supports_mrope = True

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        self._place = vllm_config.model_config.model
        text = vllm_config.model_config.hf_config.get_text_config()
        self._said_to_have_it = hasattr(text, DECLARED)
        config = read_export_config(self._place)
        if config and config.thinking.positions == "audio" and not vllm_config.model_config.uses_mrope:
            raise ValueError(
                "the export was trained with thinking.positions: audio, and this version of vLLM does not ask for "
                "positions: answers would be another model's. Serve it with vLLM 0.32"
            )

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

    def forward(self, input_ids: torch.Tensor | None, positions: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """See vLLM."""
        if self._said_to_have_it and positions.ndim == 2:
            positions = positions[0]
        return super().forward(input_ids, positions, *args, **kwargs)  # type: ignore[misc]


def ask_for_positions(architectures: Any, prefix: str) -> None:
    """Tell vLLM of some architectures that they may have positions of their own.

    Args:
        architectures: Their names.
        prefix: The part of a name that is ours; what vLLM sets up for the rest of it is kept.
    """
    for architecture in architectures:
        stock = MODELS_CONFIG_MAP.get(architecture.removeprefix(prefix), VerifyAndUpdateConfig)
        MODELS_CONFIG_MAP[architecture] = _asking(stock)


def _asking(stock: type[VerifyAndUpdateConfig]) -> type[VerifyAndUpdateConfig]:
    class AskedForPositions(stock):
        """Makes vLLM ask the model for positions, if its think tokens stand where their audio does."""

        @staticmethod
        def verify_and_update_model_config(model_config: Any) -> None:
            stock.verify_and_update_model_config(model_config)
            config = read_export_config(model_config.model)
            if config and config.thinking.positions == "audio" and not model_config.uses_mrope:
                setattr(model_config.hf_config.get_text_config(), DECLARED, [1] * DIMENSIONS)

    return AskedForPositions
