"""Features by a Ray cluster of this machine's own, one of whose workers is killed midway."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from coat.data.manifest import AudioRef
from coat.errors import CoatError
from coat.features import store as features
from coat.features.cluster import UnitWorker, compute_on_ray
from coat.features.store import FeatureJob, prepare
from coat.testing.clips import RATE

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.experts, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

CLIPS = 24


@pytest.fixture(scope="module")
def refs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for index in range(CLIPS):
        wave = rng.normal(0, 0.1, round((0.5 + 0.02 * index) * RATE)).astype(np.float32)
        soundfile.write(folder / f"{index}.wav", wave, RATE)
    return [AudioRef(folder / f"{index}.wav") for index in range(CLIPS)]


class Watched(UnitWorker):
    """Leaves its process id where the test finds it, and takes its time."""

    def __init__(self, job, units):
        super().__init__(job, units)
        (Path(job.cache) / f"{os.getpid()}.pid").touch()

    def __call__(self, row):
        time.sleep(0.3)
        return super().__call__(row)


def test_a_killed_worker_loses_nothing_and_doubles_nothing(refs, tiny_path, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "UNIT_SECONDS", 2.0)
    monkeypatch.setattr("coat.features.cluster.UnitWorker", Watched)
    job = FeatureJob(str(tmp_path / "many"), "qwen2_audio", str(tiny_path), {"standin_speech": {}, "basic_pitch": {}})
    store = job.open()
    units = store.plan(store.index(refs))
    assert len(units) > 6
    said, killed = [], []

    def progress(*now):
        said.append(now)
        if not killed:
            killed.append(int(next(Path(job.cache).glob("*.pid")).stem))
            os.kill(killed[0], signal.SIGKILL)

    compute_on_ray(store, job, units, "local", workers=2, progress=progress)
    assert len(list(Path(job.cache).glob("*.pid"))) > 2  # another took its place
    assert sum(done for _, done, _ in said) == CLIPS
    alone = FeatureJob(str(tmp_path / "one"), "qwen2_audio", str(tiny_path), job.experts).open()
    prepare(alone, refs)
    for name, cache in store.caches.items():
        stored = [int(path.stem.split("-")[1]) for path in cache.folder.glob("*.parquet")]
        assert sum(stored) == len(cache) == CLIPS
        for ref in refs:
            clip = ref.load()
            count = store.backbone.num_audio_tokens(len(clip.waveform))
            ours, theirs = cache.get(clip, count), alone.caches[name].get(clip, count)
            np.testing.assert_allclose(ours, theirs, atol=2e-3, rtol=2e-3)


def test_a_cluster_that_is_not_there_is_named(refs, tiny_path, tmp_path, monkeypatch):
    job = FeatureJob(str(tmp_path), "qwen2_audio", str(tiny_path), {"standin_speech": {}})
    store = job.open()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("refused")))
    with pytest.raises(CoatError, match="no Ray cluster at 10"):
        compute_on_ray(store, job, store.plan(store.index(refs)), "10.0.0.1:6379")
