"""A checkpoint of a published model's sizes, with random weights, through the whole way of a user: on one GPU of 40 GB.

    python benchmarks/true_size.py                        # Qwen2-Audio-7B's sizes in bf16
    python benchmarks/true_size.py --family qwen2_5_omni --steps 20
    python benchmarks/true_size.py --tiny                 # the same way on any machine

Writes the checkpoint, trains the recipe of the paper with all five experts live, loads the run, answers, exports
and answers from the export. Times, peak memory, and what `coat train --dry-run` had foretold of it.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from coat.audio import load_audio
from coat.benchmark.latency import now
from coat.checkpoints import load_model
from coat.config.reading import parse_recipe
from coat.config.recipe import Recipe
from coat.data.conversation import Conversation
from coat.export.checkpoint import export
from coat.files import write_jsonl
from coat.generation import generate
from coat.testing.checkpoints import REAL_SIZES, random_backbone
from coat.training.cost import Cost, Row, estimate
from coat.training.progress import MetricsFile
from coat.training.run import train
from limits import device_name, measure_limits

ROWS = 64
RESPONSE = "the small red dog finds two boats by the river and the piano plays a low note"


def main() -> None:
    """Go the way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(REAL_SIZES), default="qwen2_audio")
    parser.add_argument("--steps", type=int, default=12, help="of each of the two stages")
    parser.add_argument("--rows", type=int, default=8, help="in one forward pass; a step has twice as many")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip")
    parser.add_argument("--no-export", action="store_true", help="end with the run's answer")
    parser.add_argument("--tiny", action="store_true", help="a tiny checkpoint, for a machine without a GPU")
    args = parser.parse_args()
    print(f"{device_name()}; {args.family}, {'tiny' if args.tiny else 'true sizes, random weights'}; "
          f"clips of {args.seconds:g} s, {args.rows} in a pass\n\n| what | measured |\n| --- | --- |")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        walk(Path(folder), args)


def told(name: str, value: str) -> None:
    """A line of the table, as soon as it is known."""
    print(f"| {name} | {value} |", flush=True)


def walk(folder: Path, args: argparse.Namespace) -> None:
    """Every step of it, with its time."""

    def timed(name: str, work: Callable[[], Any]) -> Any:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        began = now()
        result = work()
        memory = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_available() else ""
        told(name, f"{now() - began:.1f} s{memory}")
        return result

    base = folder / "base"
    timed("write the checkpoint", lambda: write_checkpoint(args.family, base, args.tiny))
    size = sum(path.stat().st_size for path in base.glob("*.safetensors")) / 1e9
    told("its size", f"{size:.2f} GB")
    clip = write_rows(folder, args.seconds)
    recipe = recipe_of(args, base, folder / "train.jsonl")
    row = Row(args.seconds, response_tokens=response_tokens(base))
    cost = timed("estimate (coat train --dry-run)", lambda: estimate(recipe, row))
    gc.collect()
    with step_ends() as ends:
        run = timed("train, from start to end", lambda: train(recipe, folder / "run", say=lambda _: None))
    foretold = sum(cost.memory.values()) / 2**30
    told("memory foretold", f"{foretold:.1f} GiB: {parts(cost.memory)}")
    tell_steps(ends, recipe, cost)
    gc.collect()
    model = timed("load the run", lambda: load_model(run))
    question = Conversation([{"role": "user", "content": "<audio>What is said?"}], [load_audio(clip)], "question")
    timed("first answer, 32 tokens", lambda: generate(model, [question], max_new_tokens=32, min_new_tokens=32))
    answer = timed("answer again", lambda: generate(model, [question], max_new_tokens=32, min_new_tokens=32))
    del model
    gc.collect()
    if args.no_export:
        return
    timed("export, with the check of what was written", lambda: export(run, folder / "export", say=lambda _: None))
    gc.collect()
    model = timed("load the export", lambda: load_model(folder / "export"))
    again = timed("answer from the export", lambda: generate(model, [question], max_new_tokens=32, min_new_tokens=32))
    told("answers of run and export", "equal" if answer == again else "differ, by the merge's rounding in bf16")


