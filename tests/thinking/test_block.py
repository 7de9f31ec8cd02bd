"""Eq. 2 and the placement of blocks, property by property."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.config.thinking import PLACEMENTS, ThinkingConfig
from coat.thinking.block import audio_segments, insert_blocks, insert_filler, plan_blocks, positions_at_audio
from coat.thinking.tokens import ThinkTokens

AUDIO, TEXT, HEADER, TURN_END = 1, 2, (10, 11, 12), 13
BOS, EOS = 20, 21
TOKENS = ThinkTokens(90, 91, 92)


def conversation(turns: list[list[int]], answers: int) -> list[int]:
    """Each turn: user text, its audio segments between markers, header, and an answer but for the last."""
    ids = []
    for index, lengths in enumerate(turns):
        ids += [TEXT, TEXT]
        for length in lengths:
            ids += [BOS, *[AUDIO] * length, EOS]
        ids += [TEXT, TURN_END, *HEADER]
        if index < answers:
            ids += [TEXT, TEXT, TURN_END]
    return ids


def plan(ids, **options):
    return plan_blocks(ids, audio_token=AUDIO, assistant_header=HEADER, tokens=TOKENS, **options)


turns = st.lists(st.lists(st.integers(1, 40), max_size=3), min_size=1, max_size=4)


@settings(deadline=None)
@given(turns, st.sampled_from(PLACEMENTS), st.integers(1, 5))
def test_blocks_follow_from_ids(turns, placement, stride):
    ids = conversation(turns, len(turns) - 1)
    blocks = plan(ids, thinking=ThinkingConfig(placement=placement, stride=stride))
    lengths = [length for turn in turns for length in turn]
    # one block an audio segment, in order, of ceil(L_a / stride) think tokens
    assert [b.num_audio_tokens for b in blocks] == lengths
    assert [b.num_think_tokens for b in blocks] == [math.ceil(n / stride) for n in lengths]

    out = insert_blocks(ids, blocks, TOKENS)
    assert [t for t in out if t not in TOKENS.ids] == ids  # nothing else changes
    assert out.count(TOKENS.think) == sum(b.num_think_tokens for b in blocks)
    assert len(out) == len(ids) + sum(b.length for b in blocks)
    # each block is [start, think x n, end], unbroken
    rest = list(out)
    for block in blocks:
        start = rest.index(TOKENS.start)
        piece = rest[start : start + block.length]
        assert piece == [TOKENS.start, *[TOKENS.think] * block.num_think_tokens, TOKENS.end]
        del rest[: start + block.length]
    # a parallel list is stretched alike
    marks = insert_filler(list(range(len(ids))), blocks, -100)
    assert len(marks) == len(out)
    assert all((mark == -100) == (token in TOKENS.ids) for mark, token in zip(marks, out, strict=True))


@settings(deadline=None)
@given(turns, st.sampled_from(PLACEMENTS), st.integers(1, 5))
def test_at_the_audio_nothing_else_is_moved(turns, placement, stride):
    ids = conversation(turns, len(turns) - 1)
    blocks = plan(ids, thinking=ThinkingConfig(placement=placement, stride=stride))
    out = insert_blocks(ids, blocks, TOKENS)
    positions = positions_at_audio(out, audio_token=AUDIO, tokens=TOKENS)
    assert len(positions) == len(out)
    assert [place for place, token in zip(positions, out, strict=True) if token not in TOKENS.ids] == list(
        range(len(ids))
    )
    thinks = iter([place for place, token in zip(positions, out, strict=True) if token == TOKENS.think])
    for (start, length), block in zip(audio_segments(ids, AUDIO), blocks, strict=True):
        # The shortest stride that gives as many think tokens: the block's own, but for very short clips.
        own = math.ceil(length / block.num_think_tokens)
        assert own == stride or length < stride**2
        for first in range(start, start + length, own):
            last = min(first + own, start + length) - 1
            assert next(thinks) == (first + last) // 2
    assert next(thinks, None) is None


@settings(deadline=None)
@given(turns)
def test_a_block_heads_the_turn_that_answers_its_audio(turns):
    ids = conversation(turns, len(turns) - 1)
    for placement in PLACEMENTS:
        out = insert_blocks(ids, plan(ids, thinking=ThinkingConfig(placement=placement)), TOKENS)
        for index, token in enumerate(out):
            if token == TOKENS.start and out[index - 1] != TOKENS.end:
                before = tuple(out[index - len(HEADER) : index])
                assert (before == HEADER) == (placement == "assistant_prefix")
                if placement == "before_assistant":
                    assert out[index - 1] == TURN_END


@settings(deadline=None)
@given(turns)
def test_a_later_turn_leaves_earlier_blocks_where_they_were(turns):
    """So that a cached prefix stays valid."""
    for end in range(1, len(turns)):
        whole = conversation(turns, len(turns) - 1)
        prefix = conversation(turns[:end], end - 1)
        assert whole[: len(prefix)] == prefix
        built = insert_blocks(prefix, plan(prefix), TOKENS)
        assert insert_blocks(whole, plan(whole), TOKENS)[: len(built)] == built


def test_the_paper_example():
    ids = [TEXT, BOS, AUDIO, AUDIO, AUDIO, EOS, TEXT, TURN_END, *HEADER]
    assert insert_blocks(ids, plan(ids), TOKENS) == [*ids, 90, 91, 91, 91, 92]
    assert insert_blocks(ids, plan(ids, thinking=ThinkingConfig(placement="before_assistant")), TOKENS) == [
        *ids[:-3],
        90,
        91,
        91,
        91,
        92,
        *HEADER,
    ]


def test_positions_at_the_audio_by_hand():
    ids = [TEXT, BOS, AUDIO, AUDIO, AUDIO, EOS, TEXT, TURN_END, *HEADER, TEXT]

    def placed(ids, **thinking):
        out = insert_blocks(ids, plan(ids, thinking=ThinkingConfig(**thinking)), TOKENS)
        return positions_at_audio(out, audio_token=AUDIO, tokens=TOKENS)

    assert placed(ids) == [*range(11), 10, 2, 3, 4, 10, 11]
    assert placed(ids, stride=2) == [*range(11), 10, 2, 4, 10, 11]
    assert placed([*ids, BOS, AUDIO, AUDIO, *HEADER]) == [
        *range(11), 10, 2, 3, 4, 10, *range(11, 18), 17, 13, 14, 17,
    ]  # fmt: skip
    assert placed([TEXT, *HEADER]) == [0, 1, 2, 3]


def test_text_only_has_no_block():
    assert plan([TEXT, TURN_END, *HEADER]) == []


def test_adjacent_segments_are_told_apart_by_their_markers():
    assert audio_segments([BOS, AUDIO, AUDIO, EOS, BOS, AUDIO, EOS], AUDIO) == [(1, 2), (5, 1)]


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ([AUDIO, 91, *HEADER], {}, "think tokens already"),
        ([AUDIO, TEXT], {}, "followed by an assistant turn"),
        ([*HEADER, AUDIO], {}, "followed by an assistant turn"),
    ],
)
def test_what_cannot_be_planned_says_why(ids, options, message):
    with pytest.raises(ValueError, match=message):
        plan(ids, **options)
