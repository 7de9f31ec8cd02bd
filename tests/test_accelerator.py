"""What an accelerator computes is what the processor computes: every family and expert; skipped where there is none.

Shapes in half precision differ from one kernel to the next, so numbers are compared in float32 without TF32, and
half precision against itself, batched against alone.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from coat.backbones import REGISTRY
from coat.checkpoints import load_model
from coat.experts import make_expert
from coat.export.checkpoint import export
from coat.generation import generate
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import conversation
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from coat.training.run import train
from tests.training.test_run import close, losses, recipe

pytestmark = pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator here")

FAMILIES = sorted(REGISTRY)


@pytest.fixture(autouse=True)
def _exact():
    """Products and convolutions in float32 itself; PyTorch allows cuDNN's convolutions TF32 unless told otherwise."""
    kept = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(kept[0])
    torch.backends.cudnn.allow_tf32 = kept[1]


@pytest.fixture(params=FAMILIES)
def model(request):
    return ThinkingModel(random_backbone(request.param)).eval()


@torch.inference_mode()
def test_states_and_logits_are_those_of_the_processor(model):
    device = torch.accelerator.current_accelerator()
    batch = make_batch(model.builder, [conversation(1.3), conversation(2.0, seed=3)])
    expected = model(batch)
    got = model.to(device)(batch.to(device))
    torch.testing.assert_close(got.think_hidden.cpu(), expected.think_hidden, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got.response_logits.cpu(), expected.response_logits, rtol=1e-3, atol=1e-4)


def test_answers_in_batches_are_the_answers_alone_in_half_precision(model):
    model.to(torch.accelerator.current_accelerator(), torch.bfloat16)
    asked = [conversation(s, answer=None, seed=i) for i, s in enumerate((0.5, 1.7, 3.1))]
    together = generate(model, asked, max_new_tokens=4)
    assert len(together) == 3
    alone = [generate(model, [each], max_new_tokens=1)[0] for each in asked]
    firsts = generate(model, asked, max_new_tokens=1)
    assert sum(a == b for a, b in zip(alone, firsts, strict=True)) >= 2  # near ties may fall either way


@pytest.mark.parametrize("name", ["spidr", "panns", "emotion2vec", "basic_pitch"])
def test_experts_hear_there_what_they_hear_here(name, backbone):
    options = {} if name == "basic_pitch" else {"weights": "random"}
    torch.manual_seed(0)
    expert = make_expert(name, options, hidden_size=64, audio_spec=backbone.audio_spec).eval()
    waves = 0.1 * torch.randn(2, 2 * expert.sampling_rate, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([2 * expert.sampling_rate, expert.sampling_rate])
    device = torch.accelerator.current_accelerator()
    with torch.inference_mode():
        here, counts = expert.features(waves, lengths)
        there, there_counts = expert.to(device).features(waves.to(device), lengths.to(device))
    assert counts.tolist() == there_counts.tolist()
    for row, count in enumerate(counts.tolist()):
        torch.testing.assert_close(there[row, :count].cpu(), here[row, :count], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-3), ("bf16", 5e-2)])
def test_training_gives_the_losses_of_the_processor(tiny_path, manifest, tmp_path, precision, tolerance):
    asked = recipe(tiny_path, manifest, precision=precision)
    train(asked, tmp_path / "there", say=lambda _: None)
    (tmp_path / "recipe.yaml").write_text(asked.dump())
    command = [sys.executable, "-m", "coat", "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "here")]
    nothing = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "ZE_AFFINITY_MASK": ""}
    subprocess.run(command, env=nothing, check=True, capture_output=True, timeout=300)
    close(losses(tmp_path / "there"), losses(tmp_path / "here"), tolerance)


def test_a_run_is_loaded_answered_evaluated_and_exported_there(tiny_path, manifest, tmp_path):
    run = train(recipe(tiny_path, manifest), tmp_path / "run", say=lambda _: None)
    loaded = load_model(run, dtype="auto", device_map="auto", heads=True)
    assert loaded.backbone.device.type == torch.accelerator.current_accelerator().type
    assert isinstance(generate(loaded, [conversation(1.0, answer=None)], max_new_tokens=4)[0], str)
    export(run, tmp_path / "export", say=lambda _: None)
    again = load_model(tmp_path / "export")
    assert again.backbone.device.type == torch.accelerator.current_accelerator().type
    assert isinstance(generate(again, [conversation(1.0, answer=None)], max_new_tokens=4)[0], str)
