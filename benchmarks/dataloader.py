"""Rows a second from files to batches: this project's collator, and a plain `datasets` + processor loader.

    python benchmarks/dataloader.py                        # 512 clips of 1 to 3 s
    python benchmarks/dataloader.py --low 5 --high 25 --clips 128

Both decode the same files, resample, make log-mel, and give input ids with expanded audio tokens and labels, in
batches of 16 on one process, taking turns. The plain loader is what most fine-tuning scripts do: rows of `datasets`,
decoded as they come, and the family's stock processor, which pads every clip to 30 s. It decodes with soundfile and
soxr too, for `datasets` decodes by torchcodec, which is not everywhere; so decoding makes no difference here. Decoding
and resampling alone are the limit: no loader of these files can be faster.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from coat.backbones import load_backbone
from coat.config.thinking import ThinkingConfig
from coat.data.batching import Shuffled, StepRows
from coat.data.index import open_manifest
from coat.testing.checkpoints import random_backbone
from coat.thinking.model import ThinkingModel
from coat.training.dataset import TrainingCollator

RATE, BATCH = 44_100, 16


def main() -> None:
    """Write clips, load them both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--low", type=float, default=1.0)
    parser.add_argument("--high", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hours = write_clips(folder, args.clips, args.low, args.high) / 3600
        random_backbone("qwen2_audio", folder / "backbone")
        loaders = {"plain": Plain(folder), "ours": Ours(folder), "decoding alone": Decoding(folder)}
        times: dict[str, list[float]] = {name: [] for name in loaders}
        for turn in range(args.rounds + 1):
            for name, loader in loaders.items():
                began = time.perf_counter()
                loader.run()
                if turn:
                    times[name].append(time.perf_counter() - began)
        print(f"{args.clips} clips of {args.low:g} to {args.high:g} s at {RATE} Hz; one process; "
              f"{torch.get_num_threads()} threads; torch {torch.__version__}\n")  # fmt: skip
        print("| loader | rows a second | audio-hours a second | against plain | over the limit |")
        print("| --- | --- | --- | --- | --- |")
        median = {name: sorted(spent)[args.rounds // 2] for name, spent in times.items()}
        for name, spent in median.items():
            print(f"| {name} | {args.clips / spent:.0f} | {hours / spent:.3f} | {median['plain'] / spent:.2f} "
                  f"| {spent / median['decoding alone']:.2f} |")  # fmt: skip


def write_clips(folder: Path, count: int, low: float, high: float) -> float:
    """Noise as FLAC with a manifest; seconds in all."""
    rng, total, rows = np.random.default_rng(0), 0.0, []
    for index in range(count):
        seconds = float(rng.uniform(low, high))
        soundfile.write(folder / f"{index}.flac", 0.1 * rng.normal(size=round(seconds * RATE)).clip(-3, 3), RATE)
        messages = [
            {"role": "user", "content": "<audio>What is said?"},
            {"role": "assistant", "content": "the small red dog finds two boats"},
        ]
        rows.append({"id": str(index), "audios": [f"{index}.flac"], "messages": messages, "seconds": seconds})
        total += seconds
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return total


def decoded(path: str | Path) -> np.ndarray:
    """A file's sound, mono, at 16 kHz."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(wave.mean(1), rate, 16_000)


class Decoding:
    """Every file decoded and resampled, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.flac"))

    def run(self) -> None:
        """One pass over the data."""
        for path in self.files:
            decoded(path)


class Ours:
    """Index, length groups, collator; without think tokens, as the plain loader has none."""

    def __init__(self, folder: Path) -> None:
        self.manifest = open_manifest(folder / "train.jsonl")
        model = ThinkingModel(load_backbone("qwen2_audio", str(folder / "backbone")), ThinkingConfig(enabled=False))
        self.collate = TrainingCollator(model.builder, rows=BATCH)

    def run(self) -> None:
        """One pass over the data."""
        count = len(self.manifest)
        steps = StepRows(self.manifest.seconds, draw=Shuffled(count, 0), steps=count // BATCH, batch_size=BATCH, seed=0)
        for rows in steps:
            self.collate.batches([self.manifest[row] for row in rows])


class Plain:
    """An Audio column, the stock processor, a shuffled order."""

    def __init__(self, folder: Path) -> None:
        import datasets
        import transformers

        path = str(folder / "backbone")
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(path)
        self.processor = transformers.Qwen2AudioProcessor(extractor, tokenizer)
        rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
        table = [{"audio": str(folder / row["audios"][0]), "messages": row["messages"]} for row in rows]
        self.table = datasets.Dataset.from_list(table).cast_column("audio", datasets.Audio(decode=False))
        self.order = np.random.default_rng(0).permutation(len(rows)).tolist()

    def run(self) -> None:
        """One pass over the data."""
        for start in range(0, len(self.order) - BATCH + 1, BATCH):
            self._batch([self.table[index] for index in self.order[start : start + BATCH]])

    def _batch(self, rows: list[dict]) -> dict:
        texts, waves = [], []
        for row in rows:
            waves.append(decoded(row["audio"]["path"]))
            question = row["messages"][0]["content"].replace("<audio>", "")
            items = [{"type": "audio", "audio_url": "x"}, {"type": "text", "text": question}]
            asked = [{"role": "user", "content": items}, row["messages"][1]]
            texts.append(self.processor.apply_chat_template(asked, tokenize=False))
        inputs = self.processor(text=texts, audio=waves, sampling_rate=16_000, return_tensors="pt", padding=True)
        inputs["labels"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        return inputs


if __name__ == "__main__":
    main()
