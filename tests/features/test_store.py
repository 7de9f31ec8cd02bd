"""Features computed ahead: the same losses as on the fly, nothing twice, nothing lost."""

import json

import numpy as np
import pytest
import soundfile
import torch

from coat.config.reading import parse_recipe
from coat.data.manifest import AudioRef, read_manifest
from coat.errors import CoatError
from coat.features import store as features
from coat.features.store import FeatureJob, FeatureStore, audio_of, prepare
from coat.files import read_jsonl
from coat.testing.clips import RATE, assistant, user
from coat.training.run import train

pytestmark = pytest.mark.experts

EXPERTS = {"standin_speech": {}, "basic_pitch": {}}


def tone(index, rate=RATE):
    rng = np.random.default_rng(index)
    time = np.arange(round((0.6 + 0.1 * (index % 5)) * rate)) / rate
    wave = 0.2 * np.sin(2 * np.pi * 220 * 2 ** (index / 5) * time) + 0.02 * rng.normal(size=len(time))
    return wave.astype(np.float32)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Ten clips of two rates, one of them there twice under another name."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for index in range(10):
        rate = 44_100 if index % 3 == 2 else RATE
        soundfile.write(folder / f"{index}.wav", tone(index, rate), rate)
        name = f"{index}.wav"
        rows.append(
            {"id": f"t{index}", "audios": [name], "messages": [user("<audio>What is it?"), assistant("a tone")]}
        )
    (folder / "copy.wav").write_bytes((folder / "3.wav").read_bytes())
    rows.append(rows[3] | {"id": "copy", "audios": ["copy.wav"]})
    rows.append({"id": "text", "messages": [user("Say a colour."), assistant("red")]})
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def job(tiny_path, tmp_path):
    return FeatureJob(str(tmp_path / "cache"), "qwen2_audio", str(tiny_path), EXPERTS, embeddings=True)


@pytest.fixture
def refs(manifest):
    return audio_of(read_manifest(str(manifest)))


def recipe(tiny_path, manifest, cache, **data):
    return parse_recipe(
        {
            "backbone": {"path": str(tiny_path)},
            "heads": {"num_heads": 2, "ffn_ratio": 1.0},
            "stages": [
                {
                    "name": "one",
                    "steps": 6,
                    "learning_rate": 1e-3,
                    "experts": dict.fromkeys(("audio_reconstruction", *EXPERTS), "auto"),
                }
            ],
            "data": {"train_dataset": str(manifest), "cache": cache, **data},
            "training": {"batch_size": 4, "micro_batch_size": 2, "logging_steps": 1, "precision": "fp32", "seed": 1},
        }
    )


