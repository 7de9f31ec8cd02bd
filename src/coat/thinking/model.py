"""A backbone that thinks: one pass, think states, heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from coat.backbones.base import Backbone
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.experts.align import pool
from coat.thinking.adapted import AdaptedModel
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
        audio_embeddings: x_A of every clip, ``(N, L_a, d)``, zero-padded, detached; as the checkpoint gives it where
            tower or projector are trained, see :meth:`ThinkingModel.reference_embeddings`.
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


class ThinkingModel(AdaptedModel):
    """A backbone with thinking blocks, LoRA on its language model, and projection heads.

    Args:
        backbone: A loaded backbone; its weights are frozen.
        thinking: Settings of the block; the paper's if None.
    """

    def __init__(self, backbone: Backbone, thinking: ThinkingConfig | None = None) -> None:
        super().__init__(backbone)
        self.heads = nn.ModuleDict()
        self.thinking = thinking or ThinkingConfig()
        if self.thinking.tokens == "reserved":
            backbone.tokenizer = name_reserved(backbone.tokenizer)
        _refuse_gaps(backbone.tokenizer)
        self.tokens: ThinkTokens = add_think_tokens(backbone.tokenizer)
        self.trained_tokens = self.tokens.ids if self.thinking.enabled else ()
        self._builders: dict[ThinkingConfig, PromptBuilder] = {}
        self.builder = self.prompt_builder(self.thinking)
        self._noise: Tensor | None = None

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
            still = self.reference_embeddings(batch) if names and self.hearing_adapters() else audio
            output["audio_embeddings"] = pad_sequence(still, batch_first=True).detach()
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
        with self.mixed_precision():
            states = batch.audio if isinstance(batch.audio, list) else self.backbone.tower_states(batch.audio)
            return self.backbone.project_all(states)

    @torch.no_grad()
    def reference_embeddings(self, batch: Batch) -> list[Tensor]:
        """x_A of every clip as the checkpoint gives it, ``(L_a, d)`` each: what reconstruction is held to.

        The same as :meth:`audio_embeddings` unless a recipe trains tower or projector. A target that moves with them
        could shrink to nothing, or grow past what its loss was weighed for.
        """
        with self.hearing_as_it_began():
            return self.audio_embeddings(batch)

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

    def head_weights(self) -> dict[str, Tensor]:
        """Weights of all heads; where processes hold shards of them, all must ask."""
        return {name: whole(value) for name, value in self.heads.state_dict().items()}

    def load_head_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of heads that exist."""
        self.heads.load_state_dict(in_shards(weights, self.heads.state_dict()))


def _refuse_gaps(tokenizer: Any) -> None:
    """A tokenizer to which think tokens cannot be added for good."""
    known = tokenizer.get_vocab()
    if len(known) <= max(known.values()) and not set(RESERVED) <= set(known):
        raise CoatError(
            f"The tokenizer's ids have gaps: {len(known)} tokens, and the largest id is {max(known.values())}. "
            "Added tokens would get other ids once it is saved and loaded.",
            "Write the think tokens into the vocabulary of its tokenizer.json, at ids that are free.",
        )
