import pytest
import torch

from coat.training.monitors import collapse_metrics

MASK = torch.ones(1, 64, dtype=torch.bool)


def test_collapsed_states_are_seen():
    same = torch.randn(8).expand(1, 64, 8)
    metrics = collapse_metrics(same, MASK)
    assert metrics["think/mean_cosine"] == pytest.approx(1.0, abs=1e-4)
    line = torch.linspace(-1, 1, 64)[None, :, None] * torch.randn(8)
    assert collapse_metrics(line, MASK)["think/effective_rank"] == pytest.approx(1.0, abs=0.05)


def test_spread_states_have_full_rank():
    metrics = collapse_metrics(torch.eye(8).repeat(8, 1)[None], MASK)
    assert metrics["think/effective_rank"] == pytest.approx(7.0, abs=0.1)  # centring takes one direction
    assert metrics["think/mean_cosine"] < 0.2


def test_padding_is_left_out():
    states = torch.randn(1, 64, 8)
    mask = MASK.clone()
    mask[0, 32:] = False
    assert collapse_metrics(states, mask) == collapse_metrics(states[:, :32], mask[:, :32])
