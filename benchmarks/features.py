"""Expert features live against read from the cache, and what they take on disk.

    python benchmarks/features.py                     # published sizes, random weights
    python benchmarks/features.py --clips 16 --seconds 8 --sizes tiny

Live is what a training step computes; cached is what its data workers read, one process here, and the limit of that is
reading and unpacking the file as a whole. Clips are synthetic notes and noise, so sizes on disk are a hint; features of
trained experts may compress otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from coat.audio import Clip
from coat.audio_batch import AudioBatch
from coat.experts import make_expert
from coat.features.cache import ExpertSource, FeatureCache
from coat.features.store import FeatureJob
from coat.testing.checkpoints import random_backbone

NAMES = ("spidr", "panns", "emotion2vec", "basic_pitch")


def main() -> None:
    """Compute, write, read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rate", type=int, default=44_100, help="of the clips; experts resample")
    parser.add_argument("--sizes", choices=("official", "tiny"), default="official")
    args = parser.parse_args()
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    clips = [note(index, args.seconds, args.rate) for index in range(args.clips)]
    print(f"{device}, {torch.get_num_threads()} threads; {args.clips} clips of {args.seconds:g} s at {args.rate} Hz\n")
    print(
        "| expert | live, ms a clip | of it resampling | read, ms a clip | live / read | read / limit | kB a second | "
        "of raw |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        random_backbone("qwen2_audio", Path(place) / "backbone")
        backbone = FeatureJob(place, "qwen2_audio", str(Path(place) / "backbone")).open().backbone
        for name in NAMES:
            options = {} if name == "basic_pitch" else {"weights": "random", "sizes": args.sizes}
            expert = make_expert(name, options, hidden_size=1, audio_spec=backbone.audio_spec)
            print(row(ExpertSource(expert).to(device), clips, backbone, Path(place), device), flush=True)


def note(index: int, seconds: float, rate: int) -> Clip:
    """A decaying tone in some noise."""
    time_axis = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * 110 * 2 ** (index / 3) * time_axis) * np.exp(-(time_axis % 1.0))
    return Clip((wave + 0.01 * np.random.default_rng(index).normal(size=len(wave))).astype(np.float32), rate)


def row(source: ExpertSource, clips: list[Clip], backbone: object, place: Path, device: torch.device) -> str:
    """One line of the table."""
    counts = [backbone.num_audio_tokens(len(clip.at(16_000))) for clip in clips]
    num_tokens = torch.tensor(counts, device=device)

    def live() -> list[torch.Tensor]:
        audio_batch = AudioBatch.of(clips, source.rates).to(device)
        return [each.cpu() for each in source.compute(clips, audio_batch, num_tokens, backbone.audio_spec)]

    def resampled() -> torch.Tensor:
        return AudioBatch.of(clips, source.rates).to(device).at(source.rates[0])[0].cpu()

    features, computing, resampling = live(), median(live), median(resampled)
    cache = FeatureCache(place, source, backbone.audio_spec)
    path = cache.write({c.content_key: each for c, each in zip(clips, features, strict=True)})
    reading = median(lambda: [cache.get(clip, count) for clip, count in zip(clips, counts, strict=True)])
    limit = median(lambda: pq.read_table(path, use_threads=False))
    raw = sum(each.numel() for each in features) * source.dtype.itemsize
    size, seconds, n = path.stat().st_size, sum(clip.seconds for clip in clips), len(clips)
    return (
        f"| {source.name} | {1000 * computing / n:.0f} | {resampling / computing:.1%} | {1000 * reading / n:.1f} | "
        f"{computing / reading:.0f} | {reading / limit:.1f} | {size / seconds / 1000:.0f} | {size / raw:.2f} |"
    )


def median(work: object, repeats: int = 3) -> float:
    """Seconds of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]


if __name__ == "__main__":
    main()
