"""One expert, looked at: does it work here, what does it hear in a clip."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from coat.audio import Clip
from coat.experts.base import Expert, Picture


@dataclass(frozen=True)
class Check:
    """Findings of a check of an expert.

    Attributes:
        parameters: Number of its parameters.
        frames, size: Frames and e_k of the features of two seconds.
        batch_difference: Largest change of a clip's features when it is batched with a longer one.
        times_real_time: Seconds of audio that it takes a second.
    """

    parameters: int
    frames: int
    size: int
    batch_difference: float
    times_real_time: float


@torch.inference_mode()
def check_expert(expert: Expert, *, batch: int = 4, seconds: float = 10.0) -> Check:
    """Run an expert on seeded noise and a sweep.

    Args:
        expert: One that reads waveforms.
        batch: Clips in the timed batch.
        seconds: Seconds of each clip.
    """
    rate = expert.sampling_rate
    generator = torch.Generator().manual_seed(0)
    short, long = round(2 * rate), round(3.1 * rate)
    both = torch.zeros(2, long)
    both[0, :short] = torch.randn(short, generator=generator) * 0.1
    both[1] = torch.randn(long, generator=generator) * 0.1
    alone, frames = expert.features(both[:1, :short], torch.tensor([short]))
    together, _ = expert.features(both, torch.tensor([short, long]))
    count = int(frames[0])
    waveforms = torch.randn(batch, round(seconds * rate), generator=generator) * 0.1
    lengths = torch.full((batch,), waveforms.shape[1])
    began = time.perf_counter()
    expert.features(waveforms, lengths)
    spent = time.perf_counter() - began
    return Check(
        parameters=sum(p.numel() for p in expert.parameters()),
        frames=count,
        size=alone.shape[-1],
        batch_difference=float((together[0, :count] - alone[0]).abs().max()),
        times_real_time=batch * seconds / spent,
    )


@torch.inference_mode()
def heard_by(expert: Expert, clip: Clip) -> Picture:
    """A picture of what an expert that reads waveforms hears in a clip."""
    waveform = torch.from_numpy(clip.at(expert.sampling_rate))
    features, frames = expert.features(waveform[None], torch.tensor([len(waveform)]))
    return expert.visualise(features[0, : int(frames[0])])


def show_expert(expert: Expert, clip: Clip, path: Path) -> Path:
    """Write a picture of what an expert hears in a clip.

    Args:
        expert: One that reads waveforms.
        clip: The clip.
        path: Path of the PNG.
    """
    from coat.reports.plots import plot_picture

    figure = plot_picture(heard_by(expert, clip), clip.waveform, clip.seconds)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", bbox_inches="tight", facecolor="white")
    partial.replace(path)
    return path
