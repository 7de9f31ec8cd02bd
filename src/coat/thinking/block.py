"""The thinking block b(L_a) = [tau_s, tau_p x L_a, tau_e], built from token ids alone (Eq. 2).

This is the only code that makes a block. Training, generation, serving and evaluation call it, so they
cannot differ. It counts audio placeholders in the ids and never derives lengths from audio.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from coat.config.thinking import PAPER, ThinkingConfig
from coat.thinking.tokens import ThinkTokens

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """One block to insert.

    Attributes:
        position: The index in the ids without blocks before which it goes.
        num_audio_tokens: L_a of its audio segment.
        stride: Audio tokens that each of its think tokens stands for.
    """

    position: int
    num_audio_tokens: int
    stride: int = 1

    @property
    def num_think_tokens(self) -> int:
        """L, which is L_a at the paper's stride of 1; the last may stand for fewer audio tokens."""
        return math.ceil(self.num_audio_tokens / self.stride)

    @property
    def length(self) -> int:
        """Tokens it adds."""
        return self.num_think_tokens + 2


def audio_segments(ids: Sequence[int], audio_token: int) -> list[tuple[int, int]]:
    """Start and length of every run of audio placeholders, in order."""
    segments, start = [], 0
    for is_audio, run in groupby(ids, lambda token: token == audio_token):
        length = len(list(run))
        if is_audio:
            segments.append((start, length))
        start += length
    return segments


def plan_blocks(
    ids: Sequence[int],
    *,
    audio_token: int,
    assistant_header: Sequence[int],
    tokens: ThinkTokens,
    thinking: ThinkingConfig = PAPER,
) -> list[Block]:
    """Where blocks go and how long they are.

    Every audio segment gets one block, in the order of the segments. It stands at the first assistant turn
    after its segment: as the first thing in that turn (``assistant_prefix``), or right before the turn's
    header (``before_assistant``). Each user turn with audio so has its own, and a cached prefix stays valid.

    Args:
        ids: A prompt, with audio placeholders expanded and without blocks.
        audio_token: The placeholder's id.
        assistant_header: The ids that open an assistant turn.
        tokens: The three think tokens.
        thinking: Placement of blocks, and the number of audio tokens for each think token.

    Returns:
        Blocks by position; none for a prompt without audio.

    Raises:
        ValueError: The ids hold think tokens already, or audio has no assistant turn after it.
    """
    refuse_think_tokens([ids], tokens)
    segments = audio_segments(ids, audio_token)
    headers = _find_all(ids, assistant_header) if segments else []
    blocks = []
    for start, length in segments:
        header = next((h for h in headers if h >= start + length), None)
        if header is None:
            raise ValueError("audio must be followed by an assistant turn: add the generation prompt")
        position = header + len(assistant_header) if thinking.placement == "assistant_prefix" else header
        blocks.append(Block(position, length, thinking.clip_stride(length)))
    return blocks


def refuse_think_tokens(rows: Iterable[Sequence[int]], tokens: ThinkTokens) -> None:
    """Raise a ValueError if prompts hold think tokens that no block of ours put there."""
    known = set(tokens.ids)
    if not all(known.isdisjoint(ids) for ids in rows):
        raise ValueError("the prompt holds think tokens already; blocks are added once, and never written by users")


def insert_blocks(ids: Sequence[int], blocks: Sequence[Block], tokens: ThinkTokens) -> list[int]:
    """The ids with every block in its place."""
    fill = [[tokens.start, *[tokens.think] * block.num_think_tokens, tokens.end] for block in blocks]
    return _insert(ids, blocks, fill)


def insert_filler(values: Sequence[T], blocks: Sequence[Block], filler: T) -> list[T]:
    """A list parallel to the ids (labels, say), stretched alike, with ``filler`` at every position of a block."""
    return _insert(values, blocks, [[filler] * block.length for block in blocks])


def positions_at_audio(ids: Sequence[int], *, audio_token: int, tokens: ThinkTokens) -> list[int]:
    """Positions of a prompt whose think tokens stand where their audio does, and whose other tokens have not moved.

    A think token is at the middle of the audio tokens that it stands for; what opens and closes a block is at the token
    before it.

    Args:
        ids: A prompt, blocks inserted.
        audio_token: The placeholder's id.
        tokens: The three think tokens.

    Returns:
        A position for each token.

    Example:
        >>> positions_at_audio([7, 1, 1, 1, 8, 90, 91, 91, 91, 92, 9], audio_token=1, tokens=ThinkTokens(90, 91, 92))
        [0, 1, 2, 3, 4, 4, 1, 2, 3, 4, 5]
    """
    segments = iter(audio_segments(ids, audio_token))
    blocks = iter(audio_segments(ids, tokens.think))
    positions: list[int] = []
    known, moved = set(tokens.ids), 0  # moved by the tokens of blocks so far
    middles: Iterator[int] = iter(())
    for index, token in enumerate(ids):
        if token == tokens.start:
            # Audio stands before its block, but other blocks may stand before the audio.
            (start, length), (_, count) = next(segments), next(blocks)
            stride = math.ceil(length / count)
            lasts = [min(first + stride, length) - 1 for first in range(0, length, stride)]
            middles = iter([positions[start] + (place * stride + last) // 2 for place, last in enumerate(lasts)])
        if token not in known:
            positions.append(index - moved)
            continue
        positions.append(next(middles) if token == tokens.think else index - moved - 1)
        moved += 1
    return positions


def _insert(values: Sequence[T], blocks: Sequence[Block], fill: Sequence[Sequence[T]]) -> list[T]:
    out: list[T] = []
    done = 0
    for block, piece in zip(blocks, fill, strict=True):
        out += values[done : block.position]
        out += piece
        done = block.position
    return out + list(values[done:])


def _find_all(ids: Sequence[int], pattern: Sequence[int]) -> list[int]:
    first, width, pattern = pattern[0], len(pattern), list(pattern)
    starts = [i for i, token in enumerate(ids) if token == first]
    return [i for i in starts if list(ids[i : i + width]) == pattern]
