"""The memory that five minutes of sound ask of an expert.

In a process of its own: what is asked for is the highest that a process has held. One block of attention of those that
have several, for blocks come one after another and hold nothing once they are through.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

import numpy as np
import torch
from torch import Tensor

from coat.experts.base import Expert
from coat.experts.speech import SpeechExpert

MINUTES = 5
PATIENCE_SECONDS = 1800


def waves(expert: Expert, *seconds: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise at an expert's rate, padded with silence: waveforms (N, samples) and their lengths (N,)."""
    rng = np.random.default_rng(seed)
    lengths = [round(s * expert.sampling_rate) for s in seconds]
    out = torch.zeros(len(seconds), max(lengths))
    for row, length in enumerate(lengths):
        out[row, :length] = torch.from_numpy(rng.normal(0, 0.1, length).astype(np.float32))
    return out, torch.tensor(lengths)


def memory_of_five_minutes(make: Callable[[], Expert]) -> int:
    """In bytes, beyond what a second takes.

    Args:
        make: Makes the expert; it is called in another process.
    """
    # Processes of a server that imports once: one that was forked from the tests would have held much already.
    context = multiprocessing.get_context("forkserver")
    maker = make.func if isinstance(make, partial) else make
    context.set_forkserver_preload(["coat.experts.encoder", "transformers.modeling_utils", maker.__module__])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(make, there))
    process.start()
    there.close()
    try:
        assert here.poll(PATIENCE_SECONDS), f"{MINUTES} minutes of sound took longer than {PATIENCE_SECONDS} s"
        return here.recv()
    finally:
        process.join(10)
        process.kill()


def _measure(make: Callable[[], Expert], there: Connection) -> None:
    torch.set_num_threads(1)
    expert = make()
    if isinstance(expert, SpeechExpert):
        expert.blocks = cast(torch.nn.ModuleList, expert.blocks)[:1]
    with torch.inference_mode():
        expert.features(*waves(expert, 1.0))  # what libraries take once
        waveforms, lengths = waves(expert, 60.0 * MINUTES)
        before = _highest()
        features, frames = expert.features(waveforms, lengths)
    assert abs(int(frames[0]) / expert.frame_rate - 60 * MINUTES) < 1
    assert torch.isfinite(features).all()
    there.send(_highest() - before)


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