@pytest.mark.parametrize("cache_embeddings", [True, False])
def test_losses_are_those_of_features_computed_on_the_fly(tiny_path, manifest, tmp_path, cache_embeddings):
    live = train(recipe(tiny_path, manifest, None), tmp_path / "live")
    cached = recipe(tiny_path, manifest, str(tmp_path / "cache"), cache_embeddings=cache_embeddings)
    ahead = train(cached, tmp_path / "ahead")
    held = {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert held == {*EXPERTS} | ({"tower_states"} if cache_embeddings else set())
    lines = [read_jsonl(run / "metrics.jsonl") for run in (live, ahead)]
    assert len(lines[0]) == 6
    for left, right in zip(*lines, strict=True):
        names = [name for name in left if name == "loss" or name.startswith("loss/")]
        assert len(names) == 5
        for name in names:
            assert right[name] == pytest.approx(left[name], rel=1e-4), name


def test_every_sound_is_computed_once(job, refs, monkeypatch):
    """Progress is told batch by batch, though a unit of ten minutes is written at once."""
    monkeypatch.setattr(features, "BATCH_SECONDS", 3.0)
    store = job.open()
    said = []
    prepare(store, refs, progress=lambda *now: said.append(now))
    told = [now for now in said if now[0] == "features"]
    assert len(told) > 2
    assert sum(done for _, done, _ in told) == 10
    for cache in store.caches.values():
        assert len(cache) == 10
        assert store.plan(store.index(refs)) == []


def test_a_stopped_job_goes_on_with_what_is_missing(job, refs, monkeypatch):
    monkeypatch.setattr(features, "UNIT_SECONDS", 2.0)
    store = job.open()
    units = store.plan(store.index(refs))
    assert len(units) > 3
    store.run(units[0])
    shards = {path: path.stat().st_mtime_ns for path in store.root.glob("*/*.parquet")}
    # Killed between two sources of a unit: one shard is there, the others are not.
    first = store._features(["standin_speech"], units[1].sounds)
    store.caches["standin_speech"].write(first["standin_speech"])
    again = job.open()
    left = again.plan(again.index(refs))
    by_source = {name: {s.key for unit in left if name in unit.sources for s in unit.sounds} for name in again.sources}
    done = {sound.key for sound in units[0].sounds}
    assert all(not done & keys for keys in by_source.values())
    assert len(by_source["standin_speech"]) == len(by_source["basic_pitch"]) - len(units[1].sounds)
    prepare(again, refs)
    assert all(len(cache) == 10 for cache in again.caches.values())
    assert all(path.stat().st_mtime_ns == when for path, when in shards.items())
    stored = [path for path in store.root.glob("*/*.parquet") if "basic_pitch" in path.parent.name]
    assert sum(int(path.stem.split("-")[1]) for path in stored) == 10  # nothing is there twice


def test_another_expert_later_leaves_the_first_alone(tiny_path, tmp_path, refs):
    cache = str(tmp_path / "cache")
    prepare(FeatureJob(cache, "qwen2_audio", str(tiny_path), {"standin_speech": {}}).open(), refs)
    store = FeatureJob(cache, "qwen2_audio", str(tiny_path), EXPERTS).open()
    assert {unit.sources for unit in store.plan(store.index(refs))} == {("basic_pitch",)}


def test_experts_alone_need_no_weights_of_the_backbone(tiny_path, tmp_path, refs):
    store = FeatureJob(str(tmp_path), "qwen2_audio", str(tiny_path), EXPERTS).open()
    assert next(store.backbone.model.parameters()).is_meta
    prepare(store, refs)
    clip = refs[0].load()
    cached = store.caches["basic_pitch"].get(clip, store.backbone.num_audio_tokens(len(clip.waveform)))
    assert cached.shape[1] == 2112


def test_sizes_are_those_on_disk_before_compression(job, refs):
    store = job.open()
    units = store.plan(store.index(refs))
    estimates = {found.source: found for found in store.estimate(units)}
    prepare(store, refs)
    for name, source in store.sources.items():
        rows = 0
        for ref in {sound.ref for sound in store.index(refs)}:
            clip = ref.load()
            count = store.backbone.num_audio_tokens(len(clip.at(RATE)))
            rows += len(store.caches[name].get(clip, count))
        exact = rows * source.feature_dim * source.dtype.itemsize
        assert estimates[name].bytes == pytest.approx(exact, rel=0.1)
        assert estimates[name].clips == 10
        assert estimates[name].seconds > 0
    assert {found.clips for found in store.estimate([])} == {0}


def test_unusable_files_are_named_before_anything_is_computed(job, refs, tmp_path):
    store = job.open()
    with pytest.raises(CoatError, match=r"gone.wav"):
        prepare(store, [*refs, AudioRef(tmp_path / "gone.wav")])
    assert not list(store.root.glob("*/*.parquet"))


def test_batches_stay_within_their_padded_length():
    from coat.testing.clips import noise

    clips = [noise(seconds, seed=i) for i, seconds in enumerate([0.5, 0.5, 1.0, 2.0, 2.0, 9.0])]
    batches = list(features._padded_batches(clips, 4.0))
    assert [clip for batch in batches for clip in batch] == clips
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(clip.seconds for clip in batch) <= 4.0
    assert len(batches) == 3


def test_a_cache_serves_any_number_of_think_tokens(tiny_path, manifest, tmp_path):
    """The stride is not in the cache: frames are pooled when they are read."""
    cache = str(tmp_path / "cache")
    for stride in (1, 3):
        asked = recipe(tiny_path, manifest, cache).model_dump()
        asked["thinking"]["stride"] = stride
        run = train(parse_recipe(asked), tmp_path / f"stride{stride}")
        assert torch.isfinite(torch.tensor(read_jsonl(run / "metrics.jsonl")[-1]["loss"]))
    shards = list((tmp_path / "cache").glob("*/*.parquet"))
    assert len(shards) == 3


def test_a_store_says_when_there_is_nothing_to_do(tiny_path, manifest):
    with pytest.raises(CoatError, match=r"no data\.cache"):
        FeatureJob.of(recipe(tiny_path, manifest, None))
    asked = recipe(tiny_path, manifest, "somewhere", cache_embeddings=False).model_dump()
    asked["stages"][0]["experts"] = {"audio_reconstruction": "auto"}
    with pytest.raises(CoatError, match="nothing to compute"):
        FeatureJob.of(parse_recipe(asked))


def test_a_store_is_what_training_opens(tiny_path, backbone, manifest, tmp_path):
    """Both find the same folders, whichever came first."""
    asked = recipe(tiny_path, manifest, str(tmp_path))
    ahead = FeatureJob.of(asked).open()
    experts = {name: source.expert for name, source in ahead.sources.items() if hasattr(source, "expert")}
    here = FeatureStore(tmp_path, backbone, experts)
    assert {n: c.folder for n, c in here.caches.items()} == {n: c.folder for n, c in ahead.caches.items()}
