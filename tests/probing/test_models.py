import json

import numpy as np
import pytest
import soundfile

from coat.backbones import load_backbone
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.evaluation.run import run_tasks
from coat.evaluation.sources import open_manifest_tasks
from coat.evaluation.statistics import ratio
from coat.probing.models import (
    Target,
    checkpoints_of,
    correlate,
    over_training,
    plain_lines,
    read_clips,
    read_model,
    successes,
)
from coat.probing.probes import Probed
from coat.reports.probes import write_probe_page
from coat.testing.clips import RATE
from coat.thinking.model import ThinkingModel
from coat.training.run import train
from tests.evaluation.test_run import Scripted


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Tones that are low or high, by four speakers."""
    folder = tmp_path_factory.mktemp("labels")
    rng, rows = np.random.default_rng(0), []
    for index in range(32):
        height = ("low", "high")[index % 2]
        time = np.arange(RATE // 2) / RATE
        wave = 0.3 * np.sin(2 * np.pi * (200 if height == "low" else 1500) * time) + rng.normal(0, 0.02, len(time))
        soundfile.write(folder / f"{index}.wav", wave.astype(np.float32), RATE)
        rows.append({"audio": f"{index}.wav", "height": height, "voice": f"v{index // 2 % 4}", "kind": "tone"})
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "labels.jsonl"


def test_sides_share_no_group(labels):
    clips = read_clips(labels, Target("height", "voice"))
    assert not set(clips.groups[0]) & set(clips.groups[1])
    assert (len(clips.paths[0]), len(clips.paths[1])) == (24, 8)
    assert clips.chance == 0.5
    assert read_clips(labels, Target("height", "voice")).paths == clips.paths
    assert len(read_clips(labels, Target("height", "voice"), limit=10).paths[0]) == 10
    with pytest.raises(CoatError, match=r"No line of .* has 'mood'"):
        read_clips(labels, Target("mood"))
    with pytest.raises(CoatError, match="one kind"):
        read_clips(labels, Target("height", "kind"))


def test_probes_read_what_is_there_and_controls_do_not(labels, backbone):
    clips = read_clips(labels, Target("height", "voice"))
    readings = {each.where: each for each in read_model(ThinkingModel(backbone).eval(), clips)}
    assert list(readings) == ["audio", "think", "pre_generation"]
    assert readings["audio"].score.value == 1.0, "a random tower tells low from high"
    assert readings["audio"].score.clusters == len(set(clips.groups[1]))
    assert readings["audio"].shuffled.value < 1.0
    assert readings["audio"].rho is None


def test_confidence_is_held_against_success(labels, tmp_path):
    clips = read_clips(labels, Target("height", "voice"))
    confidence = np.linspace(0.1, 0.9, len(clips.paths[1]))
    found = Probed(ratio("accuracy", np.ones(8)).score(), np.array(clips.labels[1]), confidence)
    right = {str(path): float(place >= 4) for place, path in enumerate(clips.paths[1])}
    rho, p = correlate(found, clips, right)
    assert rho == pytest.approx(0.873, abs=0.01)  # ranks 1 to 8 against four zeros and four ones
    assert p < 0.01
    assert correlate(found, clips, {}) == (None, None)
    assert correlate(found, clips, dict.fromkeys(right, 1.0)) == (None, None)


def test_answers_are_found_by_what_the_clip_sounds_like(labels, tmp_path):
    rows = [
        {"id": str(i), "task": "height", "audios": [str(labels.parent / f"{i}.wav")],
         "messages": [{"role": "user", "content": "<audio>?"}, {"role": "assistant", "content": "low"}]}
        for i in range(4)
    ]  # fmt: skip
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    backend = Scripted(lambda request: "low" if request.name.endswith("0") else "high")
    run_tasks(backend, open_manifest_tasks(tmp_path / "test.jsonl"), tmp_path / "run")
    paths = [labels.parent / f"{i}.wav" for i in range(3)]
    assert successes(tmp_path / "run", "height", paths) == {
        str(paths[0]): 1.0, str(paths[1]): 0.0, str(paths[2]): 0.0,
    }  # fmt: skip


@pytest.mark.slow
def test_every_checkpoint_of_every_stage_is_read(labels, tiny_path, manifest, tmp_path):
    stage = {"steps": 4, "learning_rate": 0.01, "experts": {"audio_reconstruction": 1.0}}
    recipe = parse_recipe(
        {
            "backbone": {"family": "qwen2_audio", "path": str(tiny_path)},
            "heads": {"num_heads": 2},
            "stages": [{"name": "one", **stage}, {"name": "two", **stage}],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 2, "micro_batch_size": 2, "precision": "fp32", "save_steps": 2,
                         "keep_checkpoints": 9},
        }
    )  # fmt: skip
    run = train(recipe, tmp_path / "run", say=lambda _: None)
    assert [(stage, step) for stage, step, _ in checkpoints_of(run)] == [("one", 2), ("one", 4), ("two", 6), ("two", 8)]
    clips = [read_clips(labels, Target("height", "voice"))]
    lines = over_training(run, clips)
    assert [(line["step"], line["where"]) for line in lines] == [
        (step, where) for step in (2, 4, 6, 8) for where in ("think", "pre_generation")
    ]  # fmt: skip
    assert len({json.dumps(line["score"]) for line in lines}) > 1 or lines[0]["score"]["value"] == 1.0
    readings = read_model(ThinkingModel(load_backbone("qwen2_audio", str(tiny_path))).eval(), clips[0])
    page = write_probe_page({"tiny": readings}, {"tiny": lines}, {"height": 0.5}, tmp_path).read_text()
    assert page.count("data:image/png") == 2
    assert json.loads(plain_lines(readings).splitlines()[0])["target"] == "height"
    with pytest.raises(CoatError, match="keeps no checkpoints"):
        over_training(tmp_path, clips)


def test_a_users_file_of_labels_is_read_and_left_as_it_is(tmp_path):
    """Without a line break at its end, too; and what is no row is named."""
    from coat.probing.models import Target, read_clips

    rows = [{"audio": f"{i}.wav", "mood": "calm", "voice": i % 3} for i in range(12)]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    before = path.read_bytes()
    clips = read_clips(path, Target("mood", "voice"))
    assert sum(map(len, clips.labels)) == 12
    assert path.read_bytes() == before
    path.write_text(path.read_text() + "\nno JSON\n")
    with pytest.raises(CoatError, match="line 13"):
        read_clips(path, Target("mood", "voice"))
