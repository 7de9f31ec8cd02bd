"""Conversations and clips to one padded batch.

Legend: B conversations, T tokens, N clips in the order in which their placeholders appear row by row,
L_a audio tokens, L think tokens.

| key | shape | meaning |
| --- | --- | --- |
| input_ids, attention_mask, labels | (B, T) | the prompts |
| position_ids | (B, T) | where think tokens stand at their audio; absent where all tokens stand in sequence |
| think_lengths | (N,) | think tokens of each clip, 0 where its prompt has no block; absent where none has one |
| think_strides | (N,) on the host | audio tokens that a think token of each clip stands for |
| heard_lengths | (N,) on the host | audio tokens of each clip that stand for sound; the others for silence behind it |
| audio | AudioFeatures, or N of (L_a, audio_size) | for the tower, or its cached states; None if N = 0 |
| targets | {k: (N, L, e_k)} | cached expert features, already pooled to think tokens |
| audio_batch | AudioBatch | the clips themselves, for experts that run live |
| clip_counts | (B,) on the host | clips of each conversation |
| skipped | names | rows that could not be used, and why |
| idle_audio | AudioFeatures | silence that the tower runs over where no conversation holds audio; see Batch |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from coat.audio import Clip, check_clip
from coat.audio_batch import AudioBatch
from coat.backbones.features import AudioFeatures
from coat.data.conversation import Conversation
from coat.thinking.prompt import IGNORE, Prompt, PromptBuilder


@dataclass(frozen=True)
class Batch:
    """See the module's legend.

    ``idle_audio`` is for training by several processes: a batch of text alone must take the same way through the
    model as the others' batches, or processes that wait for each other's parts of it wait for ever.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    audio: AudioFeatures | list[Tensor] | None
    think_lengths: Tensor | None
    think_strides: tuple[int, ...] = ()
    targets: dict[str, Tensor] = field(default_factory=dict)
    audio_batch: AudioBatch | None = None
    clip_counts: tuple[int, ...] = ()
    skipped: tuple[str, ...] = ()
    idle_audio: AudioFeatures | None = None
    position_ids: Tensor | None = None
    heard_lengths: tuple[int, ...] = ()

    @property
    def num_response_tokens(self) -> int:
        """Positions that count in cross-entropy: the first token of a row predicts nothing before it."""
        return int((self.labels[:, 1:] != IGNORE).sum())

    @property
    def audio_lengths(self) -> list[int]:
        """L_a of each clip."""
        if isinstance(self.audio, AudioFeatures):
            return [int(length) for length in self.audio.num_audio_tokens]
        return [len(row) for row in self.audio or ()]

    @property
    def heard_think_lengths(self) -> Tensor:
        """Think tokens of each clip that stand for sound, ``(N,)``: the frames that experts' losses compare."""
        assert self.think_lengths is not None
        groups = zip(self.heard_lengths, self.think_strides, strict=True)
        heard = torch.tensor([-(-length // stride) for length, stride in groups], device=self.think_lengths.device)
        return torch.minimum(self.think_lengths, heard)

    @property
    def num_think_tokens(self) -> int:
        """Frames that count in every expert's loss."""
        return 0 if self.think_lengths is None else int(self.heard_think_lengths.sum())

    def rows(self, start: int, stop: int) -> Batch:
        """Some of the conversations, in a batch as wide as this one."""
        first, last = sum(self.clip_counts[:start]), sum(self.clip_counts[:stop])
        none = first == last
        return replace(
            self,
            input_ids=self.input_ids[start:stop],
            attention_mask=self.attention_mask[start:stop],
            labels=self.labels[start:stop],
            position_ids=None if self.position_ids is None else self.position_ids[start:stop],
            audio=None if none or self.audio is None else _clips_of(self.audio, first, last),
            think_lengths=None if none or self.think_lengths is None else self.think_lengths[first:last],
            think_strides=self.think_strides[first:last],
            heard_lengths=self.heard_lengths[first:last],
            targets={} if none else {name: value[first:last] for name, value in self.targets.items()},
            audio_batch=None if none or self.audio_batch is None else self.audio_batch.part(first, last),
            clip_counts=self.clip_counts[start:stop],
        )

    def to(self, device: torch.device | str) -> Batch:
        """The batch with every tensor on a device."""
        return replace(self, **{f.name: _move(getattr(self, f.name), device) for f in fields(self)})


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor | AudioBatch):
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


def _clips_of(audio: AudioFeatures | list[Tensor], first: int, last: int) -> AudioFeatures | list[Tensor]:
    return audio[first:last] if isinstance(audio, list) else audio.part(first, last)


@dataclass(frozen=True)
class Encoded:
    """A conversation, ready for a batch.

    Attributes:
        prompt: Its ids.
        clips: Its clips.
        waveforms: The same clips at the backbone's rate.
        num_audio_tokens: L_a of each.
        num_heard_tokens: Those of them that stand for sound.
    """

    prompt: Prompt
    clips: list[Clip]
    waveforms: list[np.ndarray]
    num_audio_tokens: list[int]
    num_heard_tokens: list[int]


def encode(
    builder: PromptBuilder, conversation: Conversation, *, tokenizing: AbstractContextManager[Any] | None = None
) -> Encoded:
    """Check and resample a conversation's clips, and build its prompt.

    Args:
        builder: The prompt builder, which knows the backbone.
        conversation: The conversation to encode.
        tokenizing: Held while the tokenizer works, where several threads encode: tokenizers do not bear two.

    Raises:
        CoatError: A clip is too short or too long for the backbone, or the conversation cannot be encoded.
    """
    audio_spec = builder.backbone.audio_spec
    for clip in conversation.clips:
        check_clip(clip, max_seconds=audio_spec.max_seconds)
    waveforms = [clip.at(audio_spec.sampling_rate) for clip in conversation.clips]
    counts = [builder.backbone.num_audio_tokens(len(waveform)) for waveform in waveforms]
    heard = [builder.backbone.heard_tokens(len(waveform)) for waveform in waveforms]
    with tokenizing or nullcontext():
        prompt = builder.build(conversation.messages, counts, name=conversation.name)
    return Encoded(prompt, list(conversation.clips), waveforms, counts, heard)


def collate(
    builder: PromptBuilder,
    encoded: Sequence[Encoded],
    *,
    padding_side: Literal["left", "right"] = "right",
    live_rates: Sequence[int] = (),
    embed: Callable[[Clip, int], Tensor] | None = None,
) -> Batch:
    """Compute features once for all clips, and pad the prompts.

    Args:
        builder: The prompt builder, which knows the backbone.
        encoded: From :func:`encode`.
        padding_side: Right for training, left for generation.
        live_rates: Rates at which live experts want the waveforms.
        embed: Gives the tower's cached states of a clip with L_a tokens; without it its input features are computed.
    """
    backbone = builder.backbone
    clips = [clip for item in encoded for clip in item.clips]
    lengths = [count for item in encoded for count in item.num_audio_tokens]
    audio: AudioFeatures | list[Tensor] | None = None
    if clips and embed:
        audio = list(map(embed, clips, lengths))
    elif clips:
        audio = backbone.audio_features([waveform for item in encoded for waveform in item.waveforms])
    prompts = [item.prompt for item in encoded]
    # Where other prompts have blocks, a clip without one is a single group of frames that no loss counts.
    groups = [
        group
        for item in encoded
        for group in (
            [(block.num_think_tokens, block.stride) for block in item.prompt.blocks]
            or [(0, max(count, 1)) for count in item.num_audio_tokens]
        )
    ]
    thinks = any(prompt.blocks for prompt in prompts)
    return Batch(
        *_pad(prompts, int(backbone.tokenizer.pad_token_id), padding_side),
        audio=audio,
        think_lengths=torch.tensor([length for length, _ in groups]) if thinks else None,
        think_strides=tuple(stride for _, stride in groups) if thinks else (),
        heard_lengths=tuple(count for item in encoded for count in item.num_heard_tokens),
        audio_batch=AudioBatch.of(clips, live_rates) if clips and live_rates else None,
        clip_counts=tuple(len(item.clips) for item in encoded),
        position_ids=_positions(prompts, padding_side),
    )


def make_batch(
    builder: PromptBuilder,
    conversations: Sequence[Conversation],
    *,
    padding_side: Literal["left", "right"] = "right",
    live_rates: Sequence[int] = (),
    embed: Callable[[Clip, int], Tensor] | None = None,
) -> Batch:
    """Conversations to one batch: :func:`encode` each, then :func:`collate`."""
    encoded = [encode(builder, conversation) for conversation in conversations]
    return collate(builder, encoded, padding_side=padding_side, live_rates=live_rates, embed=embed)


def _positions(prompts: Sequence[Prompt], side: Literal["left", "right"]) -> Tensor | None:
    """Positions of a batch, if any of its prompts has its own."""
    if all(prompt.positions is None for prompt in prompts):
        return None
    rows = [torch.tensor(prompt.positions or range(len(prompt.input_ids))) for prompt in prompts]
    return pad_sequence(rows, batch_first=True, padding_side=side)


def _pad(prompts: Sequence[Prompt], pad_id: int, side: Literal["left", "right"]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels of a batch."""
    ids = [torch.tensor(prompt.input_ids) for prompt in prompts]
    labels = [torch.tensor(prompt.labels) for prompt in prompts]
    mask = [torch.ones(len(row), dtype=torch.long) for row in ids]

    def stack(rows: list[Tensor], value: int) -> Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)

    return stack(ids, pad_id), stack(mask, 0), stack(labels, IGNORE)


def split_segments(rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Cut concatenated segments apart and pad them.

    Args:
        rows: ``(sum of lengths, d)``, segments one after another.
        lengths: ``(N,)``.

    Returns:
        ``(N, L, d)`` and the ``(N, L)`` mask of real rows.

    Raises:
        ValueError: The lengths do not add up to the rows.
    """
    if int(lengths.sum()) != len(rows):
        raise ValueError(f"{len(rows)} think tokens in the batch, blocks say {int(lengths.sum())}")
    segments = pad_sequence(list(rows.split(lengths.tolist())), batch_first=True)
    steps = torch.arange(segments.shape[1], device=rows.device)
    return segments, steps < lengths.to(rows.device)[:, None]
