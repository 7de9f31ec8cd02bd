"""Alignment by true time: impulses, chirps, and properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.experts.align import align, pool

TOKEN = {"token_rate": 25.0, "first_token_seconds": 0.01}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([3.125, 12.5, 25.0, 50.0, 86.1328125, 100.0]),
    st.floats(0.3, 120.0),
    st.floats(0.0, 0.03),
)
def test_time_itself_is_shifted_by_less_than_half_a_token(rate, seconds, first):
    """Features that hold their own time come out as the tokens' times, but where an expert has no frames."""
    frames = max(1, int(seconds * rate))
    times = (first + torch.arange(frames, dtype=torch.float64) / rate).float().reshape(1, -1, 1)
    tokens = max(1, int(seconds * 25))
    out = align(times, torch.tensor([frames]), frame_rate=rate, first_frame_seconds=first, num_tokens=tokens, **TOKEN)
    wanted = 0.01 + torch.arange(tokens) / 25
    wanted = wanted.clamp(float(times.min()), float(times.max()))  # held at both ends
    assert float((out[0, :, 0] - wanted).abs().max()) < 0.02


@pytest.mark.parametrize("rate", [50.0, 86.1328125])
@pytest.mark.parametrize("second", [0.0, 0.5, 59.3, 119.5])
def test_an_impulse_lands_on_its_token(rate, second):
    frames = int(120 * rate)
    features = torch.zeros(1, frames, 1)
    index = round(second * rate)
    features[0, index] = 1.0
    out = align(features, torch.tensor([frames]), frame_rate=rate, first_frame_seconds=0.0, num_tokens=3000, **TOKEN)
    peak = 0.01 + float(out[0, :, 0].argmax()) / 25
    assert abs(peak - index / rate) <= 0.02 + 1e-6


def test_unequal_lengths_in_a_batch_equal_each_alone():
    lengths = torch.tensor([40, 13, 1])
    features = torch.randn(3, 40, 4)
    garbage = features.clone()
    for row, length in enumerate(lengths):
        garbage[row, length:] = float("nan")
    options = {"frame_rate": 50.0, "first_frame_seconds": 0.0, **TOKEN}
    safe = torch.nan_to_num(garbage, nan=1e9)  # what stands past the end must not matter
    together = align(safe, lengths, num_tokens=20, **options)
    for row, length in enumerate(lengths):
        alone = align(features[row : row + 1, :length], lengths[row : row + 1], num_tokens=20, **options)
        torch.testing.assert_close(together[row], alone[0])


def test_averaging_keeps_a_constant():
    out = align(torch.full((1, 90, 2), 3.0), torch.tensor([90]), frame_rate=86.13, first_frame_seconds=0.0,
                num_tokens=30, **TOKEN)  # fmt: skip
    torch.testing.assert_close(out, torch.full((1, 30, 2), 3.0))


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 6))
def test_pooling_by_hand(length, stride):
    features = torch.arange(float(length)).reshape(1, -1, 1)
    out = pool(features, torch.tensor([length]), stride)
    assert out.shape[1] == math.ceil(length / stride)
    for group, value in enumerate(out[0, :, 0]):
        members = range(group * stride, min((group + 1) * stride, length))
        assert math.isclose(float(value), sum(members) / len(members), rel_tol=1e-5)


def test_pooling_leaves_padding_out():
    features = torch.tensor([[[1.0], [3.0], [100.0], [100.0]]])
    assert pool(features, torch.tensor([3]), 2)[0, :, 0].tolist() == [2.0, 100.0]
    assert pool(features, torch.tensor([2]), 2)[0, 0, 0] == 2.0
