"""The paper's probe targets for real checkpoints (§4.4): emotions of IEMOCAP, instruments and pitches of MuchoMusic.

Each writes ``labels.jsonl``, which :func:`coat.probing.models.read_clips` reads, and ``test.jsonl``, a manifest of
the questions whose answers are held against the probe's confidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coat.audio import Clip, decode_audio
from coat.data.sources.base import Record
from coat.data.sources.iemocap import Iemocap
from coat.errors import CoatError
from coat.evaluation.items import Item
from coat.evaluation.sources import open_task
from coat.evaluation.task import load_task
from coat.experts.basic_pitch import BasicPitch
from coat.files import write_jsonl

Row = dict[str, Any]
# How many clips there are, and of each its facts and the question about it.
Labelled = tuple[int, Iterator[tuple[Row, Row | None]]]
NOTES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")
EMOTION = "What emotion does the speaker express: angry, happy, neutral, sad? Answer with one of them only."
# Seven families; which ones, and what belongs to each, is ours.
FAMILIES = {
    "keyboard": ("piano", "keyboard", "organ", "harpsichord", "accordion", "celesta"),
    "guitar": ("guitar", "bass", "ukulele", "banjo", "mandolin", "lute", "sitar", "harp"),
    "strings": ("violin", "viola", "cello", "fiddle", "strings"),
    "wind": ("flute", "clarinet", "oboe", "bassoon", "saxophone", "sax", "recorder", "harmonica", "trumpet", "trombone",
             "horn", "tuba", "brass", "bagpipes", "didgeridoo"),
    "percussion": ("drum", "drums", "percussion", "tabla", "xylophone", "marimba", "vibraphone", "bells", "cymbals",
                   "tambourine", "bongos", "congas"),
    "voice": ("voice", "vocals", "singing", "singer", "choir"),
    "electronic": ("synthesizer", "synth", "synthesiser", "sampler", "electronic"),
}  # fmt: skip


class _EverySession(Iemocap):
    sessions = (1, 2, 3, 4, 5)


def iemocap(place: str, out: Path) -> Labelled:
    """Four emotions by speaker: fitted on sessions 1 to 4, scored on session 5."""
    del out
    records = list(_EverySession().read(Path(place)))
    return len(records), _emotions(records)


def _emotions(records: Sequence[Record]) -> Iterator[tuple[Row, Row | None]]:
    for record in records:
        dialog, turn = str(record["id"]).rsplit("_", 1)
        session = dialog[:5]
        audio = str(Path(record["audio"]).absolute())
        fact = {"audio": audio, "emotion": record["emotion"], "speaker": session + turn[0]}
        fact["split"] = "test" if session == "Ses05" else "train"
        asked = _question(record["id"], "emotion", EMOTION, record["emotion"], audio)
        yield fact, asked if fact["split"] == "test" else None


def muchomusic(place: str, out: Path) -> Labelled:
    """Seven instrument families where a question asks for an instrument, and every clip's dominant pitch class.

    A clip is a group of its own: none is on both sides.
    """
    items = open_task(load_task("muchomusic"), place or None, out / "sample").items
    return len(items), _music(items, out)


def _music(items: Sequence[Item], out: Path) -> Iterator[tuple[Row, Row | None]]:
    hears, heard = BasicPitch(), set[str]()
    hears.freeze()
    for item in items:
        audio, clip = _kept(item, out / "clips")
        fact: Row = {"audio": audio, "id": item.id}
        if audio not in heard:  # several questions are about one clip
            heard.add(audio)
            fact["pitch"] = dominant_pitch(hears, clip)
        family = family_of(item.reference) if "instrument" in item.prompt.lower() else None
        asked = None
        if family:
            fact["family"] = family
            letters = [f"{chr(65 + place)}. {option}" for place, option in enumerate(item.options)]
            text = "\n".join([item.prompt, *letters, "Answer with the letter."])
            asked = _question(item.id, "family", text, item.reference, audio, choices=list(item.options))
        yield fact, asked


SOURCES: dict[str, Callable[[str, Path], Labelled]] = {"iemocap": iemocap, "muchomusic": muchomusic}


def write_labels(
    name: str, place: str, out: Path, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Path, dict[str, int]]:
    """Write a source's labels and questions.

    Args:
        name: A key of ``SOURCES``.
        place: IEMOCAP's folder; MuchoMusic's folder, ``sample``, or empty for the hub.
        out: A folder.
        progress: Called with 1 for every clip, and how many there are.

    Returns:
        ``labels.jsonl``, and how many lines carry each field.

    Raises:
        CoatError: There is no such source, or its files are not there.
    """
    if name not in SOURCES:
        raise CoatError(f"There are no probe labels of '{name}'.", f"There are of {', '.join(SOURCES)}.")
    out.mkdir(parents=True, exist_ok=True)
    facts, questions = [], []
    total, found = SOURCES[name](place, out)
    for fact, asked in found:
        facts.append(fact)
        questions += [asked] if asked else []
        if progress:
            progress(1, total)
    write_jsonl(out / "labels.jsonl", facts)
    write_jsonl(out / "test.jsonl", questions)
    fields = sorted({field for fact in facts for field in fact} - {"audio", "id", "split"})
    return out / "labels.jsonl", {field: sum(field in fact for fact in facts) for field in fields}


def family_of(answer: str) -> str | None:
    """The instrument family that an answer names; None if it names none, or several."""
    words = set(re.findall(r"[a-z]+", answer.lower()))
    words |= {word.removesuffix("s") for word in words}
    found = [family for family, members in FAMILIES.items() if words & set(members)]
    return found[0] if len(found) == 1 else None


@torch.inference_mode()
def dominant_pitch(expert: BasicPitch, clip: Clip) -> str:
    """The pitch class that basic-pitch's contour holds most of."""
    waveform = torch.from_numpy(clip.at(expert.sampling_rate))[None]
    features, frames = expert.features(waveform, torch.tensor([waveform.shape[1]]))
    contour = expert.posteriorgram(features[:, : int(frames[0])])[0].sum(0)  # (264,), three bins a semitone from A0
    semitones = np.add.reduceat(contour.numpy(), np.arange(0, len(contour), 3))
    classes = np.zeros(12)
    np.add.at(classes, (np.arange(len(semitones)) + 9) % 12, semitones)
    return NOTES[int(classes.argmax())]


def _kept(item: Item, folder: Path) -> tuple[str, Clip]:
    """The clip of an item, as a file: benchmarks hold it in tables."""
    content = item.sounds[0].fetch()
    path = folder / f"{blake2b(content, digest_size=12).hexdigest()}.wav"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        partial.replace(path)
    return str(path.absolute()), decode_audio(content, item.sounds[0].name)


def _question(name: str, task: str, text: str, answer: str, audio: str, **more: Any) -> Row:
    messages = [{"role": "user", "content": f"<audio>{text}"}, {"role": "assistant", "content": answer}]
    return {"id": name, "task": task, "messages": messages, "audios": [audio], **more}
