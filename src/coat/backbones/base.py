"""What differs between families of audio language models, and nothing else.

A family is one file with one subclass of :class:`Backbone` and one line in the registry. Hub checkpoints
and tiny local ones load through the same ``from_pretrained``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from coat.audio import Hearing
from coat.data.conversation import Message


@dataclass(frozen=True)
class AudioFeatures:
    """What the audio tower reads.

    Attributes:
        values: ``(N, ...)`` input features of N clips.
        lengths: ``(N,)`` true feature frames of each.
        num_audio_tokens: ``(N,)`` L_a of each.
    """

    values: Tensor
    lengths: Tensor
    num_audio_tokens: Tensor


class Backbone(nn.Module, ABC):
    """A pretrained audio language model behind one interface.

    Attributes:
        family: Its key in recipes.
        hub_id: The checkpoint that recipes use by default.
        lora_targets: A regular expression over module names; it must match the language model alone.
        model: The transformers model.
        tokenizer: Its tokenizer, which ``add_think_tokens`` may extend.
    """

    family: ClassVar[str]
    hub_id: ClassVar[str]
    lora_targets: ClassVar[str]

    model: Any
    tokenizer: Any
    hearing: Hearing

    @classmethod
    @abstractmethod
    def from_pretrained(cls, path: str, *, dtype: torch.dtype = torch.float32) -> Backbone:
        """Load a checkpoint from the hub or a folder, with tokenizer and feature extractor."""

    @abstractmethod
    def num_audio_tokens(self, num_samples: int) -> int:
        """L_a of a clip of so many samples at ``hearing.sampling_rate``."""

    @abstractmethod
    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Input features of clips, each ``(samples,)`` at ``hearing.sampling_rate``."""

    @abstractmethod
    def audio_embeddings(self, features: AudioFeatures, *, frozen: bool = True) -> list[Tensor]:
        """x_A of each clip, ``(L_a, d)``: exactly what the language model consumes.

        Args:
            features: Of N clips.
            frozen: Keep no gradient, as everywhere but in pre-training.
        """

    @property
    @abstractmethod
    def audio_token_id(self) -> int:
        """The placeholder's id."""

    @property
    @abstractmethod
    def audio_tower(self) -> nn.Module:
        """f_A; always frozen and in evaluation mode."""

    @property
    @abstractmethod
    def language_model(self) -> nn.Module:
        """f_L without its output layer."""

    @property
    @abstractmethod
    def lm_head(self) -> nn.Module:
        """The output layer: final hidden states to logits."""

    @abstractmethod
    def render(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        """The conversation as text, by the family's own chat template.

        Each content item of type ``audio`` gives one placeholder.
        """

    @property
    @abstractmethod
    def assistant_header(self) -> str:
        """The text that opens an assistant turn."""

    @property
    @abstractmethod
    def end_of_turn(self) -> str:
        """The token that closes an answer; it is trained, and stops generation."""

    @property
    def hidden_size(self) -> int:
        """d, read from the configuration."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return cast(nn.Embedding, self.language_model.get_input_embeddings())  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def fit_vocabulary(self) -> None:
        """Add embedding rows if the tokenizer has outgrown them; real checkpoints have spare rows."""
        rows = self.embedding.weight.shape[0]
        if len(self.tokenizer) > rows:
            self.model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)

    def input_embeddings(self, input_ids: Tensor, audio: list[Tensor]) -> Tensor:
        """Token embeddings with x_A in place of the audio placeholders.

        Args:
            input_ids: ``(B, T)``.
            audio: x_A of every clip, in the order in which their placeholders appear, row by row.

        Raises:
            ValueError: Placeholders and audio embeddings are not equally many.
        """
        embeddings = self.embedding(input_ids)
        if not audio:
            return embeddings
        heard = input_ids == self.audio_token_id
        flat = torch.cat(audio).to(embeddings.dtype)
        if int(heard.sum()) != len(flat):
            raise ValueError(f"{int(heard.sum())} audio placeholders in the prompt, {len(flat)} audio embeddings")
        return embeddings.masked_scatter(heard.unsqueeze(-1), flat)

    def hidden_states(self, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """One pass of f_L: final-layer states after the final norm, ``(B, T, d)``: what ``lm_head`` sees."""
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        return self.language_model(
            inputs_embeds=embeddings, attention_mask=attention_mask, position_ids=positions, use_cache=False
        ).last_hidden_state

    def generate(self, embeddings: Tensor, attention_mask: Tensor, **options: Any) -> Tensor:
        """New token ids ``(B, new)`` after left-padded prompts ``(B, T, d)``."""
        return self.model.generate(inputs_embeds=embeddings, attention_mask=attention_mask, **options)

    @abstractmethod
    def save_pretrained(self, folder: str) -> None:
        """Write model, tokenizer and feature extractor so that ``from_pretrained`` reads them back."""
