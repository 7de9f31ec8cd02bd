import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.audio import Clip
from coat.audio_batch import STUDIO_RATE, AudioBatch, resample


def sweep(rate, seconds, highest):
    time = np.arange(round(rate * seconds)) / rate
    frequency = np.linspace(50, highest, len(time))
    return (0.5 * np.sin(2 * np.pi * np.cumsum(frequency) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "target"), [(44_100, 16_000), (16_000, 22_050), (48_000, 32_000), (8_000, 32_000), (44_100, 22_050)]
)
def test_it_agrees_with_soxr(rate, target):
    clip = Clip(sweep(rate, 2.0, 0.42 * min(rate, target)), rate)
    ours, lengths = AudioBatch.of([clip], [target]).at(target)
    theirs = clip.at(target)
    assert abs(int(lengths[0]) - len(theirs)) <= 1
    inner = slice(200, len(theirs) - 200)  # the two differ in what they take to lie before and after
    error = ours[0, : len(theirs)].numpy()[inner] - theirs[inner]
    assert 10 * np.log10(np.square(theirs).mean() / np.square(error).mean()) > 60  # dB


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(200, 4000), min_size=1, max_size=5),
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    target=st.sampled_from([16_000, 22_050, 32_000]),
    seed=st.integers(0, 9),
)
def test_a_clip_is_resampled_as_if_alone(lengths, rate, target, seed):
    rng = np.random.default_rng(seed)
    clips = [Clip(rng.normal(size=n).astype(np.float32), rate) for n in lengths]
    together, counts = AudioBatch.of(clips, [target]).at(target)
    for row, count, clip in zip(together, counts.tolist(), clips, strict=True):
        alone, (length,) = AudioBatch.of([clip], [target]).at(target)
        assert count == length == len(clip.waveform) * target // rate
        torch.testing.assert_close(row[:count], alone[0, :count], atol=1e-5, rtol=1e-5)
        assert not row[count:].any()


def test_clips_of_many_rates_keep_their_places():
    clips = [Clip(sweep(rate, seconds, 1000), rate) for rate, seconds in [(44_100, 0.5), (16_000, 1.0), (44_100, 0.7)]]
    waveforms, lengths = AudioBatch.of(clips, [16_000]).at(16_000)
    assert lengths.tolist() == [8_000, 16_000, 11_200]
    assert np.array_equal(waveforms[1].numpy(), clips[1].waveform)


def test_a_rate_is_made_once_however_many_ask():
    audio_batch = AudioBatch.of([Clip(sweep(44_100, 0.5, 1000), 44_100)], [16_000])
    assert audio_batch.at(16_000)[0] is audio_batch.at(16_000)[0]


def test_odd_rates_go_by_the_studio_rate():
    clip = Clip(sweep(11_127, 1.0, 1000), 11_127)
    audio_batch = AudioBatch.of([clip, Clip(sweep(16_000, 1.0, 1000), 16_000)], [16_000])
    assert sorted(take.rate for take in audio_batch.takes) == [16_000, STUDIO_RATE]
    waveforms, lengths = audio_batch.at(16_000)
    assert abs(int(lengths[0]) - 16_000) <= 2
    inner = slice(500, 15_500)
    error = waveforms[0, inner].numpy() - clip.at(16_000)[inner]
    assert np.abs(error).max() < 2e-3


def test_empty_ends_stay_silent():
    waveforms, lengths = resample(torch.ones(2, 5), torch.tensor([5, 0]), 16_000, 32_000)
    assert lengths.tolist() == [10, 0]
    assert not waveforms[1].any()
