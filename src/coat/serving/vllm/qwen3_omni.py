"""Qwen3-Omni in vLLM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from vllm.model_executor.models.qwen3_omni_moe_thinker import (
    Qwen3OmniMoeThinkerDummyInputsBuilder,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    Qwen3OmniMoeThinkerMultiModalProcessor,
    Qwen3OmniMoeThinkerProcessingInfo,
)

from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, served


class EachClipAlone(Qwen3OmniMoeThinkerMultiModalProcessor):
    """Clips heard as transformers hears each alone.

    vLLM fills a clip up to a whole frame, which may add an audio token, and fills the shorter clips of a request up to
    the longest, which changes their last frames.
    """

    def _get_hf_mm_inputs(self, mm_items: Any, hf_kwargs: Any) -> Any:
        """Clips as they are; vLLM's class for the family fills them up."""
        return super(Qwen3OmniMoeThinkerMultiModalProcessor, self)._get_hf_mm_inputs(mm_items, hf_kwargs)

    def _call_hf_processor(self, hf_data: Any, hf_kwargs: Any) -> Any:
        """Clips by themselves; the rest as vLLM has it. Sound within a video is left to vLLM."""
        clips = hf_data.get("audio", ())
        if not clips or "videos" in hf_data:
            return super()._call_hf_processor(hf_data, hf_kwargs)
        rest = {name: value for name, value in hf_data.items() if name != "audio"}
        rest["text"] = self._get_hf_mm_text({"image": len(hf_data.get("images", ()))})
        spectrograms = [self._spectrogram(clip) for clip in clips]
        lengths = [mel.shape[1] for mel in spectrograms]
        heard = super()._call_hf_processor(rest, hf_kwargs)
        heard["input_audio_features"] = torch.cat(spectrograms, dim=1)
        heard["audio_feature_lengths"] = torch.tensor(lengths)
        heard["feature_attention_mask"] = [torch.ones(length) for length in lengths]
        return heard

    def _postprocess_hf_mm_data(self, mm_data: Any, hf_kwargs: Any, processed_data: Any) -> Any:
        """Lengths as they are; vLLM's class for the family counts frames of the clips that it filled up."""
        stock = Qwen3OmniMoeThinkerMultiModalProcessor
        return super(stock, self)._postprocess_hf_mm_data(mm_data, hf_kwargs, processed_data)

    def _spectrogram(self, clip: Any) -> torch.Tensor:
        """Log-mel of a clip, ``(mels, frames)``: whole frames alone."""
        wave = np.asarray(clip[0] if isinstance(clip, tuple) else clip)
        extractor = self.info.get_feature_extractor()
        heard = extractor(wave, sampling_rate=extractor.sampling_rate, padding=True, return_tensors="pt")
        return heard["input_features"][0, :, : len(wave) // extractor.hop_length]


@served(
    info=Qwen3OmniMoeThinkerProcessingInfo,
    dummy_inputs=Qwen3OmniMoeThinkerDummyInputsBuilder,
    processor=EachClipAlone,
)
class CoatQwen3Omni(NeverAloud, PlacedThinking, Qwen3OmniMoeThinkerForConditionalGeneration):
    """Qwen3-Omni that thinks."""
