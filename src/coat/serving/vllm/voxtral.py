"""Voxtral in vLLM, in the layout of transformers: vLLM's own reads Mistral's, whose tokenizer takes no think tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.models.voxtral.modeling_voxtral import VoxtralEncoder, VoxtralMultiModalProjector
from vllm.model_executor.models.audioflamingo3 import AudioFlamingo3ForConditionalGeneration
from vllm.model_executor.models.utils import init_vllm_registered_model, maybe_prefix
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
)

from coat.backbones.token_counts import FRAMES_PER_VOXTRAL_TOKEN
from coat.serving.vllm.positions import PlacedThinking
from coat.serving.vllm.thinking import SWITCH, NeverAloud, served
from coat.thinking.auto import CoatProcessor


class VoxtralInfo(BaseProcessingInfo):
    """Clips of any number, by the export's own processor."""

    def get_hf_processor(self, **kwargs: object) -> Any:
        """See vLLM."""
        return self.ctx.get_hf_processor(CoatProcessor, **kwargs)

    def get_data_parser(self) -> MultiModalDataParser:
        """See vLLM."""
        rate = self.get_hf_processor().feature_extractor.sampling_rate
        return MultiModalDataParser(
            target_sr=rate, target_channels=1, expected_hidden_size=self._get_expected_hidden_size()
        )

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """See vLLM."""
        return {"audio": None}


class VoxtralDummyInputs(BaseDummyInputsBuilder[VoxtralInfo]):
    """The longest clips that are heard."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """See vLLM."""
        return ("[BEGIN_AUDIO]" + self.info.get_hf_processor().audio_token) * mm_counts.get("audio", 0)

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> Any:
        """See vLLM."""
        extractor = self.info.get_hf_processor().feature_extractor
        windows = max(1, seq_len * FRAMES_PER_VOXTRAL_TOKEN // extractor.nb_max_frames)
        count, overrides = mm_counts.get("audio", 0), mm_options.get("audio")
        length = windows * extractor.n_samples
        return {"audio": self._get_dummy_audios(length=length, num_audios=count, overrides=overrides)}


class VoxtralProcessor(BaseMultiModalProcessor[VoxtralInfo]):
    """Windows of all clips, and as many placeholders as their tokens."""

    def _get_hf_mm_text(self, mm_counts: Mapping[str, int]) -> str:
        return self.dummy_inputs.get_dummy_text(mm_counts)

    def _get_hf_mm_inputs(self, mm_items: Any, hf_kwargs: Mapping[str, object]) -> Any:
        inputs = super()._get_hf_mm_inputs(mm_items, hf_kwargs)
        return inputs._replace(hf_kwargs={**inputs.hf_kwargs, SWITCH: False})  # blocks are put into prompts, not here

    def _postprocess_hf_mm_data(self, mm_inputs: Any, hf_processor_mm_kwargs: Any, processed_data: Any) -> Any:
        clips = mm_inputs.get("audio") or []
        if len(clips):
            window = self.info.get_hf_processor().feature_extractor.n_samples
            processed_data["windows"] = torch.tensor([-(-len(clip) // window) for clip in clips])
        return processed_data

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Any) -> Mapping[str, MultiModalFieldConfig]:
        windows = hf_inputs.get("windows", torch.empty(0, dtype=torch.long))
        return {
            "input_features": MultiModalFieldConfig.flat_from_sizes("audio", windows),
            "windows": MultiModalFieldConfig.batched("audio", keep_on_cpu=True),
        }

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any) -> Any:
        processor = self.info.get_hf_processor(**hf_processor_mm_kwargs)
        tokens = processor.feature_extractor.nb_max_frames // FRAMES_PER_VOXTRAL_TOKEN
        windows = out_mm_kwargs.get_data().get("windows", ())

        def placeholders(index: int) -> list[int]:
            return [processor.audio_token_id] * (int(windows[index]) * tokens)

        return [PromptReplacement(modality="audio", target=[processor.audio_token_id], replacement=placeholders)]


class VoxtralModel(AudioFlamingo3ForConditionalGeneration):
    """Tower, projector and language model; what vLLM has of Audio Flamingo 3 reads and runs them."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        nn.Module.__init__(self)
        config = vllm_config.model_config.hf_config
        self.config = config
        with self._mark_tower_model(vllm_config, "audio"):
            self.audio_tower = VoxtralEncoder._from_config(config.audio_config)
            self.multi_modal_projector = VoxtralMultiModalProjector(config)
        self.audio_tower.embed_positions.float()  # transformers keeps them whole, whatever the rest is in
        make = partial(init_vllm_registered_model, vllm_config=vllm_config, hf_config=config.text_config)
        with self._mark_language_model(vllm_config):
            self.language_model = make(
                prefix=maybe_prefix(prefix, "language_model"), architectures=["LlamaForCausalLM"]
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """See vLLM."""
        features, windows = kwargs.get("input_features"), kwargs.get("windows")
        if features is None:
            return []
        values = torch.cat(list(features)) if isinstance(features, list) else features
        weight = self.audio_tower.conv1.weight
        states = self.audio_tower(values.to(weight.device, weight.dtype)).last_hidden_state
        rows = self.multi_modal_projector(states.reshape(-1, self.config.audio_config.intermediate_size))
        per_window = len(rows) // len(values)
        counts = torch.as_tensor(windows).flatten().tolist() if not isinstance(windows, list) else map(int, windows)
        return rows.split([count * per_window for count in counts])


@served(info=VoxtralInfo, dummy_inputs=VoxtralDummyInputs, processor=VoxtralProcessor)
class CoatVoxtral(NeverAloud, PlacedThinking, VoxtralModel):
    """Voxtral that thinks."""
