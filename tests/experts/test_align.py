"""Alignment by true time: impulses, chirps, and properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.audio import Clip
from coat.audio_batch import AudioBatch
from coat.experts.align import align, pool, spread
from coat.experts.log_mel import LogMel

pytestmark = pytest.mark.experts

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


def glide(seconds, rate):
    """A tone that glides up and down between 300 Hz and 3 kHz in four seconds, and its pitch at any time."""
    pitch = lambda t: 300 * 10 ** np.abs((t / 2 + 0.5) % 2 - 1)  # noqa: E731
    time = np.arange(round(seconds * rate)) / rate
    return Clip((0.3 * np.sin(2 * np.pi * np.cumsum(pitch(time)) / rate)).astype(np.float32), rate), pitch


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_glides_are_heard_when_they_are(stride):
    """Clips of 0.3 to 120 s in one batch: the lag that fits best is under half a frame at both ends of each."""
    expert = LogMel().freeze()
    seconds = [120.0, 0.3, 7.3]
    made = [glide(s, 44_100) for s in seconds]
    counts = torch.tensor([int(s * 25) for s in seconds])
    audio_batch = AudioBatch.of([clip for clip, _ in made], [expert.sampling_rate])
    targets = expert.targets(*audio_batch.at(expert.sampling_rate), counts, **TOKEN).float()
    features = pool(targets, counts.tolist(), [stride] * 3)
    frequencies = torch.linspace(0, expert.sampling_rate / 2, len(expert.filters))
    centres = (expert.filters * frequencies[:, None]).sum(0) / expert.filters.sum(0)
    for row, count, (_, pitch) in zip(features, (counts // stride).tolist(), made, strict=True):  # whole groups
        heard = centres[row[:count].argmax(-1)].log().numpy()
        times = 0.01 + (np.arange(count) * stride + (stride - 1) / 2) / 25
        lags = np.arange(-0.2, 0.2001, 0.005)
        for part in (slice(0, min(100, count)), slice(max(0, count - 100), count)):
            misfits = [np.abs(heard[part] - np.log(pitch(times[part] + lag))).mean() for lag in lags]
            assert min(misfits) < 0.06
            assert abs(lags[int(np.argmin(misfits))]) <= 0.5 / 25, (count, part)


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
    out = pool(features, [length], [stride])
    assert out.shape[1] == math.ceil(length / stride)
    for group, value in enumerate(out[0, :, 0]):
        members = range(group * stride, min((group + 1) * stride, length))
        assert math.isclose(float(value), sum(members) / len(members), rel_tol=1e-5)


def test_pooling_leaves_padding_out():
    features = torch.tensor([[[1.0], [3.0], [100.0], [100.0]]])
    assert pool(features, [3], [2])[0, :, 0].tolist() == [2.0, 100.0]
    assert pool(features, [2], [2])[0, :, 0].tolist() == [2.0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 7)), min_size=1, max_size=4))
def test_pooling_clips_of_other_strides_by_hand(clips):
    lengths, strides = [length for length, _ in clips], [stride for _, stride in clips]
    features = torch.randn(len(clips), max(lengths), 2, generator=torch.Generator().manual_seed(sum(lengths)))
    out = pool(features, lengths, strides)
    for row, (length, stride) in enumerate(clips):
        pieces = features[row, :length].split(stride)
        torch.testing.assert_close(out[row, : len(pieces)], torch.stack([piece.mean(0) for piece in pieces]))
        back = spread(out[row], length, stride)
        torch.testing.assert_close(back.mean(0), features[row, :length].mean(0))
        assert [len(piece.unique(dim=0)) for piece in back.split(stride)] == [1] * len(pieces)
