"""Rows a second in training: this project against plain `transformers.Trainer` with the stock processor.

    python benchmarks/train_throughput.py                          # the miniature backbone, clips of 1 to 3 s
    python benchmarks/train_throughput.py --low 5 --high 25 --clips 64 --steps 6

The same model, LoRA, rows, batch of 16 and number of steps in one run. Plain is the fine-tune that most people write:
a Trainer, PEFT, and a collator with the family's own processor and model. Ours is fine-tuning without a block; then
with the block; then the full method, experts live and from the cache. Files to optimizer steps, model loading left out.
The limit is the time that a way's FLOPs, counted in a run of its own over the same rows, would take at the rate of this
machine's fastest matrix product.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coat.checkpoints.references import miniature_folder
from coat.config.reading import parse_recipe
from coat.training import run as run_module
from coat.training.run import train
from dataloader import decoded, write_clips
from limits import counting, measure_limits

BATCH = 16
PLAIN, MINE = "plain Trainer + processor", "ours, fine-tuning"
EXPERTS = dict.fromkeys(("audio_reconstruction", "standin_speech", "standin_affect", "basic_pitch"), "auto")


@dataclass
class Spent:
    """What a training took: seconds in the trainer, tokens that passed, and FLOPs if they were counted."""

    seconds: float = 0.0
    tokens: int = 0
    flops: int = 0

    @contextlib.contextmanager
    def measured(self, counted: bool) -> Iterator[None]:
        """Time what runs within, or count its FLOPs, which takes longer."""
        began = time.perf_counter()
        with counting() if counted else contextlib.nullcontext() as counter:
            yield
        self.seconds = time.perf_counter() - began
        self.flops = counter.get_total_flops() if counter else 0


def main() -> None:
    """Train every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--low", type=float, default=1.0)
    parser.add_argument("--high", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    limits = measure_limits("cuda" if torch.cuda.is_available() else "cpu", torch.float32)
    with tempfile.TemporaryDirectory() as place:
        folder, steps = Path(place), args.steps
        write_clips(folder, args.clips, args.low, args.high)
        cache = {"cache": str(folder / "features")}
        sft = {"thinking": {"enabled": False}}
        ways: dict[str, Callable[..., Spent]] = {
            PLAIN: partial(plain, folder, steps),
            MINE: partial(ours, folder, steps, sft),
            "ours, + block": partial(ours, folder, steps, {}),
            "ours, full method, experts live": partial(ours, folder, steps, {}, EXPERTS),
            "ours, full method, features cached": partial(ours, folder, steps, {"data": cache}, EXPERTS),
            "ours, fine-tuning, embeddings cached": partial(ours, folder, steps, {**sft, "data": cache}),
        }
        plain(folder, 1)  # the first of anything is slow
        ours(folder, 1, {"data": cache}, EXPERTS)  # fills the cache
        timed = {name: way(counted=False) for name, way in ways.items()}
        flops = {name: way(counted=True).flops for name, way in ways.items()}
    print(f"\n{steps} steps of {BATCH} rows, clips of {args.low:g} to {args.high:g} s; {limits}\n")
    columns = ("way", "rows a second", "tokens a second", "against plain", "against our fine-tuning", "GFLOP a row",
               "measured / limit")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    rows = steps * BATCH
    for name, spent in timed.items():
        print(f"| {name} | {rows / spent.seconds:.1f} | {spent.tokens / spent.seconds:,.0f} "
              f"| {timed[PLAIN].seconds / spent.seconds:.2f} | {timed[MINE].seconds / spent.seconds:.2f} "
              f"| {flops[name] / rows / 1e9:.2f} | {spent.seconds / limits.seconds(flops[name]):.2f} |")  # fmt: skip


def ours(folder: Path, steps: int, changes: dict[str, Any], experts: Any = None, counted: bool = False) -> Spent:
    """A stage of our trainer."""
    raw = {
        "backbone": {"path": str(miniature_folder() / "backbone")},
        "heads": {"num_heads": 2, "ffn_ratio": 2.0},
        "stages": [{"name": "one", "steps": steps, "experts": experts or {}}],
        "training": {"batch_size": BATCH, "micro_batch_size": BATCH, "precision": "fp32", "save_steps": 10_000},
        "data": {"train_dataset": str(folder / "train.jsonl")} | changes.get("data", {}),
    } | {key: value for key, value in changes.items() if key != "data"}
    spent = Spent()

    class Timed(run_module.StageTrainer):
        def train(self, *positional: Any, **named: Any) -> Any:
            with spent.measured(counted):
                return super().train(*positional, **named)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            spent.tokens += sum(int(batch.attention_mask.sum()) for batch in inputs)
            return super().training_step(model, inputs, num_items_in_batch)

    run_module.StageTrainer, real = Timed, run_module.StageTrainer
    try:
        train(parse_recipe(raw), Path(tempfile.mkdtemp(dir=folder)) / "run", say=lambda _: None)
    finally:
        run_module.StageTrainer = real
    return spent


def plain(folder: Path, steps: int, counted: bool = False) -> Spent:
    """The same fine-tune as most people write it."""
    import transformers
    from peft import LoraConfig, get_peft_model

    path = str(miniature_folder() / "backbone")
    model = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
    targets = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    processor = transformers.Qwen2AudioProcessor(
        transformers.WhisperFeatureExtractor.from_pretrained(path), tokenizer,
        chat_template=(Path(path) / "chat_template.jinja").read_text(),
    )  # fmt: skip
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    spent = Spent()

    def collate(batch: list[dict]) -> Any:
        waves, texts = [], []
        for row in batch:
            waves.append(decoded(folder / row["audios"][0]))
            question = {"type": "text", "text": row["messages"][0]["content"].replace("<audio>", "")}
            asked = [{"role": "user", "content": [{"type": "audio", "audio_url": "x"}, question]}, row["messages"][1]]
            texts.append(processor.apply_chat_template(asked, tokenize=False))
        inputs = processor(text=texts, audio=waves, sampling_rate=16_000, return_tensors="pt", padding=True)
        inputs["labels"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        spent.tokens += int(inputs["attention_mask"].sum())
        return inputs

    trainer = transformers.Trainer(
        model=model,
        train_dataset=rows,
        data_collator=collate,
        args=transformers.TrainingArguments(
            output_dir=str(folder / "plain"), max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=1e-4,
            use_cpu=not torch.cuda.is_available(), remove_unused_columns=False, report_to=[], disable_tqdm=True,
            save_strategy="no", seed=0,
        ),
    )  # fmt: skip
    with spent.measured(counted):
        trainer.train()
    return spent


if __name__ == "__main__":
    np.random.seed(0)  # noqa: NPY002
    main()
