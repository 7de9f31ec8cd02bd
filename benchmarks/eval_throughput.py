"""Questions a second: `coat eval`'s runner against lmms-eval's own Qwen2-Audio loop.

    sh scripts/lmms_env.sh .venv-lmms && .venv-lmms/bin/python benchmarks/eval_throughput.py

Both in one process, in turns, with the same tiny checkpoint of random weights (the real classes), the same questions
of MMAU's form about the same clips of 0.5 to 12 s, greedy, cut at the same number of tokens, the same batch size.
Theirs is its own class, `lmms_eval.models.simple.qwen2_audio`, given its requests by its own task machinery; it asks
for "cuda" by name, so on a machine without one that word is read as "cpu" for it. Ours is timed from files to kept
answers: reading, measuring, hashing and writing included. The limit is the time that our FLOPs, counted in a run of its
own, would take at the rate of this machine's fastest matrix product.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
import transformers

from coat.api.model import CoatModel
from coat.evaluation.backends.transformers import TransformersBackend
from coat.evaluation.run import EvalSettings, run_tasks
from coat.evaluation.sources import open_task
from coat.evaluation.task import load_task
from coat.testing.checkpoints import Sizes, random_backbone
from limits import counting, measure_limits

# The tiny checkpoint that tests use, and one whose tower and decoder are in the proportion of the real ones.
SIZES = {"tiny": Sizes(), "proportionate": Sizes(512, 1536, 8, 8, 8, None, 256, 4, 4)}
RATE = 16_000


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[1, 8, 16])
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    args = parser.parse_args()
    limits = measure_limits("cuda" if torch.cuda.is_available() else "cpu", torch.float32)
    print(f"{limits}; {args.size} model; {args.questions} questions\n")
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        random_backbone("qwen2_audio", folder / "model", sizes=SIZES[args.size])
        rows = write_data(folder, args.questions)
        columns = ("batch", "lmms-eval, questions/s", "coat, baseline", "ratio", "measured / limit",
                   "coat, with the block", "ratio", "measured / limit")  # fmt: skip
        print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
        for size in args.batch_sizes:
            theirs = Theirs(folder / "model", rows, size, args.new_tokens)
            ours = {think: Ours(folder, think, size, args.new_tokens) for think in (False, True)}
            times: dict[str, list[float]] = {}
            for turn in range(args.turns + 1):
                for name, work in (("theirs", theirs), ("plain", ours[False]), ("block", ours[True])):
                    seconds = work.run(turn)
                    if turn:  # the first warms up
                        times.setdefault(name, []).append(seconds)
            median = {name: float(np.median(values)) for name, values in times.items()}
            cells = [str(size), f"{args.questions / median['theirs']:.2f}"]
            for name, think in (("plain", False), ("block", True)):
                with counting() as counter:
                    ours[think].run(args.turns + 1)
                least = limits.seconds(counter.get_total_flops())
                cells += [f"{args.questions / median[name]:.2f}", f"{median['theirs'] / median[name]:.2f}",
                          f"{median[name] / least:.2f}"]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


def write_data(folder: Path, count: int) -> list[dict[str, Any]]:
    """Questions of MMAU's form: Parquet for ours, decoded rows for theirs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    stored, decoded = [], []
    for index in range(count):
        # As benchmarks are: most clips are short.
        wave = rng.normal(0, 0.1, round(float(rng.gamma(2.0, 2.0) + 0.5) * RATE)).astype(np.float32)[: 12 * RATE]
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, RATE, format="WAV")
        row = {"id": f"q{index}", "question": f"Which sound is heard, and how often? {index}",
               "choices": json.dumps(["Dog barking", "A car horn", "Rain", "Piano"]), "answer": "Rain", "task": "sound",
               "category": "x", "difficulty": "easy", "dataset": "x"}  # fmt: skip
        stored.append({**row, "audio": {"bytes": buffer.getvalue(), "path": f"{index}.wav"}})
        decoded.append({**row, "audio": {"array": wave, "sampling_rate": RATE}})
    (folder / "data" / "mmau").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(stored), folder / "data" / "mmau" / "test.parquet")
    return decoded


class Theirs:
    """lmms-eval's own class on its own requests."""

    def __init__(self, model: Path, rows: list[dict[str, Any]], batch_size: int, new_tokens: int) -> None:
        from lmms_eval.models.simple import qwen2_audio
        from lmms_eval.tasks.mmau import utils

        if not torch.cuda.is_available():
            _read_cuda_as_cpu()
        qwen2_audio.Qwen2AudioForConditionalGeneration.generate = _exactly(
            transformers.Qwen2AudioForConditionalGeneration.generate, new_tokens
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = qwen2_audio.Qwen2_Audio(str(model), device=device, device_map="auto", batch_size=batch_size)
        self.model.task_dict["mmau"] = {"test": rows}
        kwargs = {"post_prompt": "\nAnswer with the option's letter from the given choices directly.", "pre_prompt": ""}
        asked = [utils.doc_to_text(row, kwargs) for row in rows]
        self.requests = [
            SimpleNamespace(args=(text, {"max_new_tokens": new_tokens}, utils.doc_to_audio, i, "mmau", "test"))
            for i, text in enumerate(asked)
        ]

    def run(self, turn: int) -> float:
        """Seconds of one pass over all questions."""
        for request in self.requests:
            request.args[1]["until"] = ["\n\n"]
        began = time.perf_counter()
        answers = self.model.generate_until(self.requests)
        seconds = time.perf_counter() - began
        assert len(answers) == len(self.requests)
        assert any(answers), "its loop turns exceptions into empty answers: it failed"
        return seconds


class Ours:
    """The runner, from Parquet to kept answers."""

    def __init__(self, folder: Path, think: bool, batch_size: int, new_tokens: int) -> None:
        from coat.config.thinking import ThinkingConfig

        self.folder, self.think = folder, think
        model = CoatModel.from_pretrained(folder / "model").model
        model.backbone.end_ids = []  # every answer is as long as may be, for both: random weights end where they like
        thinking = ThinkingConfig(enabled=think)
        self.backend = TransformersBackend(model, thinking=thinking, batch_size=batch_size)
        self.task = load_task("mmau").model_copy(update={"max_new_tokens": new_tokens})
        self.size = batch_size

    def run(self, turn: int) -> float:
        """Seconds of one evaluation."""
        out = self.folder / f"run-{self.think}-{self.size}-{turn}"
        began = time.perf_counter()
        done = run_tasks(self.backend, [open_task(self.task, str(self.folder / "data"))], out, EvalSettings())
        seconds = time.perf_counter() - began
        assert not done.errors
        return seconds


def _exactly(generate: Any, tokens: int) -> Any:
    def fixed(self: Any, *args: Any, **options: Any) -> Any:
        return generate(self, *args, **{**options, "min_new_tokens": tokens})

    return fixed


def _read_cuda_as_cpu() -> None:
    move = transformers.BatchFeature.to

    def to(self: Any, device: Any, *args: Any, **options: Any) -> Any:
        return move(self, "cpu" if str(device).startswith("cuda") else device, *args, **options)

    transformers.BatchFeature.to = to


if __name__ == "__main__":
    main()
