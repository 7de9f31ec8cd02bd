"""Why pitch is taught through features: taught the sparse posteriorgram itself, a head learns silence (§3.3.2)."""

import numpy as np
import pytest
import torch

from coat.experts.basic_pitch import NUM_BINS, SAMPLING_RATE, BasicPitch
from coat.heads import make_head
from coat.losses import focal_bce, masked_sum

pytestmark = pytest.mark.experts

STEPS, CLIPS, BATCH, STATE = 240, 96, 16, 128


@pytest.fixture(scope="module")
def expert():
    return BasicPitch()


@pytest.fixture(scope="module")
def lesson(expert):
    """States that hold the pitch, ``(clips, frames, d)``, and features: one note a clip, most frames silent."""
    rng = np.random.default_rng(0)
    time = np.arange(round(0.35 * SAMPLING_RATE)) / SAMPLING_RATE
    waves = rng.normal(0, 1e-3, (CLIPS, round(1.6 * SAMPLING_RATE)))
    for wave in waves:
        base = 440 * 2 ** ((rng.integers(40, 88) - 69) / 12)
        note = sum(np.sin(2 * np.pi * base * h * time) * np.exp(-time * h) / h for h in range(1, 7))
        start = rng.integers(0, len(wave) - len(time))
        wave[start : start + len(time)] += 0.3 * note
    lengths = torch.full((CLIPS,), waves.shape[1])
    with torch.inference_mode():
        features, _ = expert.features(torch.from_numpy(waves.astype(np.float32)), lengths)
    features = features[:, ::5].clone()
    mixing = torch.randn(features.shape[-1], STATE, generator=torch.Generator().manual_seed(0))
    states = (features - features.mean((0, 1))) @ mixing
    return states / states.std(), features


def teach(lesson, frame_loss, out_dim):
    """Train a randomly started head for STEPS on half of the clips; what it makes of the other half."""
    states, features = lesson
    torch.manual_seed(0)
    head = make_head("transformer", STATE, out_dim, num_heads=2, ffn_ratio=2.0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    mask = torch.ones(BATCH, states.shape[1], dtype=torch.bool)
    for step in range(STEPS):
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % (CLIPS // 2)
        loss = masked_sum(frame_loss(head(states[rows], mask), features[rows], mask), mask) / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held = slice(CLIPS // 2, None)
    with torch.no_grad():
        return head(states[held], torch.ones(states[held].shape[:2], dtype=torch.bool))


def test_plain_bce_on_the_posteriorgram_is_all_zero_and_the_coupled_loss_is_not(expert, lesson):
    _, features = lesson
    wanted = expert.posteriorgram(features[CLIPS // 2 :]) > 0.5
    assert 0 < wanted.float().mean() < 0.01

    def plain(prediction, target, mask):
        return focal_bce(prediction, expert.posteriorgram(target), gamma=0.0).mean(-1)

    alone = teach(lesson, plain, NUM_BINS).sigmoid()
    assert float(alone.max()) < 0.5, "plain BCE learned notes after all"

    coupled = expert.posteriorgram(teach(lesson, expert.loss, expert.feature_dim)) > 0.5
    assert float((coupled & wanted).sum() / wanted.sum()) > 0.15
    assert float((coupled & wanted).sum() / coupled.sum()) > 0.3
