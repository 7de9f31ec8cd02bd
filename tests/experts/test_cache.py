import pytest
import torch

from coat.audio import Hearing
from coat.errors import CoatError
from coat.experts import cache as cache_module
from coat.experts.cache import FeatureCache
from coat.miniature.experts import StandInSpeech
from tests.conftest import noise

HEARING = Hearing(sampling_rate=16_000, token_rate=25.0, first_token_seconds=0.01, max_seconds=30.0)


def count(clip):
    return int(clip.seconds * 25)


@pytest.fixture
def clips():
    return [noise(0.5 + 0.1 * i, seed=i) for i in range(7)]


def test_what_goes_in_comes_out(tmp_path, clips):
    expert = StandInSpeech().freeze()
    cache = FeatureCache(tmp_path, expert, HEARING)
    cache.fill([lambda c=c: c for c in clips], count)
    again = FeatureCache(tmp_path, expert, HEARING)
    for clip in clips:
        assert clip in again
        wave = torch.from_numpy(clip.waveform)[None]
        direct = expert.targets(
            wave, torch.tensor([wave.shape[1]]), torch.tensor([count(clip)]), token_rate=25.0, first_token_seconds=0.01
        )[0]
        torch.testing.assert_close(again.get(clip, count(clip)), direct, atol=2e-3, rtol=2e-3)


def test_a_stopped_run_goes_on(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_CLIPS", 3)
    expert = StandInSpeech().freeze()
    loads = []

    def load(index):
        if index == 5 and len(loads) < 6:
            raise KeyboardInterrupt
        loads.append(index)
        return clips[index]

    cache = FeatureCache(tmp_path, expert, HEARING)
    with pytest.raises(KeyboardInterrupt):
        cache.fill([lambda i=i: load(i) for i in range(7)], count)
    resumed = FeatureCache(tmp_path, expert, HEARING)
    assert [clip in resumed for clip in clips] == [True] * 3 + [False] * 4
    loads += [None] * 6
    made = []
    monkeypatch.setattr(resumed, "_compute", lambda c, n, real=resumed._compute: made.extend(c) or real(c, n))
    resumed.fill([lambda i=i: load(i) for i in range(7)], count)
    assert len(made) == 4
    assert all(clip in resumed for clip in clips)


def test_what_is_not_there_says_so(tmp_path, clips):
    cache = FeatureCache(tmp_path, StandInSpeech().freeze(), HEARING)
    with pytest.raises(CoatError, match="no cached standin_speech"):
        cache.get(clips[0], 3)
    cache.fill([lambda: clips[0]], count)
    with pytest.raises(CoatError, match="audio tokens"):
        cache.get(clips[0], 3)


def test_another_token_axis_is_another_cache(tmp_path):
    expert = StandInSpeech().freeze()
    other = Hearing(sampling_rate=16_000, token_rate=12.5, first_token_seconds=0.01, max_seconds=30.0)
    assert FeatureCache(tmp_path, expert, HEARING).folder != FeatureCache(tmp_path, expert, other).folder
