"""Conversations and clips to one padded batch.

Legend: B conversations, T tokens, N clips in the order in which their placeholders appear row by row,
L_a audio tokens, L think tokens.

| key | shape | meaning |
| --- | --- | --- |
| input_ids, attention_mask, labels | (B, T) | the prompts |
| think_lengths | (N,) | think tokens of each clip; absent where prompts have no blocks |
| audio | AudioFeatures, or N of (L_a, d) | for the tower, or cached x_A; None if N = 0 |
| targets | {k: (N, L, e_k)} | cached expert features, already pooled to think tokens |
| recordings | Recordings | the clips themselves, for experts that run live |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from coat.audio import Clip, check_clip
from coat.backbones.base import AudioFeatures
from coat.data.conversation import Conversation
from coat.recordings import Recordings
from coat.thinking.prompt import IGNORE, Prompt, PromptBuilder


@dataclass(frozen=True)
class Batch:
    """See the module's legend."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    audio: AudioFeatures | list[Tensor] | None
    think_lengths: Tensor | None
    targets: dict[str, Tensor] = field(default_factory=dict)
    recordings: Recordings | None = None

    @property
    def num_response_tokens(self) -> int:
        """Positions that count in cross-entropy: the first token of a row predicts nothing before it."""
        return int((self.labels[:, 1:] != IGNORE).sum())

    @property
    def num_think_tokens(self) -> int:
        """Frames that count in every expert's loss."""
        return 0 if self.think_lengths is None else int(self.think_lengths.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The batch with every tensor on a device."""
        return replace(self, **{f.name: _move(getattr(self, f.name), device) for f in fields(self)})


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor | Recordings):
        return value.to(device)
    if isinstance(value, AudioFeatures):
        return replace(value, values=value.values.to(device))  # the counts are read on the host
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_move(item, device) for item in value]
    if isinstance(value, tuple):
        return tuple(_move(item, device) for item in value)
    return value


def make_batch(
    builder: PromptBuilder,
    conversations: Sequence[Conversation],
    *,
    padding_side: Literal["left", "right"] = "right",
    live_rates: Sequence[int] = (),
    embed: Callable[[Clip, int], Tensor] | None = None,
) -> Batch:
    """Decode nothing, compute features once for all clips, build and pad the prompts.

    Args:
        builder: The prompt builder, which knows the backbone.
        conversations: What to say.
        padding_side: Right for training, left for generation.
        live_rates: Rates at which live experts want the waveforms.
        embed: Gives the cached x_A of a clip with L_a tokens; without it the tower's features are computed.

    Raises:
        CoatError: A clip is too short or too long for the backbone, or a conversation cannot be encoded.
    """
    backbone = builder.backbone
    clips = [clip for conversation in conversations for clip in conversation.clips]
    rate = backbone.hearing.sampling_rate
    for clip in clips:
        check_clip(clip, max_seconds=backbone.hearing.max_seconds)
    waveforms = [clip.at(rate) for clip in clips]
    lengths = [backbone.num_audio_tokens(len(waveform)) for waveform in waveforms]
    audio: AudioFeatures | list[Tensor] | None = None
    if clips:
        audio = backbone.audio_features(waveforms) if embed is None else list(map(embed, clips, lengths))
    prompts, used = [], 0
    for conversation in conversations:
        own = lengths[used : used + len(conversation.clips)]
        prompts.append(builder.build(conversation.messages, own, name=conversation.name))
        used += len(own)
    think = [block.num_think_tokens for prompt in prompts for block in prompt.blocks]
    return Batch(
        *_pad(prompts, int(backbone.tokenizer.pad_token_id), padding_side),
        audio=audio,
        think_lengths=torch.tensor(think) if think else None,
        recordings=Recordings.of(clips, live_rates) if clips and live_rates else None,
    )


def _pad(prompts: Sequence[Prompt], pad_id: int, side: Literal["left", "right"]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels of a batch."""
    ids = [torch.tensor(prompt.input_ids) for prompt in prompts]
    labels = [torch.tensor(prompt.labels) for prompt in prompts]
    mask = [torch.ones(len(row), dtype=torch.long) for row in ids]

    def stack(rows: list[Tensor], value: int) -> Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)

    return stack(ids, pad_id), stack(mask, 0), stack(labels, IGNORE)
