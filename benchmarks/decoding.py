"""Cost of decoding to the end instead of trusting headers: beside libsndfile alone, by file type, in turns.

python benchmarks/decoding.py --seconds 10
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from coat.audio import load_audio, measure_audio

KINDS = ("wav", "flac", "ogg", "mp3", "opus", "m4a", "webm")


def plainly(path: Path) -> np.ndarray:
    """As libsndfile reads it."""
    samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return samples.mean(axis=1)


def timed(job: Callable[[Path], object], path: Path) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    job(path)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=60)
    asked = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        raise SystemExit("ffmpeg writes the files: install it first.")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "a.wav"
        noise = np.convolve(rng.normal(0, 0.3, round(asked.seconds * 16_000)), np.ones(8) / 8, mode="same")
        soundfile.write(source, noise, 16_000, subtype="PCM_16")
        print("| kind | libsndfile, ms | ours, ms | ours / libsndfile | length alone, ms | seconds of audio a second |")
        print("| --- | --- | --- | --- | --- | --- |")
        for kind in KINDS:
            path = source.with_suffix(f".{kind}")
            if kind != "wav":
                subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", source, path], check=True)
            theirs, ours, lengths = [], [], []
            for _ in range(asked.repeats):  # in turns, for the machine is not ours alone
                try:
                    theirs.append(timed(plainly, path))
                except soundfile.LibsndfileError:
                    theirs.append(float("nan"))
                ours.append(timed(load_audio, path))
                lengths.append(timed(measure_audio, path))
            a, b, c = (statistics.median(each) for each in (theirs, ours, lengths))
            known = a == a
            print(f"| {kind} | {f'{a:.2f}' if known else 'refuses'} | {b:.2f} | {f'{b / a:.2f}' if known else ''} "
                  f"| {c:.2f} | {asked.seconds * 1000 / b:,.0f} s |")  # fmt: skip


if __name__ == "__main__":
    main()
