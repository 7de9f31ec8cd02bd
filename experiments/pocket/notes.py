"""Manifests of single notes for the ladder on pocket, and Whisper's own encoder as a teacher.

    python -m experiments.pocket.notes --out runs/pocket

Notes of real instruments in a sampled soundfont, a few of them with their pitch class; telephone prompts by a human
voice beside them. Held out: another soundfont, other prompts; ``dev`` and ``test`` have instruments of their own.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
import typer
from transformers import Qwen2AudioForConditionalGeneration, WhisperConfig, WhisperFeatureExtractor, WhisperModel

from coat.data.sources.asterisk_prompts import AsteriskPrompts
from coat.errors import CoatError
from coat.files import read_jsonl, write_jsonl
from coat.synthetic.items import PROMPTS, make_scarce
from coat.synthetic.music import Passage, play
from experiments.pocket.lessons import INSTRUMENT, INSTRUMENTS, SAMPLING_RATE, SOUNDFONTS, Row, row, written

# The white keys of three octaves from C3; their names are the answers.
NAMES = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}
LOWEST, HIGHEST = 48, 83
SECONDS = 1.2
LABELS, SEEDS, LABELLED_ROWS = (50, 200), 3, 300
PITCH = "pitch_class"


@dataclass(frozen=True)
class Split:
    """Notes of a split: how many, by which soundfont, and which of the instruments."""

    notes: int
    soundfont: Path
    programs: tuple[int, ...]
    prompts: int


PROGRAMS = tuple(INSTRUMENTS)
SPLITS = {
    "train": Split(700, SOUNDFONTS["train"], PROGRAMS, 150),
    "dev": Split(90, SOUNDFONTS["dev"], PROGRAMS[::3], 20),
    "test": Split(200, SOUNDFONTS["dev"], tuple(p for i, p in enumerate(PROGRAMS) if i % 3), 40),
}


def main(given: Sequence[str] | None = None) -> None:
    """Write the clips, ``notes-dev.jsonl``, ``notes-test.jsonl``, a training manifest a seed, and the teacher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="Of experiments.pocket.lessons.")
    out = parser.parse_args(given).out.resolve()
    (out / "clips").mkdir(parents=True, exist_ok=True)
    held_out = prompts_of(out, "dev")
    spoken = {"train": prompts_of(out, "train"), "dev": held_out[:20], "test": held_out[20:]}
    for name, split in SPLITS.items():
        rows = notes(out, name, split) + spoken[name][: split.prompts]
        rows = [{"id": f"notes-{name}-{place:04d}", **each} for place, each in enumerate(rows)]
        if name != "train":
            write_jsonl(out / f"notes-{name}.jsonl", rows)
            continue
        for count in LABELS:
            for seed in range(SEEDS):
                repeats = round(LABELLED_ROWS / count)
                few = make_scarce(rows, (PITCH,), count, repeats=repeats, seed=seed)
                write_jsonl(out / f"notes-train-{count}-seed{seed}.jsonl", few)
    write_teacher(out / "parts", out / "whisper-base")
    typer.echo(f"Written to {out}.")


def notes(out: Path, name: str, split: Split) -> list[Row]:
    """Each note's instrument and pitch class."""
    rng = random.Random(f"notes-{name}")
    keys = [key for key in range(LOWEST, HIGHEST + 1) if key % 12 in NAMES]
    passages = [
        Passage(rng.choice(split.programs), (rng.choice(keys),), rng.randint(70, 120), rng.uniform(0.6, 1.1), 1)
        for _ in range(split.notes)
    ]
    rows = []
    for place, (passage, music) in enumerate(zip(passages, play(passages, split.soundfont), strict=True)):
        path = out / "clips" / f"pitch-{name}-{place:04d}.flac"
        soundfile.write(path, music[: round(SECONDS * SAMPLING_RATE)].clip(-1, 1), SAMPLING_RATE)
        instrument = written(INSTRUMENTS[passage.program])
        rows.append(row(str(path), rng.choice(INSTRUMENT), instrument, "instrument"))
        rows.append(row(str(path), rng.choice(PROMPTS[PITCH]), NAMES[passage.notes[0] % 12], PITCH))
    return rows


def prompts_of(out: Path, split: str) -> list[Row]:
    """The telephone prompts of a split of :mod:`experiments.pocket.lessons`, each once."""
    path = out / f"{split}.jsonl"
    if not path.is_file():
        raise CoatError(f"There is no {path}.", "python -m experiments.pocket.lessons")
    found: dict[str, Row] = {}
    for each in read_jsonl(path):
        if each.get("source") == AsteriskPrompts.name and each["task"] == "transcription":
            found.setdefault(each["audios"][0], {key: value for key, value in each.items() if key != "id"})
    return [found[audio] for audio in sorted(found)]


def write_teacher(parts: Path, out: Path) -> None:
    """Whisper base's encoder as it was trained, as a folder that the expert ``kind: encoder`` reads.

    Args:
        parts: Pocket without hearing, whose tower it is.
        out: A Whisper model of transformers; its decoder is one layer that nobody reads.
    """
    model = Qwen2AudioForConditionalGeneration.from_pretrained(parts, dtype=torch.float32)
    tower = model.config.audio_config
    config = WhisperConfig(
        d_model=tower.d_model, encoder_layers=tower.encoder_layers, encoder_ffn_dim=tower.encoder_ffn_dim,
        encoder_attention_heads=tower.encoder_attention_heads, num_mel_bins=tower.num_mel_bins,
        decoder_layers=1, decoder_attention_heads=1, decoder_ffn_dim=1,
    )  # fmt: skip
    torch.manual_seed(0)
    whisper = WhisperModel(config)
    whisper.encoder.load_state_dict(model.model.audio_tower.state_dict())
    whisper.save_pretrained(out)
    WhisperFeatureExtractor.from_pretrained(parts).save_pretrained(out)
    (out / "README.md").write_text(json.dumps({"licence": "MIT", "model": "openai/whisper-base, encoder"}) + "\n")


if __name__ == "__main__":
    main()
