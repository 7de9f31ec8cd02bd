"""How think tokens are spread over audio tokens."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.thinking.pace import LONGEST, Pace

RATE = 16_000


def sound(*parts: tuple[float, float], seed: int = 0) -> np.ndarray:
    """Tones of a pitch in Hz for some seconds one after another; pitch 0 is silence."""
    rng = np.random.default_rng(seed)
    pieces = [np.sin(2 * np.pi * pitch * np.arange(round(s * RATE)) / RATE) * (pitch > 0) for pitch, s in parts]
    return (0.5 * np.concatenate(pieces) + 1e-6 * rng.normal(size=sum(map(len, pieces)))).astype(np.float32)


@given(st.integers(0, 4000), st.integers(1, 9), st.one_of(st.none(), st.integers(1, 2000)))
def test_spans_add_up_and_keep_to_the_budget(length, stride, most):
    spans = Pace(stride, most).spans(length)
    assert sum(spans) == length
    assert all(span >= 1 for span in spans)
    assert most is None or len(spans) <= most
    strided = math.ceil(length / stride)
    if most is None or strided <= most:
        assert len(spans) == strided
        assert set(spans[:-1]) <= {stride}


def test_a_budget_lengthens_the_stride_of_long_clips_alone():
    pace = Pace(max_tokens=100)
    assert pace.spans(100) == (1,) * 100
    assert pace.spans(101) == (2,) * 50 + (1,)
    assert pace.spans(750) == (8,) * 93 + (6,)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.floats(0.5, 40), st.integers(1, 48_000), st.integers(0, 5))
def test_merged_spans_cover_any_clip(length, threshold, samples, seed):
    waveform = np.random.default_rng(seed).normal(size=samples).astype(np.float32)
    spans = Pace(merge_db=threshold).spans(length, waveform)
    assert sum(spans) == length
    assert all(1 <= span <= LONGEST for span in spans)


def test_the_block_follows_what_is_heard():
    """Silence and held tones take few think tokens, and every change begins a span."""
    waveform = sound((0, 0.8), (440, 0.4), (880, 0.4), (0, 0.4))
    spans = Pace(merge_db=6.0).spans(50, waveform)
    starts = np.cumsum([0, *spans[:-1]])
    assert {0, 20, 30, 40} <= set(starts.tolist())
    assert len(spans) <= 9
    rng = np.random.default_rng(0)
    busy = np.concatenate([sound((pitch, 0.04)) for pitch in rng.uniform(200, 4000, 50)])
    assert len(Pace(merge_db=6.0).spans(50, busy)) >= 40
    assert Pace(merge_db=6.0).spans(50, np.zeros(2 * RATE, np.float32)) == (16, 16, 16, 2)


def test_loudness_of_the_whole_clip_does_not_matter():
    waveform = sound((300, 0.3), (0, 0.2), (1200, 0.5))
    assert Pace(merge_db=6.0).spans(25, waveform) == Pace(merge_db=6.0).spans(25, waveform / 8)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="the clip itself"):
        Pace(merge_db=3.0).spans(10)
    with pytest.raises(ValueError, match="stride"):
        Pace(stride=0)
    with pytest.raises(ValueError, match="max_tokens"):
        Pace(max_tokens=0)
