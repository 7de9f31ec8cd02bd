"""Rows a second in training: this project against plain `transformers.Trainer` with the stock processor.

    python benchmarks/train_throughput.py                          # the miniature backbone, clips of 1 to 3 s
    python benchmarks/train_throughput.py --low 5 --high 25 --clips 64 --steps 6

The same model, LoRA, rows, batch of 16 and number of steps in one run. Plain is the fine-tune that most people write:
a Trainer, PEFT, and a collator with the family's own processor and model. Ours is fine-tuning without a block; then
with the block; then the full method, experts live and from the cache. Files to optimizer steps, model loading left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

from coat.checkpoints.references import miniature_folder
from coat.config.recipe import parse_recipe
from coat.training import run as run_module
from coat.training.run import train
from dataloader import write_clips

BATCH = 16
EXPERTS = dict.fromkeys(("audio_reconstruction", "standin_speech", "standin_affect", "basic_pitch"), "auto")


def main() -> None:
    """Train every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--low", type=float, default=1.0)
    parser.add_argument("--high", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_clips(folder, args.clips, args.low, args.high)
        plain(folder, 1)  # the first of anything is slow
        results = {"plain Trainer + processor": plain(folder, args.steps)}
        results["ours, fine-tuning"] = ours(folder, "sft", args.steps, {"thinking": {"enabled": False}})
        results["ours, + block"] = ours(folder, "block", args.steps, {})
        results["ours, full method, experts live"] = ours(folder, "live", args.steps, {}, EXPERTS)
        cache = {"cache": str(folder / "features")}
        ours(folder, "fill", 1, {"data": cache}, EXPERTS)
        results["ours, full method, features cached"] = ours(folder, "cached", args.steps, {"data": cache}, EXPERTS)
        sft_cached = {"thinking": {"enabled": False}, "data": cache}
        results["ours, fine-tuning, embeddings cached"] = ours(folder, "sft-cached", args.steps, sft_cached)
    print(f"\n{args.steps} steps of {BATCH} rows, clips of {args.low:g} to {args.high:g} s; "
          f"{torch.get_num_threads()} threads; torch {torch.__version__}\n")  # fmt: skip
    print("| way | rows a second | tokens a second | against plain | against our fine-tuning |")
    print("| --- | --- | --- | --- | --- |")
    first, mine = results["plain Trainer + processor"], results["ours, fine-tuning"]
    for name, (seconds, tokens) in results.items():
        rows = args.steps * BATCH
        print(f"| {name} | {rows / seconds:.1f} | {tokens / seconds:,.0f} | {first[0] / seconds:.2f} | "
              f"{mine[0] / seconds:.2f} |")  # fmt: skip


def ours(folder: Path, name: str, steps: int, changes: dict[str, Any], experts: Any = None) -> tuple[float, int]:
    """Seconds in the trainer, and tokens that passed."""
    raw = {
        "backbone": {"path": str(miniature_folder() / "backbone")},
        "heads": {"num_heads": 2, "ffn_ratio": 2.0},
        "stages": [{"name": "one", "steps": steps, "experts": experts or {}}],
        "training": {"batch_size": BATCH, "micro_batch_size": BATCH, "precision": "fp32", "save_steps": 10_000},
        "data": {"train_dataset": str(folder / "train.jsonl")} | changes.get("data", {}),
    } | {key: value for key, value in changes.items() if key != "data"}
    spent = {"seconds": 0.0, "tokens": 0}

    class Timed(run_module.StageTrainer):
        def train(self, *positional: Any, **named: Any) -> Any:
            began = time.perf_counter()
            out = super().train(*positional, **named)
            spent["seconds"] = time.perf_counter() - began
            return out

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            spent["tokens"] += sum(int(batch.attention_mask.sum()) for batch in inputs)
            return super().training_step(model, inputs, num_items_in_batch)

    run_module.StageTrainer, real = Timed, run_module.StageTrainer
    try:
        train(parse_recipe(raw), folder / "runs" / name, say=lambda _: None)
    finally:
        run_module.StageTrainer = real
    return spent["seconds"], spent["tokens"]


def plain(folder: Path, steps: int) -> tuple[float, int]:
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
    tokens = 0

    def collate(batch: list[dict]) -> Any:
        nonlocal tokens
        waves, texts = [], []
        for row in batch:
            wave, rate = soundfile.read(folder / row["audios"][0], dtype="float32", always_2d=True)
            waves.append(soxr.resample(wave.mean(1), rate, 16_000))
            question = {"type": "text", "text": row["messages"][0]["content"].replace("<audio>", "")}
            asked = [{"role": "user", "content": [{"type": "audio", "audio_url": "x"}, question]}, row["messages"][1]]
            texts.append(processor.apply_chat_template(asked, tokenize=False))
        inputs = processor(text=texts, audio=waves, sampling_rate=16_000, return_tensors="pt", padding=True)
        inputs["labels"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        tokens += int(inputs["attention_mask"].sum())
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
    began = time.perf_counter()
    trainer.train()
    return time.perf_counter() - began, tokens


if __name__ == "__main__":
    np.random.seed(0)  # noqa: NPY002
    main()
