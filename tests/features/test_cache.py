import pickle

import numpy as np
import pytest
import torch

from coat.audio import AudioSpec
from coat.audio_batch import AudioBatch
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.features import cache as cache_module
from coat.features.cache import ExpertSource, FeatureCache
from coat.synthetic.experts import StandInSpeech
from coat.testing.clips import noise

pytestmark = pytest.mark.experts

HEARING = AudioSpec(sampling_rate=16_000, token_rate=25.0, first_token_seconds=0.01, max_seconds=30.0)


@pytest.fixture
def clips():
    return [noise(0.5 + 0.1 * i, seed=i) for i in range(7)]


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path, ExpertSource(StandInSpeech().freeze()), HEARING)


def features(clip, width=StandInSpeech.feature_dim):
    rng = np.random.default_rng(len(clip.waveform))
    return torch.from_numpy(rng.normal(size=(int(clip.seconds * 25), width))).half()


def write(cache, clips):
    path = cache.write({clip.content_key: features(clip) for clip in clips})
    cache.refresh()
    return path


def test_what_goes_in_comes_out(cache, clips):
    write(cache, clips[:4])
    write(cache, clips[4:])
    assert len(cache) == 7
    for clip in clips:
        assert clip.content_key in cache
        assert torch.equal(cache.get(clip, len(features(clip))), features(clip).float())


def test_what_is_written_again_takes_its_own_place(cache, clips):
    assert write(cache, clips) == write(cache, clips[::-1])
    assert len(list(cache.folder.iterdir())) == 1
    write(cache, clips[:2])  # in two shards now
    assert len(cache) == 7
    assert torch.equal(cache.get(clips[0], len(features(clips[0]))), features(clips[0]).float())


def test_it_is_smaller_than_what_it_holds(cache, clips):
    quiet = {clip.content_key: features(clip).relu() for clip in clips}  # as many experts' features are
    raw = sum(value.nbytes for value in quiet.values())
    assert cache.write(quiet).stat().st_size < 0.7 * raw


def test_workers_read_on_their_own(cache, clips):
    write(cache, clips)
    cache.get(clips[0], len(features(clips[0])))
    copy = pickle.loads(pickle.dumps(cache))
    assert torch.equal(copy.get(clips[1], len(features(clips[1]))), features(clips[1]).float())


def test_few_files_stay_open(cache, clips, monkeypatch):
    monkeypatch.setattr(cache_module, "OPEN_FILES", 2)
    for clip in clips:
        cache.write({clip.content_key: features(clip)})
    for clip in [*clips, *clips]:
        assert torch.equal(cache.get(clip, len(features(clip))), features(clip).float())
    assert len(cache._open) == 2


@pytest.mark.parametrize("where", ["page", "footer", "all"])
def test_a_damaged_shard_is_named_and_can_be_removed(cache, clips, where):
    path = write(cache, clips)
    content = bytearray(path.read_bytes())
    place = {"page": 400, "footer": len(content) - 6, "all": 0}[where]
    content[place] ^= 0xFF
    path.write_bytes(content if where != "all" else b"nothing")
    with pytest.raises(CoatError, match=path.name):
        [cache.get(clip, len(features(clip))) for clip in clips]
    assert cache.remove_damaged() == [path]
    assert len(cache) == 0


def test_half_written_shards_are_not_seen(cache, clips):
    path = write(cache, clips)
    path.rename(path.with_name(path.name + ".x.partial"))
    cache.refresh()
    assert clips[0].content_key not in cache


def test_what_is_not_there_says_so(cache, clips):
    with pytest.raises(CoatError, match="no cached standin_speech"):
        cache.get(clips[0], 3)
    write(cache, clips[:1])
    with pytest.raises(CoatError, match="audio tokens"):
        cache.get(clips[0], 3)


def test_what_features_depend_on_is_in_the_folder(tmp_path):
    expert, other = StandInSpeech().freeze(), StandInSpeech().freeze()
    axis = AudioSpec(sampling_rate=16_000, token_rate=12.5, first_token_seconds=0.01, max_seconds=30.0)
    place = FeatureCache(tmp_path, ExpertSource(expert), HEARING).folder
    assert FeatureCache(tmp_path, ExpertSource(other), HEARING).folder == place
    assert FeatureCache(tmp_path, ExpertSource(expert), axis).folder != place
    other.precision = torch.bfloat16
    assert FeatureCache(tmp_path, ExpertSource(other), HEARING).folder != place
    other.precision = torch.float32
    other.filters[0, 0] += 1
    assert FeatureCache(tmp_path, ExpertSource(other), HEARING).folder != place


class Slow(Expert):
    """Four frames a second, the loudness of each in the middle of its quarter."""

    name, feature_dim, frame_rate, first_frame_seconds = "slow", 3, 4.0, 0.125

    def features(self, waveforms, lengths):
        frames = (lengths // 4_000).clamp(min=1)
        longest = int(frames.max())
        padded = torch.nn.functional.pad(waveforms, (0, max(0, longest * 4_000 - waveforms.shape[1])))
        loud = padded[:, : longest * 4_000].unflatten(1, (longest, 4_000)).std(-1)
        return torch.stack([loud, loud**2, 1 + loud], -1), frames


@pytest.mark.parametrize("axis", [HEARING, AudioSpec(16_000, 12.5, 0.0, 30.0)], ids=["25 Hz", "12.5 Hz"])
def test_a_slow_expert_is_kept_at_its_own_rate_and_read_on_any_backbone_s(tmp_path, axis):
    """To the bit as it is live; what one backbone's run has computed is there for another."""
    expert = Slow().freeze()
    cache = FeatureCache(tmp_path, ExpertSource(expert), axis)
    assert cache.folder == FeatureCache(tmp_path, ExpertSource(expert), HEARING).folder
    assert "4hz-125ms" in cache.folder.name
    clips = [noise(seconds, seed=i) for i, seconds in enumerate((0.7, 2.3, 1.1))]
    counts = torch.tensor([round(clip.seconds * axis.token_rate) for clip in clips])
    audio_batch = AudioBatch.of(clips, [expert.sampling_rate])
    rows = ExpertSource(expert).compute(clips, audio_batch, counts, axis)
    assert [tuple(row.shape) for row in rows] == [(2, 3), (9, 3), (4, 3)]
    cache.write({clip.content_key: row for clip, row in zip(clips, rows, strict=True)})
    live = expert.targets(
        *audio_batch.at(expert.sampling_rate), counts, token_rate=axis.token_rate,
        first_token_seconds=axis.first_token_seconds,
    )  # fmt: skip
    for clip, row, count in zip(clips, live, counts.tolist(), strict=True):
        torch.testing.assert_close(cache.get(clip, count), row[:count].float(), rtol=0, atol=0)


def test_an_expert_faster_than_the_tokens_is_kept_on_their_axis(tmp_path):
    cache = FeatureCache(tmp_path, ExpertSource(StandInSpeech().freeze()), HEARING)
    assert cache.folder.name.endswith("25hz-10ms")
