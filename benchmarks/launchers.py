"""The shipped configurations of accelerate on the devices that are here: same losses, seconds a step, memory.

    python benchmarks/launchers.py                 # every configuration, one process a GPU
    python benchmarks/launchers.py --processes 2

DeepSpeed is left out where it is not installed. Without a GPU, accelerate runs DDP alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from coat.benchmark.latency import now
from coat.config.reading import parse_recipe
from coat.files import read_jsonl, write_jsonl
from coat.testing.checkpoints import Sizes, random_backbone
from limits import device_name

CONFIGURATIONS = Path(__file__).parents[1] / "recipes" / "accelerate"
MEDIUM = Sizes(1024, 2816, 12, 8, 8, None, 512, 6, 8)


def main() -> None:
    """Run each and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=max(1, torch.cuda.device_count()))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    print(f"{device_name()}; {args.processes} processes, {args.steps} steps in each of two stages\n")
    print("| launched by | last loss | seconds in all |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_recipe(Path(folder), args)
        for name, launcher in ways(args.processes):
            began = now()
            out = Path(folder) / name.replace(" ", "-")
            command = [*launcher, "-m", "coat", "train", str(recipe), "--out", str(out)]
            ran = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
            if ran.returncode:
                print(f"| {name} | failed: {ran.stderr.strip().splitlines()[-1][:200]} | |", flush=True)
                print(ran.stderr[-4000:], file=sys.stderr)
                continue
            loss = read_jsonl(out / "metrics.jsonl")[-1]["loss"]
            print(f"| {name} | {loss:.4f} | {now() - began:.1f} |", flush=True)


def ways(processes: int) -> list[tuple[str, list[str]]]:
    """Launchers that can run here: plain Python first, as the reference."""
    found = [("python", [sys.executable])]
    for path in sorted(CONFIGURATIONS.glob("*.yaml")):
        needs = "deepspeed" if path.stem.startswith("zero") else None
        if needs and importlib.util.find_spec(needs) is None:
            continue
        if path.stem.startswith("fsdp") and not torch.cuda.is_available():
            continue
        options = ["--config_file", str(path), "--num_processes", str(processes), "--main_process_port", "0"]
        found.append((path.stem, [sys.executable, "-m", "accelerate.commands.launch", *options]))
    return found


def write_recipe(folder: Path, args: argparse.Namespace) -> Path:
    """A recipe with its checkpoint and rows."""
    random_backbone("qwen2_audio", folder / "base", sizes=None if args.tiny else MEDIUM)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(32):
        soundfile.write(folder / f"{index}.flac", rng.normal(0, 0.1, 32_000), 16_000)
        messages = [
            {"role": "user", "content": "<audio>What is said?"},
            {"role": "assistant", "content": f"the small red dog finds {index} boats"},
        ]
        rows.append({"id": str(index), "audios": [f"{index}.flac"], "messages": messages})
    write_jsonl(folder / "train.jsonl", rows)
    stage = {"steps": args.steps, "learning_rate": 1e-3}
    recipe = parse_recipe({
        "backbone": {"family": "qwen2_audio", "path": str(folder / "base")},
        "lora": {"rank": 8, "alpha": 16},
        "heads": {"num_heads": 1},
        "stages": [
            {"name": "one", "experts": {"audio_reconstruction": 1.0}, **stage},
            {"name": "two", "experts": {"audio_reconstruction": 1.0, "basic_pitch": 1.0}, **stage},
        ],
        "data": {"train_dataset": str(folder / "train.jsonl")},
        "training": {"batch_size": 8, "micro_batch_size": 4, "logging_steps": 1, "precision": "fp32"},
    })  # fmt: skip
    (folder / "recipe.yaml").write_text(recipe.dump())
    return folder / "recipe.yaml"


if __name__ == "__main__":
    main()
