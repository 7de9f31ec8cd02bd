import numpy as np
import pytest
import torch

from coat.errors import CoatError
from coat.experts import resemblyzer
from coat.experts.resemblyzer import Resemblyzer

RATE = 16_000


@pytest.fixture
def expert():
    return Resemblyzer(weights="random", sizes="tiny").freeze()


class Mean(torch.nn.Module):
    """The mean spectrum of a window in place of what recurrence makes of it."""

    def forward(self, windows):
        return None, (windows.mean(1)[None], None)


@pytest.mark.parametrize("second", [1.0, 1.6, 2.13])
def test_a_window_is_around_its_time(expert, second):
    """The windows that hold a burst are those within 0.8 s of it, before and behind alike."""
    expert.lstm, expert.linear = Mean(), torch.nn.Identity()
    quiet = torch.from_numpy(np.random.default_rng(0).normal(0, 0.05, 3 * RATE).astype(np.float32))
    loud = quiet.clone()
    start = round((second - 0.01) * RATE)
    loud[start : start + 320] += torch.sin(torch.arange(320) * 0.4)
    lengths = torch.tensor([3 * RATE] * 2)
    with torch.inference_mode():
        made, frames = expert.features(torch.stack([quiet, loud]), lengths)
    assert frames.tolist() == [13, 13]
    times = expert.first_frame_seconds + torch.arange(13) / expert.frame_rate
    holds = (times - second).abs() < 0.8
    moved = (made[1] - made[0]).norm(dim=-1) > 0.01
    assert torch.equal(moved, holds)


def test_quiet_clips_are_raised_and_loud_ones_left(expert):
    """The makers raise what is below -30 dB of full scale: how loud a voice is says nothing of whose it is."""
    wave = torch.from_numpy(np.random.default_rng(1).normal(0, 1, RATE).astype(np.float32))
    lengths = torch.tensor([RATE] * 3)
    with torch.inference_mode():
        made, _ = expert.features(torch.stack([wave * 1e-2, wave * 1e-3, wave * 0.5]), lengths)
    torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=0)
    assert float((made[0] - made[2]).abs().max()) > 1e-3
    norms = made.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_without_the_package_the_command_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("coat.experts.weights.experts_folder", lambda: tmp_path)
    monkeypatch.setattr(resemblyzer, "PACKAGE", "no_such_package")
    with pytest.raises(CoatError, match="which is not installed") as caught:
        Resemblyzer()
    assert "pip install --no-deps resemblyzer==0.1.4" in caught.value.remedy
