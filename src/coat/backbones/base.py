"""The base class of backbones: it holds all that differs between families of audio language models.

A family is one file with one subclass of :class:`Backbone` and one line in the registry. Hub checkpoints
and tiny local ones load through the same ``from_pretrained``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from coat.audio import AudioSpec
from coat.backbones.features import AudioFeatures
from coat.backbones.four_bit import four_bit
from coat.backbones.positions import Places
from coat.data.conversation import Message
from coat.errors import CoatError
from coat.files import write_whole


class Backbone(nn.Module, ABC):
    """A pretrained audio language model behind one interface.

    What most families share is here: the layout of transformers' audio language models, a Whisper feature
    extractor, ChatML. A family's file holds what differs.

    Attributes:
        family: Its key in recipes.
        hub_id: The checkpoint that recipes use by default.
        model_class: Its class in transformers, which loads the audio and language parts alone.
        feature_extractor_class: That of its checkpoints, in transformers.
        model_types: ``model_type`` of its checkpoints' configurations, for families of other packages.
        audio_token: The placeholder.
        boundaries: Tokens around a clip that the stock processor, and not the template, writes; none if empty.
        adapted_layers: Names of the language model's linear layers that LoRA adapts unless a recipe says otherwise.
        adapted_tower_layers: Names of the audio tower's linear layers that LoRA adapts where a recipe trains it.
        max_clips: Clips that one conversation may hold; None for any number.
        projector_modules: Modules from the tower's states to the language model's size, by the ends of their names.
        tower_over_tokens: Positions of the tower's layers for each audio token.
        whole_windows: Whether the tower runs over whole windows of 30 s, however short a clip is.
        token_tables: Modules with a row for each token, by the ends of their names; those of think tokens are trained.
        think_prompt: Text that asks for the family's own mode of thinking in text; empty where it has none.
        model: The transformers model.
        tokenizer: Its tokenizer, which ``add_think_tokens`` may extend.
        feature_extractor: Waveforms to log-mel.
        chat_template: The family's own Jinja template, with its default system prompt.
        audio_spec: Sampling rate, and times of audio tokens.
        end_ids: Tokens that end an answer.
    """

    family: ClassVar[str]
    hub_id: ClassVar[str]
    model_class: ClassVar[str]
    feature_extractor_class: ClassVar[str] = "WhisperFeatureExtractor"
    model_types: ClassVar[tuple[str, ...]] = ()
    audio_token: ClassVar[str] = "<|AUDIO|>"
    boundaries: ClassVar[tuple[str, ...]] = ()
    adapted_layers: ClassVar[tuple[str, ...]] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    adapted_tower_layers: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    max_clips: ClassVar[int | None] = None
    projector_modules: ClassVar[tuple[str, ...]] = ("multi_modal_projector",)
    tower_over_tokens: ClassVar[int] = 2
    whole_windows: ClassVar[bool] = False
    token_tables: ClassVar[tuple[str, ...]] = ("embed_tokens",)
    think_prompt: ClassVar[str] = ""

    def __init__(self, model: Any, tokenizer: Any, feature_extractor: Any, chat_template: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor
        self.chat_template = chat_template or self.default_template() or tokenizer.chat_template
        self.audio_spec = self._audio_spec()
        self.thinks_in_text = False
        self.end_ids = self._end_ids()
        # What the hub's configuration says of sampling and penalties would change "greedy" without a word, and other
        # ways to run the same weights would answer otherwise: nothing is inherited but the ends.
        model.generation_config = _plain_generation(self.end_ids, tokenizer.pad_token_id)

    def _end_ids(self) -> list[int]:
        """Tokens that end an answer: the one that closes a turn here, and those that the checkpoint names."""
        theirs = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        named = [theirs] if isinstance(theirs, int) else list(theirs or ())
        ours = int(self.tokenizer.convert_tokens_to_ids(self.end_of_turn))
        return list(dict.fromkeys([ours, *named]))

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        dtype: torch.dtype = torch.float32,
        weights: bool = True,
        load_in_4bit: bool = False,
        **options: Any,
    ) -> Self:
        """Load a checkpoint from the hub or a folder, with tokenizer, feature extractor and chat template.

        Args:
            path: A hub id or a folder.
            dtype: Data type of the weights.
            weights: False reads only the configuration, into a model without storage: it knows its sizes and
                counts audio tokens, in a second and in no memory.
            load_in_4bit: Hold the language model's linear layers in four bits (bitsandbytes, NF4): a quarter of the
                memory, for LoRA on one small GPU. The tower and the output layer stay as they are.
            **options: Options of transformers' ``from_pretrained``, such as ``device_map`` and ``attn_implementation``.

        Raises:
            CoatError: bitsandbytes is not installed.
        """
        import transformers

        # The stock processors of some families need torchvision for images that are never shown to them here.
        processor, _ = transformers.ProcessorMixin.get_processor_dict(path)
        model_class = getattr(transformers, cls.model_class)
        if weights:
            options |= {"quantization_config": four_bit(dtype, cls.projector_modules)} if load_in_4bit else {}
            model = model_class.from_pretrained(path, dtype=dtype, **options)
        else:
            with torch.device("meta"):
                model = model_class(model_class.config_class.from_pretrained(path))
        backbone = cls(
            model,
            cls.load_tokenizer(path),
            getattr(transformers, cls.feature_extractor_class).from_pretrained(path),
            processor.get("chat_template"),
        )
        backbone.read_processor(processor)
        return backbone

    def read_processor(self, fields: Mapping[str, Any]) -> None:
        """Take what the checkpoint's processor says of limits; in most families nothing.

        Args:
            fields: Content of ``processor_config.json``; empty where there is none.
        """

    @classmethod
    def load_tokenizer(cls, path: str) -> Any:
        """The tokenizer of a checkpoint; of a hub id or a folder."""
        import transformers

        return transformers.AutoTokenizer.from_pretrained(path)

    @classmethod
    def default_template(cls) -> str | None:
        """The template of a checkpoint whose processor has none; None takes the tokenizer's."""
        return None

    @abstractmethod
    def _audio_spec(self) -> AudioSpec:
        """Rates and limits, read from the checkpoint."""

    @abstractmethod
    def num_audio_tokens(self, num_samples: int) -> int:
        """L_a of a clip of so many samples at ``audio_spec.sampling_rate``."""

    def heard_tokens(self, num_samples: int) -> int:
        """Audio tokens of such a clip that stand for sound: all of L_a, unless a family fills clips up with silence."""
        return self.num_audio_tokens(num_samples)

    @abstractmethod
    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Input features of clips, each ``(samples,)`` at ``audio_spec.sampling_rate``."""

    @abstractmethod
    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """The tower's states of each clip, ``(L_a, audio_size)``: what the projector reads."""

    @property
    def projector(self) -> nn.Module:
        """The module that leads from the tower's states to the language model's size, or its first one."""
        return self.model.model.multi_modal_projector

    def project(self, states: Tensor) -> Tensor:
        """The projector over the tower's states, ``(..., audio_size)`` to ``(..., d)``."""
        return self.projector(states)

    def tower_states(self, features: AudioFeatures) -> list[Tensor]:
        """The tower's states of each clip, ``(L_a, audio_size)``; with a gradient only where the tower is trained."""
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in self.audio_tower.parameters())
        with torch.set_grad_enabled(trained):
            return self.encode(features)

    def project_all(self, states: Sequence[Tensor]) -> list[Tensor]:
        """x_A of each clip, ``(L_a, d)``: exactly what the language model consumes.

        Args:
            states: The tower's states of each clip, ``(L_a, audio_size)``.
        """
        weight = next(self.projector.parameters())
        rows = torch.cat(list(states)).to(weight.device, weight.dtype)  # a trained one is in full precision
        return list(self.project(rows).to(self.dtype).split([len(row) for row in states]))

    def audio_embeddings(self, features: AudioFeatures) -> list[Tensor]:
        """x_A of each clip, ``(L_a, d)``: tower and projector."""
        return self.project_all(self.tower_states(features))

    @property
    def audio_token_id(self) -> int:
        """The placeholder's id."""
        return int(self.model.config.audio_token_id)

    @property
    def audio_tower(self) -> nn.Module:
        """f_A; frozen unless a recipe trains it, and always in evaluation mode."""
        return self.model.model.audio_tower

    @property
    def language_model(self) -> nn.Module:
        """f_L without its output layer."""
        return self.model.model.language_model

    @property
    def within_language_model(self) -> str:
        """A regular expression that names of modules of the language model begin with, and no others."""
        return r".*language_model\."

    @property
    def lora_targets(self) -> str:
        """A regular expression over module names: the layers that LoRA adapts unless a recipe says otherwise."""
        return rf"{self.within_language_model}.*\.({'|'.join(self.adapted_layers)})"

    @property
    def tower_lora_targets(self) -> str:
        """The same of the audio tower, where a recipe trains it."""
        return rf".*audio_tower\.layers\..*\.({'|'.join(self.adapted_tower_layers)})"

    @property
    def lm_head(self) -> nn.Module:
        """The output layer: final hidden states to logits."""
        return self.model.lm_head

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of final hidden states, ``(..., d)`` to ``(..., V)``, as the family's own forward gives them."""
        return self.lm_head(hidden)

    def render(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        """The conversation as text, by the family's own chat template.

        Each content item of type ``audio`` gives one placeholder.
        """
        text = self.tokenizer.apply_chat_template(
            messages, chat_template=self.chat_template, add_generation_prompt=add_generation_prompt, tokenize=False
        )
        return text.replace(self.audio_token, self.audio_token.join(self.boundaries)) if self.boundaries else text

    @property
    def assistant_header(self) -> str:
        """The text that opens an assistant turn."""
        return "<|im_start|>assistant\n"

    @property
    def end_of_turn(self) -> str:
        """The token that closes an answer; it is trained, and stops generation."""
        return "<|im_end|>"

    @property
    def turn_tokens(self) -> tuple[str, str]:
        """The tokens that open and close a turn; no text may hold them."""
        header = self.assistant_header
        return header[: header.index(">") + 1], self.end_of_turn

    @property
    def hidden_size(self) -> int:
        """d, read from the configuration."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def audio_size(self) -> int:
        """Size of the tower's states, read from the configuration."""
        return int(self.model.config.audio_config.d_model)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the frozen weights; what is trained may be in full precision beside them."""
        return next(self.audio_tower.parameters()).dtype

    @property
    def max_positions(self) -> int | None:
        """Tokens that the language model has positions for, prompt and answer together; None if it does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return cast(nn.Embedding, self.language_model.get_input_embeddings())  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def fit_vocabulary(self, needed: int) -> None:
        """Add rows to the embedding and the output layer until there are as many as are needed.

        Checkpoints with spare rows stay as they are. New rows are the mean of the others: what is saved holds the rows
        of think tokens in the embedding alone, so that those of the output layer, which are a part of every softmax,
        have to be the same whenever the checkpoint is loaded.
        """
        rows = len(self.embedding.weight)
        if needed <= rows:
            return
        self.model.resize_token_embeddings(needed, mean_resizing=False)
        with torch.no_grad():
            for layer in (self.embedding, self.lm_head):
                weight = cast(Tensor, layer.weight)
                weight[rows:] = weight[:rows].float().mean(0).to(weight.dtype)

    def input_embeddings(self, input_ids: Tensor, audio: list[Tensor]) -> Tensor:
        """Token embeddings with x_A in place of the audio placeholders.

        Args:
            input_ids: ``(B, T)``.
            audio: x_A of every clip, in the order in which their placeholders appear, row by row.

        Raises:
            ValueError: Placeholders and audio embeddings are not equally many.
        """
        # A trained embedding is in full precision beside a model in half.
        embeddings = self.embedding(input_ids).to(self.dtype)
        if not audio:
            return embeddings
        heard = input_ids == self.audio_token_id
        flat = torch.cat(audio).to(embeddings.dtype)
        if int(heard.sum()) != len(flat):
            raise ValueError(f"{int(heard.sum())} audio placeholders in the prompt, {len(flat)} audio embeddings")
        return embeddings.masked_scatter(heard.unsqueeze(-1), flat)

    def token_inputs(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Inputs of the language model that tokens have beside their embeddings; in most families none.

        Args:
            input_ids: ``(B, T)``.
        """
        return {}

    def hidden_states(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        **token_inputs: Tensor,
    ) -> Tensor:
        """One pass of f_L: final-layer states after the final norm, ``(B, T, d)``: what ``lm_head`` sees.

        Args:
            embeddings: ``(B, T, d)``.
            attention_mask: ``(B, T)``.
            position_ids: ``(B, T)``; one after another if None.
            **token_inputs: From :meth:`token_inputs`.
        """
        if position_ids is None:
            position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        return self.language_model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
            **token_inputs,
        ).last_hidden_state

    def generate(
        self, embeddings: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None, **options: Any
    ) -> Tensor:
        """New token ids ``(B, new)`` after left-padded prompts ``(B, T, d)``.

        Greedy, to one of ``end_ids``, without penalties, whatever the checkpoint's generation_config.json says; options
        are transformers' own.

        Args:
            embeddings: See :meth:`hidden_states`.
            attention_mask: See :meth:`hidden_states`.
            position_ids: See :meth:`hidden_states`; the answer follows the last.
            **options: Options of transformers' ``generate``, and what :meth:`token_inputs` gives.
        """
        # Some families give logits at every position of the prompt: most of a prefill's memory, for nothing.
        hooks = [self.lm_head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -1:],))]
        if position_ids is not None:
            # Families count positions in ways of their own while they generate; all hand them to this module.
            hooks.append(self.language_model.register_forward_pre_hook(Places(position_ids), with_kwargs=True))
        try:
            return self.model.generate(inputs_embeds=embeddings, attention_mask=attention_mask, **options)
        finally:
            for hook in hooks:
                hook.remove()

    def load_think_mode(self, path: str | None = None) -> None:
        """Turn on the family's own mode of thinking in text; ``think_prompt`` then asks for it.

        Args:
            path: The checkpoint that has it; the family's own if None.

        Raises:
            CoatError: The family has none, or the checkpoint does not hold it.
        """
        raise CoatError(f"{self.family} has no think mode of its own.", "Ask for a chain of thought by a prompt.")

    def save_pretrained(self, folder: str) -> None:
        """Write model, tokenizer, feature extractor and chat template so that ``from_pretrained`` reads them back."""
        self.save_model(folder)
        self.tokenizer.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)
        write_whole(Path(folder) / "chat_template.jinja", self.chat_template)

    def save_model(self, folder: str) -> None:
        """Write weights and configurations in the layout of the family's hub checkpoints."""
        self.model.save_pretrained(folder)


def _plain_generation(end_ids: list[int], pad_id: int | None) -> Any:
    import transformers

    return transformers.GenerationConfig(
        do_sample=False, eos_token_id=end_ids, pad_token_id=end_ids[0] if pad_id is None else pad_id
    )
