"""A second stage with all five experts: real basic-pitch, and light random checkpoints of the others."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence

from coat.checkpoints.building import build_experts, build_model
from coat.config.reading import parse_recipe
from coat.data.manifest import read_manifest
from coat.experts import weights
from coat.files import read_jsonl
from coat.testing.clips import RATE, assistant, user
from coat.thinking.batch import make_batch
from coat.training.run import train
from coat.training.targets import expert_targets
from tests.experts.references import read

pytestmark = pytest.mark.experts

FIVE = ("audio_reconstruction", "spidr", "panns", "emotion2vec", "basic_pitch")
STEPS = 30


@pytest.fixture(scope="module", autouse=True)
def checkpoints(tmp_path_factory):
    """Light checkpoints under their makers' names of weights, read as published ones are."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "experts_folder", lambda: folder / "cache")
        for name in ("spidr", "panns", "emotion2vec"):
            torch.save({"model": read(name)[1]}, folder / f"{name}.pt")
        yield folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Tones of many pitches and levels, some in noise: clips that experts can tell apart."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for index in range(12):
        rng = np.random.default_rng(index)
        time = np.arange(round((0.7 + 0.1 * (index % 4)) * RATE)) / RATE
        wave = 0.05 * 1.3**index * np.sin(2 * np.pi * 110 * 2 ** (index / 3) * time)
        wave = wave + (index % 3) * 0.05 * rng.normal(size=len(time))
        soundfile.write(folder / f"{index}.wav", wave.clip(-1, 1).astype(np.float32), RATE)
        messages = [user("<audio>What is said?"), assistant(["the red dog", "two boats"][index % 2])]
        rows.append({"id": f"t{index}", "audios": [f"{index}.wav"], "messages": messages})
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe(tiny_path, manifest, checkpoints, experts):
    return parse_recipe(
        {
            "backbone": {"path": str(tiny_path)},
            "heads": {"num_heads": 2, "ffn_ratio": 1.0},
            "stages": [
                {"name": "warm-up", "steps": 2, "learning_rate": 1e-3, "experts": {"audio_reconstruction": "auto"}},
                {"name": "experts", "steps": STEPS, "learning_rate": 1e-3, "experts": dict.fromkeys(experts, "auto")},
            ],
            "experts": {
                name: {"weights": str(checkpoints / f"{name}.pt")}
                for name in ("spidr", "panns", "emotion2vec")
                if name in experts
            },
            "data": {
                "train_dataset": str(manifest),
                "cache": str(checkpoints / "features"),
                "group_by_length": False,
            },  # so that every step sees every clip
            "training": {"batch_size": 12, "micro_batch_size": 12, "logging_steps": 1, "precision": "fp32", "seed": 1},
        }
    )


@pytest.fixture(scope="module")
def runs(tiny_path, manifest, checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("five")
    said = []
    four = [name for name in FIVE if name != "panns"]
    made = {
        "all": train(recipe(tiny_path, manifest, checkpoints, FIVE), folder / "all", say=said.append),
        "without panns": train(
            recipe(tiny_path, manifest, checkpoints, four),
            folder / "without",
            say=said.append,
        ),
    }
    return made, said


def lines(run):
    return [line for line in read_jsonl(run / "metrics.jsonl") if line["stage"] == "experts"]


def test_every_loss_falls(runs):
    """From where it first appears: reconstruction is learned in the first stage already."""
    metrics = read_jsonl(runs[0]["all"] / "metrics.jsonl")
    assert len(metrics) == STEPS + 2
    for name in ("ce", *FIVE):
        seen = [line[f"loss/{name}"] for line in metrics if f"loss/{name}" in line]
        assert sum(seen[-3:]) / 3 < sum(seen[:2]) / 2, name


def test_a_mean_predictor_costs_one_by_each_expert(runs, tiny_path, manifest, checkpoints):
    """Unit losses: each of the five, predicted by its mean over all clips, costs 1 whatever its scale is."""
    asked = recipe(tiny_path, manifest, checkpoints, FIVE)
    model = build_model(asked)
    experts = build_experts(asked, model)
    calibrated = json.loads((runs[0]["all"] / "run.json").read_text())["calibrated_weights"]
    means = load_file(runs[0]["all"] / "mean_features.safetensors")
    assert set(calibrated) == set(means) == set(FIVE)
    heard = [row.conversation(answered=True) for row in read_manifest(str(manifest)) if row.audios]
    batch = make_batch(model.builder, heard, live_rates=sorted({e.sampling_rate for e in experts.values()}))
    audio = model.audio_embeddings(batch)
    lengths = torch.tensor([len(row) for row in audio])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    for name, expert in experts.items():
        target = expert_targets(expert, batch, pad_sequence(audio, batch_first=True), lengths, model.builder).float()
        cost = expert.loss(means[name].expand_as(target), target, mask)[mask].mean()
        assert calibrated[name] * float(cost) == pytest.approx(1, rel=1e-3), name


def test_leaving_one_out_leaves_the_others_as_they_are(runs, tiny_path, manifest, checkpoints):
    """Weights and targets of the rest are the same; the one that is gone is nowhere."""
    from coat.experts.base import Expert

    both, without = (lines(runs[0][key])[0] for key in ("all", "without panns"))
    assert "loss/panns" in both
    assert "loss/panns" not in without
    for name in ("spidr", "emotion2vec", "basic_pitch"):
        assert without[f"loss/{name}"] == pytest.approx(both[f"loss/{name}"], rel=0.05), name
    prints = []
    for names in (FIVE, [name for name in FIVE if name != "panns"]):
        asked = recipe(tiny_path, manifest, checkpoints, names)
        experts: dict[str, Expert] = build_experts(asked, build_model(asked))
        prints.append({name: expert.fingerprint() for name, expert in experts.items() if name != "panns"})
    assert prints[0] == prints[1]


def test_a_licence_that_binds_is_said(runs):
    assert any("spidr" in line and "not for commercial use" in line for line in runs[1])
