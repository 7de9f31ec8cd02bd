"""A backbone that thinks: one pass, think states, heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from coat.backbones.adapters import no_bitsandbytes
from coat.backbones.base import Backbone
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.experts.align import pool
from coat.thinking.batch import Batch, split_segments
from coat.thinking.prompt import IGNORE, PromptBuilder
from coat.thinking.reserved import name_reserved
from coat.thinking.shards import in_shards, whole
from coat.thinking.tokens import RESERVED, ThinkTokens, add_think_tokens

if TYPE_CHECKING:
    from coat.thinking.processor import CoatProcessor

RANDOM_VECTORS = 4096


@dataclass(frozen=True)
class CoatOutput:
    """Output of a forward pass.

    Attributes:
        response_logits: ``(R, V)`` at the positions that predict response tokens.
        response_labels: ``(R,)`` those tokens.
        audio_embeddings: x_A of every clip, ``(N, L_a, d)``, zero-padded, detached.
        audio_lengths: ``(N,)`` L_a.
        think_hidden: H_think of every clip, ``(N, L, d)``; None without blocks.
        think_mask: ``(N, L)``, True where a think token is real and stands for sound.
        end_hidden: The state at <|audio_think_end|>, ``(N, d)``: the paper's pre-generation state.
        predictions: P_k(H_think), ``{k: (N, L, e_k)}``.
        idle: A zero that reaches every head, where no conversation holds audio and other processes' may.
    """

    response_logits: Tensor
    response_labels: Tensor
    audio_embeddings: Tensor | None = None
    audio_lengths: Tensor | None = None
    think_hidden: Tensor | None = None
    think_mask: Tensor | None = None
    end_hidden: Tensor | None = None
    predictions: dict[str, Tensor] = field(default_factory=dict)
    idle: Tensor | None = None


class ThinkingModel(nn.Module):
    """A backbone with thinking blocks, LoRA on its language model, and projection heads.

    Args:
        backbone: A loaded backbone; its weights are frozen.
        thinking: Settings of the block; the paper's if None.
    """

    def __init__(self, backbone: Backbone, thinking: ThinkingConfig | None = None) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.heads = nn.ModuleDict()
        self.thinking = thinking or ThinkingConfig()
        if self.thinking.tokens == "reserved":
            backbone.tokenizer = name_reserved(backbone.tokenizer)
        _refuse_gaps(backbone.tokenizer)
        self.tokens: ThinkTokens = add_think_tokens(backbone.tokenizer)
        self._builders: dict[ThinkingConfig, PromptBuilder] = {}
        self.builder = self.prompt_builder(self.thinking)
        self._noise: Tensor | None = None
        # PEFT's wrapper holds the same modules as the backbone; a list keeps it from being registered twice.
        self._peft: list[Any] = []

    @property
    def _no_split_modules(self) -> list[str]:
        """Class names of the layers that FSDP wraps; FSDP changes them, and reads this again at every stage."""
        stacks = (self.backbone.language_model, self.backbone.audio_tower)
        return sorted({type(layer).__name__ for stack in stacks for layer in getattr(stack, "layers", ())})

    def prompt_builder(self, thinking: ThinkingConfig) -> PromptBuilder:
        """Builds prompts that think in some way, the model's own or another: without the block, at another stride."""
        if thinking not in self._builders:
            if thinking.positions == "audio" and "flash" in str(self.backbone.model.config._attn_implementation):
                raise CoatError(
                    "Flash attention takes positions that go back for several sequences packed into one.",
                    "Load the model with attn_implementation: sdpa, or train with thinking.positions: sequence.",
                )
            if thinking.enabled:  # a plain model stays as large as its checkpoint
                self.backbone.fit_vocabulary(max(self.tokens.ids) + 1)
            self._builders[thinking] = PromptBuilder(self.backbone, self.tokens if thinking.enabled else None, thinking)
        return self._builders[thinking]

    def processor(self) -> CoatProcessor:
        """The processor that makes this model's prompts, block included, for everything that takes a processor.

        Raises:
            CoatError: The family is another package's, and its processor is not known here.
        """
        from coat.backbones.processors import has_processor
        from coat.thinking.auto import CoatProcessor

        backbone = self.backbone
        if not has_processor(backbone.family):
            raise CoatError(
                f"No processor is known for the family {backbone.family}, so that it cannot be exported.",
                "Name its stock processor in coat.backbones.processors.STOCK.",
            )
        return CoatProcessor(
            backbone.feature_extractor,
            backbone.tokenizer,
            chat_template=backbone.chat_template,
            family=backbone.family,
            audio_token=backbone.audio_token,
            assistant_header=backbone.assistant_header,
            max_seconds=backbone.audio_spec.max_seconds,
            thinking=self.thinking,
        )

    @property
    def peft(self) -> Any:
        """PEFT's view of the backbone, or None before LoRA is added."""
        return self._peft[0] if self._peft else None

    def add_lora(
        self,
        *,
        rank: int,
        alpha: int,
        dropout: float = 0.0,
        targets: str | None = None,
        train_embeddings: Literal["rows", "full"] = "rows",
        language_model: bool = True,
        audio_tower: bool = False,
        projector: bool = False,
    ) -> list[str]:
        """Adapt the language model with LoRA, and train the three token rows where there are blocks (App. A).

        Beyond the paper, the audio tower can be adapted too, and the projector be trained whole.

        Args:
            rank: r.
            alpha: Scale over r.
            dropout: On LoRA's input.
            targets: A regular expression over names of the language model's modules; the family's own if None.
            train_embeddings: The three rows, or the whole token embedding.
            language_model: Whether LoRA adapts the language model.
            audio_tower: Whether it adapts the audio tower.
            projector: Whether all weights of the projector are trained.

        Returns:
            The names of the adapted modules.

        Raises:
            CoatError: Nothing would be trained, or the expression matches nothing or reaches outside the language
                model.
        """
        with no_bitsandbytes(self.backbone.model):
            from peft import LoraConfig, get_peft_model
            from peft.utils.constants import DUMMY_TARGET_MODULES

        backbone = self.backbone
        tables, whole = backbone.token_tables, list(backbone.projector_modules if projector else ())
        rows = None
        if train_embeddings == "full":
            whole += tables
        elif self.thinking.enabled:
            rows = {table: list(self.tokens.ids) for table in tables}
        expressions = [
            *([targets or backbone.lora_targets] if language_model else ()),
            *([backbone.tower_lora_targets] if audio_tower else ()),
        ]
        if not (expressions or whole or rows):
            raise CoatError("The recipe trains nothing.", "Set a part in train: language_model: lora")
        elsewhere = rf"(?!{backbone.within_language_model}).*"
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=_either(expressions) if expressions else DUMMY_TARGET_MODULES,
            # For mixtures of experts PEFT turns the expression into bare layer names, which the tower has too.
            exclude_modules=None if targets or audio_tower or not language_model else elsewhere,
            trainable_token_indices=rows,
            modules_to_save=whole or None,
        )
        try:
            with no_bitsandbytes(self.backbone.model):
                self._attach(get_peft_model(backbone.model, config))
        except ValueError as error:
            raise CoatError(
                f"LoRA found no module to adapt: {error}", "Check lora.target_modules in the recipe."
            ) from None
        for parameter in self.backbone.model.parameters():
            # In half precision a small step is rounded away: at 1e-5 five of six weights would never move.
            if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()
        return self._check_adapted(audio_tower=audio_tower)

    def load_adapter(self, folder: str, *, trainable: bool = False) -> list[str]:
        """Load LoRA weights and token rows that :meth:`save_adapter` wrote.

        Raises:
            CoatError: They are those of another model, or of another layout of transformers.
        """
        with no_bitsandbytes(self.backbone.model):
            from peft import PeftModel, set_peft_model_state_dict
        from safetensors.torch import load_file

        if self.peft is not None:  # resuming: the adapter exists, its weights change
            held = {name.replace(".default", ""): value for name, value in self.peft.state_dict().items()}
            weights = load_file(f"{folder}/adapter_model.safetensors")
            set_peft_model_state_dict(self.peft, in_shards(weights, held))
        else:
            try:
                with no_bitsandbytes(self.backbone.model):
                    self._attach(PeftModel.from_pretrained(self.backbone.model, folder, is_trainable=trainable))
            except ValueError as error:
                raise CoatError(
                    f"The adapter in {folder} fits no layer of this model: {error}",
                    "Take the base, and the side of transformers 5.21, that it was trained with; both read exports.",
                ) from None
        return self._check_adapted()

    def adapter_weights(self) -> dict[str, Tensor]:
        """LoRA weights and token rows by PEFT's names; where processes hold shards of them, all must ask."""
        parts = ("lora_", "trainable_tokens", "modules_to_save")
        return {n: whole(value) for n, value in self.peft.state_dict().items() if any(part in n for part in parts)}

    def head_weights(self) -> dict[str, Tensor]:
        """Weights of all heads; where processes hold shards of them, all must ask."""
        return {name: whole(value) for name, value in self.heads.state_dict().items()}

    def save_adapter(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write LoRA weights and token rows as a standard PEFT adapter (safetensors)."""
        # "auto" would look the base up on the hub to see whether its embedding has grown.
        state = dict(self.adapter_weights() if weights is None else weights)
        self.peft.save_pretrained(folder, save_embedding_layers=False, state_dict=state)

    def merge_adapter(self) -> None:
        """Fold LoRA and token rows into the backbone's weights; what remains is a plain model."""
        if self.peft is not None:
            self.backbone.model = self.peft.merge_and_unload()
            self._peft = []

    def _attach(self, peft_model: Any) -> None:
        self._peft = [peft_model]

    def _check_adapted(self, *, audio_tower: bool = True) -> list[str]:
        """Names of the modules that LoRA adapts, none of them outside the parts that it may."""
        parts = [self.backbone.language_model, *([self.backbone.audio_tower] if audio_tower else [])]
        inside = {id(module) for part in parts for module in part.modules()}
        adapted = {name: m for name, m in self.backbone.model.named_modules() if hasattr(m, "lora_A")}
        outside = [name for name, module in adapted.items() if id(module) not in inside]
        if outside:
            raise CoatError(
                f"LoRA would adapt {len(outside)} modules outside the language model, such as {outside[0]}.",
                "Narrow lora.target_modules in the recipe; train.audio_tower: lora is for the tower.",
            )
        return sorted(adapted)

    def part_of(self, name: str) -> str | None:
        """The part of the backbone that a trained weight is of: ``projector``, ``audio_tower``, ``language_model``.

        Args:
            name: The weight's, as :meth:`trainable` has it.

        Returns:
            The part, by its name in a recipe's ``train``; None for heads and token rows.
        """
        if any(f".{module}." in name for module in self.backbone.projector_modules):
            return "projector"
        if "lora_" not in name:
            return None
        return "audio_tower" if ".audio_tower." in name else "language_model"

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that gradients reach, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def train(self, mode: bool = True) -> ThinkingModel:
        """Heads and LoRA change mode; the tower always evaluates."""
        super().train(mode)
        self.backbone.audio_tower.eval()
        return self

    def forward(self, batch: Batch, head_names: Iterable[str] | None = None, *, whole_path: bool = False) -> CoatOutput:
        """One pass of the backbone, and the heads over the think states (Eq. 1 to 3).

        Args:
            batch: See :mod:`coat.thinking.batch`.
            head_names: Heads to run; all if None.
            whole_path: Run them on a batch of text alone too, over zeros: they have a gradient then, which is zero, and
                processes that share a model take the same way whatever their rows hold.
        """
        names = list(self.heads if head_names is None else head_names)
        audio = self.audio_embeddings(batch)
        idle = [] if audio else self._idle_audio(batch, whole_path=whole_path)
        hidden = self._hidden(batch, audio)
        predicts = batch.labels[:, 1:] != IGNORE
        output: dict[str, Any] = {
            "response_logits": self.backbone.logits(hidden[:, :-1][predicts]),
            "response_labels": batch.labels[:, 1:][predicts],
        }
        if audio:
            output["audio_embeddings"] = pad_sequence(audio, batch_first=True).detach()
            output["audio_lengths"] = torch.tensor([len(row) for row in audio], device=hidden.device)
        if batch.think_lengths is not None:
            think, _ = split_segments(hidden[batch.input_ids == self.tokens.think], batch.think_lengths)
            mask = torch.arange(think.shape[1], device=think.device) < batch.heard_think_lengths[:, None]
            output |= {
                "think_hidden": think,
                "think_mask": mask,
                "end_hidden": hidden[batch.input_ids == self.tokens.end],
                "predictions": {name: self._head(name, think, mask) for name in names},
            }
        elif whole_path:
            # Made of the hidden states, so that the backward pass meets heads and layers in the order of every other.
            zeros = hidden[:1, :1] * 0
            mask = torch.ones(1, 1, dtype=torch.bool, device=hidden.device)
            output["idle"] = sum((self._head(name, zeros, mask).sum() * 0 for name in names), hidden.new_zeros(()))
            output["idle"] = sum((row.sum() * 0 for row in idle), output["idle"])
        return CoatOutput(**output)

    def _head(self, name: str, think: Tensor, mask: Tensor) -> Tensor:
        """A head's prediction, in the precision of its own weights: the backbone may be in half."""
        weight = next(self.heads[name].parameters(), think)
        return self.heads[name](think.to(weight.dtype), mask)

    def audio_embeddings(self, batch: Batch) -> list[Tensor]:
        """x_A of every clip of a batch, ``(L_a, d)`` each; the tower's states are computed, or as they were cached."""
        if batch.audio is None:
            return []
        states = batch.audio if isinstance(batch.audio, list) else self.backbone.tower_states(batch.audio)
        return self.backbone.project_all(states)

    def _idle_audio(self, batch: Batch, *, whole_path: bool) -> list[Tensor]:
        """x_A of nothing that matters, by tower and projector: what is trained of them has a gradient then, zero."""
        if batch.idle_audio is not None:
            return self.backbone.audio_embeddings(batch.idle_audio)
        if not whole_path:
            return []
        return self.backbone.project_all([torch.zeros(1, self.backbone.audio_size, device=self.backbone.device)])

    def _embeddings(self, batch: Batch, audio: list[Tensor]) -> Tensor:
        """Input embeddings of the language model, ``(B, T, d)``."""
        embeddings = self.backbone.input_embeddings(batch.input_ids, audio)
        if self.thinking.fill == "token" or batch.think_lengths is None:
            return embeddings
        thinks = (batch.input_ids == self.tokens.think).unsqueeze(-1)
        if self.thinking.fill == "audio":
            spans = pool(pad_sequence(audio, batch_first=True), [len(row) for row in audio], batch.think_strides)
            heard = torch.cat([span[:length] for span, length in zip(spans, batch.think_lengths, strict=True)])
            return embeddings.masked_scatter(thinks, embeddings[thinks[..., 0]] + heard.to(embeddings))
        vectors = self._random_vectors(embeddings)
        return torch.where(thinks, vectors[(thinks[..., 0].cumsum(-1) - 1).clamp(min=0) % len(vectors)], embeddings)

    def _random_vectors(self, like: Tensor) -> Tensor:
        """As large as the rows of the embedding; the same for every model, row and run."""
        if self._noise is None:
            made = torch.randn(RANDOM_VECTORS, like.shape[-1], generator=torch.Generator().manual_seed(0))
            rows = self.backbone.embedding(torch.arange(len(self.backbone.embedding.weight), device=like.device))
            self._noise = made * float(rows.detach().float().std())  # families may scale what they look up
        self._noise = self._noise.to(like)
        return self._noise

    def prepare_prefill(self, batch: Batch) -> dict[str, Any]:
        """Arguments of :meth:`Backbone.hidden_states` and :meth:`Backbone.generate` for a batch, by name.

        They are input embeddings ``(B, T, d)``, attention mask and positions, and what a family reads beside them. Pad
        on the left to generate.
        """
        with torch.no_grad():
            return self._prefill(batch, self.audio_embeddings(batch))

    @torch.no_grad()
    def prefill_states(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Final-layer states ``(B, T, d)`` of whole prompts, and x_A of every clip."""
        audio = self.audio_embeddings(batch)
        return self._hidden(batch, audio), audio

    def _hidden(self, batch: Batch, audio: list[Tensor]) -> Tensor:
        return self.backbone.hidden_states(**self._prefill(batch, audio))

    def _prefill(self, batch: Batch, audio: list[Tensor]) -> dict[str, Any]:
        return {
            "embeddings": self._embeddings(batch, audio),
            "attention_mask": batch.attention_mask,
            "position_ids": batch.position_ids,
            **self.backbone.token_inputs(batch.input_ids),
        }

    def load_head_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of heads that exist."""
        self.heads.load_state_dict(in_shards(weights, self.heads.state_dict()))


def _either(expressions: Sequence[str]) -> str:
    return expressions[0] if len(expressions) == 1 else "|".join(f"({each})" for each in expressions)


def _refuse_gaps(tokenizer: Any) -> None:
    """A tokenizer to which think tokens cannot be added for good."""
    known = tokenizer.get_vocab()
    if len(known) <= max(known.values()) and not set(RESERVED) <= set(known):
        raise CoatError(
            f"The tokenizer's ids have gaps: {len(known)} tokens, and the largest id is {max(known.values())}. "
            "Added tokens would get other ids once it is saved and loaded.",
            "Write the think tokens into the vocabulary of its tokenizer.json, at ids that are free.",
        )