def write_checkpoint(family: str, folder: Path, tiny: bool) -> None:
    """In bf16, made where the accelerator is."""
    if tiny:
        random_backbone(family, folder)
        return
    random_backbone(family, folder, sizes=REAL_SIZES[family], dtype=torch.bfloat16, device="cuda")
    gc.collect()
    torch.cuda.empty_cache()


def write_rows(folder: Path, seconds: float) -> Path:
    """Noise and what is said in it; gives one of the clips."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(ROWS):
        soundfile.write(folder / f"{index}.flac", rng.normal(0, 0.1, round(seconds * 16_000)), 16_000)
        messages = [
            {"role": "user", "content": "<audio>What is said?"},
            {"role": "assistant", "content": f"{index} {RESPONSE}"},
        ]
        rows.append({"id": str(index), "audios": [f"{index}.flac"], "messages": messages})
    write_jsonl(folder / "train.jsonl", rows)
    return folder / "0.flac"


def recipe_of(args: argparse.Namespace, base: Path, rows: Path) -> Recipe:
    """The paper's, with a few steps and experts of random weights."""
    experts: dict[str, Any] = dict.fromkeys(("spidr", "panns", "emotion2vec", "basic_pitch"), "auto")
    first = {"audio_reconstruction": "auto"}
    stage = {"steps": args.steps, "learning_rate": 1e-4}
    return parse_recipe({
        "backbone": {"family": args.family, "path": str(base)},
        "lora": {"rank": 16, "alpha": 32},
        "heads": {"kind": "transformer", "num_heads": 1 if args.tiny else 8, "ffn_ratio": 4.0},
        "stages": [{"name": "warm-up", "experts": first, **stage},
                   {"name": "experts", "experts": first | experts, **stage}],
        "experts": {name: {"weights": "random"} for name in ("spidr", "panns", "emotion2vec")},
        "data": {"train_dataset": str(rows)},
        "training": {"batch_size": 2 * args.rows, "micro_batch_size": args.rows,
                     "gradient_checkpointing": not args.tiny, "logging_steps": 1, "save_steps": 1000,
                     "calibration_clips": 8, "workers": 2},
    })  # fmt: skip


def response_tokens(base: Path) -> int:
    """Tokens of the response; the tiny tokenizer cuts finer than the published ones."""
    from transformers import AutoTokenizer

    return len(AutoTokenizer.from_pretrained(base)(f"00 {RESPONSE}")["input_ids"]) + 2


@contextmanager
def step_ends() -> Iterator[dict[str, list[float]]]:
    """When each step of each stage was logged."""
    ends: dict[str, list[float]] = defaultdict(list)
    write = MetricsFile.on_log

    def noted(self: MetricsFile, *args: Any, **options: Any) -> None:
        write(self, *args, **options)
        ends[self.stage].append(now())

    MetricsFile.on_log = noted  # type: ignore[method-assign]
    yield ends
    MetricsFile.on_log = write  # type: ignore[method-assign]


def tell_steps(ends: dict[str, list[float]], recipe: Recipe, cost: Cost) -> None:
    """Seconds of a step once warm, and the share of the device's rate that it reaches."""
    on_gpu = torch.cuda.is_available()
    limits = measure_limits("cuda" if on_gpu else "cpu", torch.bfloat16 if on_gpu else torch.float32)
    told("matrix product, peak", f"{limits.flops / 1e12:.1f} TFLOP/s")
    for stage in cost.stages:
        seconds = float(np.median(np.diff(ends[stage.name])[1:]))
        flops = stage.flops / stage.rows * recipe.training.batch_size
        share = flops / seconds / limits.flops
        told(f"a step of {stage.name}", f"{seconds:.2f} s, {flops / 1e12:.3g} TFLOP, {share:.0%} of the peak")


def parts(memory: Mapping[str, float]) -> str:
    """Bytes by part, as text."""
    return ", ".join(f"{name} {size / 2**30:.1f}" for name, size in memory.items() if size)


if __name__ == "__main__":
    main()
