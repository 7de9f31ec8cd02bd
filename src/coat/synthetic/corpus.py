"""Build the small world's corpus: clips on disk, what is true of each, and questions about them.

```
corpus/
  clips/train-speech-00000.wav ...      16 kHz mono, two to four seconds
  clips.jsonl                           what is true of each clip (voice, mood, notes, event, ...)
  train.jsonl  dev.jsonl  test.jsonl    questions and answers in the messages + audios format
  corpus.json                           seed, sizes and version
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coat.errors import CoatError
from coat.files import write_jsonl
from coat.processes import cores, pool
from coat.synthetic.world import (
    EVENTS,
    HIGHEST_NOTE,
    LOWEST_NOTE,
    MAX_SECONDS,
    MIN_SECONDS,
    MOODS,
    PITCH_CLASSES,
    PROGRAMS,
    SAMPLING_RATE,
    SPLITS,
    VOICES,
    Split,
    draw_instruction,
    draw_sentence,
    draw_style,
)

VERSION = 1
KINDS = ("speech", "instruction", "music", "event", "speech+event", "music+event")
SHARES = {"speech": 0.34, "instruction": 0.08, "music": 0.34, "event": 0.12, "speech+event": 0.06, "music+event": 0.06}
CHUNK = 125

Fact = dict[str, Any]


@dataclass(frozen=True)
class CorpusSize:
    """Clips a split."""

    train: int = 5000
    dev: int = 500
    test: int = 1000


def build_corpus(
    folder: str | Path,
    *,
    seed: int = 0,
    size: CorpusSize | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Synthesise the corpus, or return it if it is there already.

    Args:
        folder: Folder to write; it appears whole or not at all.
        seed: Every clip follows from the seed, its split, kind and index alone.
        size: Number of clips of each split.
        workers: Processes; the number of cores if None.
        progress: Called with (clips done, clips in all).

    Raises:
        CoatError: espeak-ng, fluidsynth or a soundfont is missing, or another corpus is in the folder.
    """
    folder, size = Path(folder), size or CorpusSize()
    card = {"version": VERSION, "seed": seed, **asdict(size)}
    if (folder / "corpus.json").is_file():
        if json.loads((folder / "corpus.json").read_text()) != card:
            raise CoatError(f"{folder} holds a corpus of another seed, size or version.", "Choose another folder.")
        return folder
    check_synthesisers()

    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "clips").mkdir(parents=True)
    facts = _synthesise(partial, seed, size, workers or cores(), progress)
    write_jsonl(partial / "clips.jsonl", facts)

    from coat.synthetic.items import ask

    for split in SPLITS:
        write_jsonl(partial / f"{split}.jsonl", ask([f for f in facts if f["split"] == split], seed=seed))
    (partial / "corpus.json").write_text(json.dumps(card))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(folder)
    return folder


def check_synthesisers() -> None:
    """Raise a CoatError that names every missing synthesiser and the command that adds them."""
    from coat.synthetic.music import find_soundfont

    missing = [name for name in ("espeak-ng", "fluidsynth") if shutil.which(name) is None]
    try:
        find_soundfont()
    except CoatError:
        missing.append("timgm6mb-soundfont")
    if missing:
        raise CoatError(
            f"The small world needs {', '.join(missing)}, which this machine lacks.",
            f"Debian and Ubuntu: apt-get install {' '.join(missing)}    macOS: brew install espeak-ng fluid-synth",
        )


def _synthesise(
    folder: Path, seed: int, size: CorpusSize, workers: int, progress: Callable[[int, int], None] | None
) -> list[Fact]:
    jobs: list[tuple[str, int, Split, str, int, int]] = [
        (str(folder), seed, split, kind, start, min(CHUNK, count - start))
        for split in SPLITS
        for kind, count in _counts(getattr(size, split)).items()
        for start in range(0, count, CHUNK)
    ]
    done, facts = 0, []
    with pool(workers, threads=1) as several:
        for future in as_completed([several.submit(_make_chunk, *job) for job in jobs]):
            chunk = future.result()
            facts += chunk
            done += len(chunk)
            if progress:
                progress(done, sum(asdict(size).values()))
    return sorted(facts, key=lambda fact: fact["id"])


def _counts(total: int) -> dict[str, int]:
    counts = {kind: int(total * share) for kind, share in SHARES.items()}
    counts["speech"] += total - sum(counts.values())
    return counts


