"""Gemma 4 (``google/gemma-4-E4B-it``, ``google/gemma-4-E2B-it``), the sizes that hear."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from coat.audio import AudioSpec
from coat.backbones.base import Backbone
from coat.backbones.features import AudioFeatures
from coat.backbones.token_counts import FRAMES_PER_GEMMA4_TOKEN, gemma4_frames, gemma4_tokens
from coat.errors import CoatError

# The family's feature extractor cuts what is longer; here it is refused by name.
MAX_SECONDS = 30.0


class Gemma4(Backbone):
    """Gemma 4: a Conformer, a linear projector, and a decoder that reads tokens once more in every layer.

    Each token has an embedding for each layer too. Audio placeholders take that of padding there, and think tokens
    begin with copies of it, which are trained with their other rows.
    """

    family = "gemma4"
    hub_id = "google/gemma-4-E4B-it"
    model_class = "Gemma4ForConditionalGeneration"
    feature_extractor_class = "Gemma4AudioFeatureExtractor"
    audio_token = "<|audio|>"
    boundaries = ("<|audio>", "<audio|>")
    # Every linear layer of the tower is wrapped in one that clips.
    adapted_tower_layers = (
        "q_proj.linear", "k_proj.linear", "v_proj.linear", "post.linear", "ffw_layer_1.linear", "ffw_layer_2.linear",
    )  # fmt: skip
    projector_modules = ("embed_audio",)
    tower_over_tokens = 1
    token_tables = ("embed_tokens", "embed_tokens_per_layer")

    def __init__(self, model: Any, tokenizer: Any, feature_extractor: Any, chat_template: str | None = None) -> None:
        if model.config.audio_config is None:
            raise CoatError(
                f"{model.config._name_or_path or 'This Gemma 4'} has no audio tower: of its sizes, E2B and E4B hear.",
                f"Take {self.hub_id}.",
            )
        super().__init__(model, tokenizer, feature_extractor, chat_template)

    def _audio_spec(self) -> AudioSpec:
        """Frames are centred on their times, and a token on the first of its four."""
        extractor = self.feature_extractor
        rate = extractor.sampling_rate / (FRAMES_PER_GEMMA4_TOKEN * extractor.hop_length)
        return AudioSpec(extractor.sampling_rate, rate, 0.0, MAX_SECONDS)

    def num_audio_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.num_audio_tokens`."""
        return gemma4_tokens(self._frames(num_samples))

    def _frames(self, num_samples: int) -> int:
        return gemma4_frames(num_samples, self.feature_extractor.hop_length)

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(N, frames, mels)`` of the longest clip's length."""
        features = self.feature_extractor(waveforms, return_tensors="pt")["input_features"]
        lengths = torch.tensor([self._frames(len(wave)) for wave in waveforms])
        counts = torch.tensor([self.num_audio_tokens(len(wave)) for wave in waveforms])
        return AudioFeatures(features[:, : int(lengths.max())], lengths, counts)

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`."""
        values = features.values.to(self.device, self.dtype)
        real = torch.arange(values.shape[1], device=values.device) < features.lengths.to(values.device)[:, None]
        states = self.audio_tower(values, real).last_hidden_state
        return [row[:count] for row, count in zip(states, features.num_audio_tokens.tolist(), strict=True)]

    @property
    def projector(self) -> nn.Module:
        """See :meth:`Backbone.projector`."""
        return self.model.model.embed_audio

    @property
    def audio_size(self) -> int:
        """See :attr:`Backbone.audio_size`."""
        return int(self.model.config.audio_config.output_proj_dims)

    def logits(self, hidden: Tensor) -> Tensor:
        """See :meth:`Backbone.logits`; the family's are held within a range."""
        logits = super().logits(hidden)
        most = self.model.config.get_text_config().final_logit_softcapping
        return logits if most is None else torch.tanh(logits / most) * most

    def token_inputs(self, input_ids: Tensor) -> dict[str, Tensor]:
        """The tokens' embeddings for each layer, ``(B, T, layers, size)``; none in sizes without them."""
        text = self.model.config.get_text_config()
        if not text.hidden_size_per_layer_input:
            return {}
        # The embeddings are what ids are found by where there are none.
        return {"per_layer_inputs": cast(Any, self.language_model).get_per_layer_inputs(self._read(input_ids), None)}

    def input_embeddings(self, input_ids: Tensor, audio: list[Tensor]) -> Tensor:
        """See :meth:`Backbone.input_embeddings`."""
        read = self._read(input_ids)
        return super().input_embeddings(
            torch.where(input_ids == self.audio_token_id, input_ids, read) if audio else read, audio
        )

    def _read(self, input_ids: Tensor) -> Tensor:
        """Ids with padding in place of placeholders, which is what the family reads there, be they said or given."""
        config = self.model.config
        others = [config.image_token_id, config.video_token_id, self.audio_token_id]
        placeholders = torch.tensor(others, device=input_ids.device)
        return input_ids.masked_fill(torch.isin(input_ids, placeholders), config.get_text_config().pad_token_id)

    def generate(
        self, embeddings: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None, **options: Any
    ) -> Tensor:
        """See :meth:`Backbone.generate`."""
        stock = self.model.prepare_inputs_for_generation

        # Stock generation takes embeddings of those alone whose signature names them; the family's hands them on.
        def prepare(input_ids: Tensor, inputs_embeds: Tensor | None = None, **kwargs: Any) -> dict[str, Any]:
            return stock(input_ids, inputs_embeds=inputs_embeds, **kwargs)

        self.model.prepare_inputs_for_generation = prepare
        try:
            return super().generate(embeddings, attention_mask, position_ids, **options)
        finally:
            del self.model.prepare_inputs_for_generation

    def fit_vocabulary(self, needed: int) -> None:
        """See :meth:`Backbone.fit_vocabulary`; the embeddings for each layer grow with it."""
        table = getattr(self.language_model, "embed_tokens_per_layer", None)
        before = needed if table is None else len(table.weight)
        super().fit_vocabulary(needed)
        if table is None or needed <= before:
            return
        text = self.model.config.get_text_config()
        with torch.no_grad():
            padding = table.weight[text.pad_token_id].clone()
            if len(table.weight) < needed:  # some versions of transformers have grown it, by rows of chance
                more = padding.expand(needed - before, -1)
                table.weight = nn.Parameter(torch.cat([table.weight, more]), requires_grad=False)
            table.weight[before:] = padding
        table.num_embeddings = text.vocab_size_per_layer_input = needed

    @property
    def assistant_header(self) -> str:
        """See :attr:`Backbone.assistant_header`."""
        return "<|turn>model\n"

    @property
    def end_of_turn(self) -> str:
        """See :attr:`Backbone.end_of_turn`."""
        return "<turn|>"
