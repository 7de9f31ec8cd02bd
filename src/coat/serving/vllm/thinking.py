"""The block in vLLM's prompts, by the same function that builds it in training.

vLLM's own processor expands audio placeholders; then blocks are inserted and the places of later audio moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from types import new_class
from typing import Any

import numpy as np
import torch
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.audio import AudioResampler
from vllm.multimodal.parse import AudioProcessorItems

from coat.audio.limits import problem_of
from coat.checkpoints.export_config import ExportConfig, read_export_config
from coat.thinking.block import Block, insert_blocks, plan_blocks, refuse_think_tokens
from coat.thinking.tokens import THINK, THINK_END, THINK_START, ThinkTokens

# In a request's mm_processor_kwargs: False answers without the block; audio tokens for each think token.
SWITCH, STRIDE = "audio_think", "audio_think_stride"


class ThinkingInfo:
    """Mix-in for vLLM's processing info: takes any sampling rate (the stock resampler needs torchaudio)."""

    def get_data_parser(self) -> Any:
        """See vLLM."""
        parser = super().get_data_parser()  # type: ignore[misc]
        rate = self.get_hf_processor().feature_extractor.sampling_rate  # type: ignore[attr-defined]
        parser.audio_resampler = AudioResampler(target_sr=rate, method="soxr")
        return parser


class ThinkingDummyInputs:
    """Mix-in for vLLM's inputs for measuring memory: they end as prompts do, and so hold the block."""

    def get_dummy_text(self, mm_counts: Any) -> str:
        """See vLLM."""
        text = super().get_dummy_text(mm_counts)  # type: ignore[misc]
        return text + config_of(self.info).assistant_header  # type: ignore[attr-defined]

    def _get_dummy_audios(self, *, length: int, **options: Any) -> Any:
        """See vLLM; some families' are longer than what is heard whole."""
        info = self.info  # type: ignore[attr-defined]
        most = round(config_of(info).max_seconds * info.get_hf_processor().feature_extractor.sampling_rate)
        return super()._get_dummy_audios(length=min(length, most), **options)  # type: ignore[misc]


class ThinkingProcessor:
    """Mix-in for vLLM's processor: inserts the blocks after the stock expansion of audio."""

    info: Any

    @cached_property
    def _config(self) -> ExportConfig:
        return config_of(self.info)

    @cached_property
    def _tokens(self) -> ThinkTokens:
        return ThinkTokens(*self.info.get_tokenizer().convert_tokens_to_ids([THINK_START, THINK, THINK_END]))

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """See vLLM.

        Raises:
            ValueError: A clip cannot be heard, a prompt holds think tokens, or audio has no assistant turn after it.
        """
        self._check_clips(inputs.mm_data_items)
        options = dict(inputs.hf_processor_mm_kwargs)
        think, stride = bool(options.pop(SWITCH, True)), options.pop(STRIDE, None)
        thinking = self._config.thinking.at(int(stride)) if stride else self._config.thinking
        inputs = replace(inputs, hf_processor_mm_kwargs=options)
        if stride and thinking.positions == "audio":
            # Equal think tokens stand elsewhere at another stride: nothing that is cached of a prompt fits both.
            inputs = replace(inputs, media_io_kwargs={**inputs.media_io_kwargs, "audio": {STRIDE: stride}})
        out = super().apply(inputs, timing_ctx)  # type: ignore[misc]
        ids = out["prompt_token_ids"]
        tokenizer = self.info.get_tokenizer()
        audio_token = tokenizer.convert_tokens_to_ids(self._config.audio_token)
        refuse_think_tokens([ids], self._tokens)
        if not (think and thinking.enabled):
            return out
        blocks = plan_blocks(
            ids,
            audio_token=audio_token,
            assistant_header=tokenizer.encode(self._config.assistant_header, add_special_tokens=False),
            tokens=self._tokens,
            thinking=thinking,
        )
        out["prompt_token_ids"] = insert_blocks(ids, blocks, self._tokens)
        out["mm_placeholders"] = {
            modality: [replace(place, offset=place.offset + shift(place.offset, blocks)) for place in places]
            for modality, places in out["mm_placeholders"].items()
        }
        return out

    def _check_clips(self, items: Any) -> None:
        if items.get_count("audio", strict=False) == 0:
            return
        clips = items.get_items("audio", AudioProcessorItems)
        rate = self.info.get_hf_processor().feature_extractor.sampling_rate
        for index in range(len(clips)):
            problem = problem_of(np.asarray(clips.get(index)), rate, self._config.max_seconds)
            if problem:
                raise ValueError(f"A clip {problem.text} {problem.remedy}")


class NeverAloud:
    """Mix-in for vLLM's model: think tokens are consumed, never produced."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        from transformers import GenerationConfig

        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        config = GenerationConfig.from_pretrained(vllm_config.model_config.model)
        self.suppressed = list(config.suppress_tokens or [])

    def compute_logits(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor | None:
        """See vLLM."""
        logits = super().compute_logits(hidden_states, *args, **kwargs)  # type: ignore[misc]
        if logits is not None:  # on ranks that do not hold the vocabulary
            logits[..., self.suppressed] = float("-inf")
        return logits


def served(*, info: type, dummy_inputs: type, processor: type) -> Callable[[type], type]:
    """Register a model that thinks: with vLLM's parts for its family, and the block in each.

    Args:
        info: Subclass of vLLM's ``BaseProcessingInfo``.
        dummy_inputs: Subclass of its ``BaseDummyInputsBuilder``.
        processor: Subclass of its ``BaseMultiModalProcessor``.
    """

    def register(model: type) -> type:
        made = [
            new_class(f"{model.__name__}{part}", (mixin, stock))
            for part, mixin, stock in (
                ("Info", ThinkingInfo, info),
                ("DummyInputs", ThinkingDummyInputs, dummy_inputs),
                ("Processor", ThinkingProcessor, processor),
            )
        ]
        return MULTIMODAL_REGISTRY.register_processor(made[2], info=made[0], dummy_inputs=made[1])(model)

    return register


def shift(offset: int, blocks: list[Block]) -> int:
    """How far blocks before it move what stood at an offset."""
    return sum(block.length for block in blocks if block.position <= offset)


def config_of(info: Any) -> ExportConfig:
    """The export's configuration.

    Raises:
        ValueError: The folder is no export.
    """
    place = info.ctx.model_config.model
    config = read_export_config(place)
    if config is None:
        raise ValueError(f"{place} has no CoatProcessor in processor_config.json: write it with coat export")
    return config