def _make_chunk(folder: str, seed: int, split: Split, kind: str, start: int, count: int) -> list[Fact]:
    import soundfile

    facts = []
    for index, (fact, waveform, rng) in enumerate(_draw(seed, split, kind, start, count), start):
        name = f"{split}-{kind.replace('+', '-')}-{index:05d}"
        waveform = _fit(waveform, rng)
        path = Path("clips") / f"{name}.wav"
        soundfile.write(Path(folder) / path, waveform, SAMPLING_RATE, subtype="PCM_16")
        seconds = round(len(waveform) / SAMPLING_RATE, 3)
        facts.append({"id": name, "split": split, "kind": kind, "audio": str(path), "seconds": seconds, **fact})
    return facts


def _draw(
    seed: int, split: Split, kind: str, start: int, count: int
) -> Iterable[tuple[Fact, np.ndarray, np.random.Generator]]:
    """Facts, foreground mixed with background, and each clip's own generator."""
    rngs = [np.random.default_rng([seed, SPLITS.index(split), KINDS.index(kind), start + i]) for i in range(count)]
    foreground = kind.split("+")[0]
    music = foreground == "music"
    drawn = _draw_music(split, rngs) if music else [_DRAWERS[foreground](split, rng) for rng in rngs]
    for (fact, waveform), rng in zip(drawn, rngs, strict=True):
        if kind.endswith("+event"):
            background, noise = _draw_event(split, rng, len(waveform))
            snr_db = rng.uniform(3, 12)
            gain = np.sqrt(np.mean(waveform**2) / (np.mean(noise**2) + 1e-9)) * 10 ** (-snr_db / 20)
            fact = {**fact, **background, "snr_db": round(snr_db, 1)}
            waveform = waveform + gain * noise
        yield fact, waveform, rng


def _draw_speech(split: Split, rng: np.random.Generator) -> tuple[Fact, np.ndarray]:
    from coat.synthetic.speech import speak

    mood, voice = str(rng.choice(list(MOODS))), str(rng.choice(VOICES[split]))
    while True:
        text = draw_sentence(split, rng)
        waveform = speak(text, voice, mood, rng)
        if waveform is not None:
            return {"text": text, "mood": mood, "voice": voice}, waveform


def _draw_instruction(split: Split, rng: np.random.Generator) -> tuple[Fact, np.ndarray]:
    from coat.synthetic.speech import speak

    voice = str(rng.choice(VOICES[split]))
    while True:
        text, answer = draw_instruction(split, rng)
        waveform = speak(text, voice, "calm", rng)
        if waveform is not None:
            return {"text": text, "answer": answer, "voice": voice}, waveform


def _draw_event(split: Split, rng: np.random.Generator, samples: int | None = None) -> tuple[Fact, np.ndarray]:
    from coat.synthetic.events import synthesise

    event, style = str(rng.choice(EVENTS)), draw_style(split, rng)
    samples = samples or round(rng.uniform(MIN_SECONDS, 2.8) * SAMPLING_RATE)
    level = rng.uniform(0.2, 0.6)
    return {"event": event, "style": round(style, 4)}, level * synthesise(event, samples, style, rng)


def _draw_music(split: Split, rngs: list[np.random.Generator]) -> list[tuple[Fact, np.ndarray]]:
    from coat.synthetic.music import Passage, play

    facts, passages = [], []
    for rng in rngs:
        family = str(rng.choice(list(PROGRAMS)))
        program = int(rng.choice(PROGRAMS[family][split]))
        root = int(rng.integers(LOWEST_NOTE, HIGHEST_NOTE - 7))
        chord = rng.random() < 0.25
        third = int(rng.choice((3, 4)))
        notes = (root, root + third, root + 7) if chord else (root,)
        strikes = int(rng.integers(1, 3))
        seconds = rng.uniform(MIN_SECONDS, 2.8)
        passages.append(Passage(program, notes, int(rng.integers(70, 120)), (seconds - 0.1) / strikes, strikes))
        fact: Fact = {"family": family, "program": program, "notes": notes, "strikes": strikes, "play": seconds}
        if chord:
            fact["chord"] = "minor" if third == 3 else "major"
        else:
            fact["pitch_class"] = PITCH_CLASSES[root % 12]
        facts.append(fact)
    waveforms = play(passages)
    return [(f, w[: round(f.pop("play") * SAMPLING_RATE)]) for f, w in zip(facts, waveforms, strict=True)]


_DRAWERS = {"speech": _draw_speech, "instruction": _draw_instruction, "event": _draw_event}


def _fit(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pad to the shortest allowed clip, keep in range, and lay a faint noise floor under it."""
    missing = max(0, round(MIN_SECONDS * SAMPLING_RATE) - len(waveform))
    before = round(missing * rng.uniform(0.1, 0.9))
    waveform = np.pad(waveform, (before, missing - before))
    assert len(waveform) <= MAX_SECONDS * SAMPLING_RATE
    waveform = waveform / max(1.0, np.abs(waveform).max() / 0.99)
    return (waveform + rng.normal(0, 2e-4, len(waveform))).astype(np.float32)
