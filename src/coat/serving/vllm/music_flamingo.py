"""Music Flamingo and Audio Flamingo Next in vLLM, which has Audio Flamingo 3 alone."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MusicFlamingoConfig, MusicFlamingoProcessor
from transformers.models.musicflamingo.modeling_musicflamingo import MusicFlamingoRotaryEmbedding
from vllm.model_executor.models.audioflamingo3 import (
    AudioFlamingo3DummyInputsBuilder,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3MultiModalProcessor,
    AudioFlamingo3ProcessingInfo,
)
from vllm.multimodal.processing.processor import PromptReplacement, PromptUpdateDetails

from coat.backbones.music_flamingo import turn, window_times
from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import NeverAloud, served


class MusicFlamingoInfo(AudioFlamingo3ProcessingInfo):
    """The family's own configuration and processor."""

    def get_hf_config(self) -> Any:
        """See vLLM."""
        return self.ctx.get_hf_config(MusicFlamingoConfig)

    def get_hf_processor(self, **kwargs: object) -> Any:
        """See vLLM."""
        return self.ctx.get_hf_processor(MusicFlamingoProcessor, **kwargs)


class MusicFlamingoPrompts(AudioFlamingo3MultiModalProcessor):
    """A token before and after each clip's own."""

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any) -> Any:
        (update,) = super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)
        processor = self.info.get_hf_processor(**hf_processor_mm_kwargs)

        def bounded(index: int) -> Any:
            tokens = update.replacement(index).full
            ids = [processor.audio_bos_token_id, *tokens, processor.audio_eos_token_id]
            return PromptUpdateDetails.select_token_id(ids, embed_token_id=processor.audio_token_id)

        return [PromptReplacement(modality="audio", target=update.target, replacement=bounded)]


@served(info=MusicFlamingoInfo, dummy_inputs=AudioFlamingo3DummyInputsBuilder, processor=MusicFlamingoPrompts)
class CoatMusicFlamingo(NeverAloud, PlacedThinking, AudioFlamingo3ForConditionalGeneration):
    """Music Flamingo that thinks."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        with self._mark_tower_model(vllm_config, "audio"):
            self.pos_emb = MusicFlamingoRotaryEmbedding(self.config)

    def _process_audio_input(self, audio_input: Any) -> Any:
        """See vLLM; the tower's states are turned by the times that they stand for."""
        if audio_input.type == "audio_embeds":
            return super()._process_audio_input(audio_input)
        features, mask, counts = self._normalize_audio_feature_inputs(audio_input)
        states = self._encode_audio_features(features, mask)
        places = torch.cat([torch.arange(count) for count in counts])
        times = window_times(places, states.shape[1], self.config.audio_frame_step)
        turned = turn(states, *self.pos_emb(times.to(states.device), seq_len=states.shape[1]))
        return self._group_audio_embeddings(self.multi_modal_projector(turned), mask, counts)
