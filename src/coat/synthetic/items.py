"""Questions about the small world's clips, for the seven task groups of the paper (App. A).

| group | tasks |
| --- | --- |
| asr | transcription |
| audio_qa | mood, event, background |
| captioning | caption |
| multiple_choice | choice |
| music | pitch_class, instrument, chord |
| instruction | spoken_instruction |
| text | text_only |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from coat.synthetic.world import ADJECTIVES, EVENTS, NOUNS, NUMBERS, OPPOSITES, PROGRAMS

# Answers to these are scarce: a few clips are labelled, every clip is heard by the experts.
SCARCE_TASKS = ("mood", "pitch_class")
GROUPS = {
    "transcription": "asr", "mood": "audio_qa", "event": "audio_qa", "background": "audio_qa",
    "caption": "captioning", "choice": "multiple_choice", "pitch_class": "music", "instrument": "music",
    "chord": "music", "spoken_instruction": "instruction", "text_only": "text",
}  # fmt: skip

PROMPTS: dict[str, tuple[str, ...]] = {
    "transcription": ("Transcribe the speech.", "What is said?", "Write down what the speaker says."),
    "mood": ("How does the speaker sound?", "What is the mood of the speaker?"),
    "event": ("What sound is this?", "Name the sound."),
    "background": ("What sound is in the background?", "Name the sound in the background."),
    "caption": ("Describe the audio.", "What can be heard?"),
    "pitch_class": ("What note is this?", "What note is played?", "Name the note."),
    "instrument": ("Which instrument family plays?", "Name the instrument family."),
    "chord": ("Is this a major or a minor chord?",),
    "spoken_instruction": ("Follow the spoken instruction.", "Do what the speaker asks."),
}
LETTERS = "ABCD"

Row = dict[str, Any]


def ask(facts: Iterable[dict[str, Any]], *, seed: int) -> list[Row]:
    """Every question that can be asked of some clips, and text-only questions beside them.

    Returns:
        Manifest rows: ``id``, ``task``, ``group``, ``messages``, ``audios``, and ``choices`` where there are any.
    """
    rows: list[Row] = []
    facts = list(facts)
    for index, fact in enumerate(facts):
        rng = np.random.default_rng([seed, 7, index])
        rows += _about(fact, rng)
        if index % 25 == 0:
            rows.append(_text_only(f"{fact['split']}-text-{index:05d}", rng))
    return rows


def make_scarce(rows: list[Row], tasks: Sequence[str], clips: int, *, repeats: int, seed: int) -> list[Row]:
    """A training mixture in which answers to some tasks are scarce.

    Every clip keeps one question of the other tasks, so that every clip is heard; each scarce task keeps the
    answers of ``clips`` clips, repeated so that they are not drowned out. Text-only questions stay.

    Args:
        rows: All questions of a split.
        tasks: The scarce ones.
        clips: Labelled clips for each of them.
        repeats: Copies of a labelled question in the mixture.
        seed: Seed of the choice of labelled clips, and of the question that each clip keeps.
    """
    rng = np.random.default_rng([seed, 11])
    plenty: dict[str, list[Row]] = {}
    for row in rows:
        if row["task"] not in tasks:
            plenty.setdefault(row["audios"][0] if row["audios"] else row["id"], []).append(row)
    mixture = [members[rng.integers(len(members))] for members in plenty.values()]
    for task in tasks:
        labelled = [row for row in rows if row["task"] == task]
        for index in rng.permutation(len(labelled))[:clips]:
            row = labelled[index]
            mixture += [{**row, "id": f"{row['id']}-{copy}"} for copy in range(repeats)]
    return mixture


def _about(fact: dict[str, Any], rng: np.random.Generator) -> Iterator[Row]:
    kind = fact["kind"]
    if kind == "speech":
        yield _row(fact, "transcription", fact["text"], rng)
        yield _row(fact, "mood", fact["mood"], rng)
    elif kind == "instruction":
        yield _row(fact, "spoken_instruction", fact["answer"], rng)
        yield _row(fact, "transcription", fact["text"], rng)
    elif kind == "music":
        yield _row(fact, "instrument", fact["family"], rng)
        if "pitch_class" in fact:
            yield _row(fact, "pitch_class", fact["pitch_class"], rng)
        else:
            yield _row(fact, "chord", fact["chord"], rng)
        if rng.random() < 0.3:
            yield _choice(fact, "Which instrument family plays?", fact["family"], tuple(PROGRAMS), rng)
    elif kind == "event":
        yield _row(fact, "event", fact["event"], rng)
        yield _choice(fact, "Which sound is heard?", fact["event"], EVENTS, rng)
    else:
        yield _row(fact, "background", fact["event"], rng)
    if rng.random() < 0.25 or "+" in kind:
        yield _row(fact, "caption", _caption(fact), rng)


def _row(fact: dict[str, Any], task: str, answer: str, rng: np.random.Generator) -> Row:
    return {
        "id": f"{fact['id']}-{task}",
        "task": task,
        "group": GROUPS[task],
        "messages": [
            {"role": "user", "content": f"<audio>{rng.choice(PROMPTS[task])}"},
            {"role": "assistant", "content": answer},
        ],
        "audios": [fact["audio"]],
    }


def _choice(fact: dict[str, Any], question: str, answer: str, names: tuple[str, ...], rng: np.random.Generator) -> Row:
    others = rng.choice([name for name in names if name != answer], len(LETTERS) - 1, replace=False)
    options = rng.permutation([answer, *others]).tolist()
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
    return {
        "id": f"{fact['id']}-choice",
        "task": "choice",
        "group": GROUPS["choice"],
        "messages": [
            {"role": "user", "content": f"<audio>{question}\n{lines}\nAnswer with the letter."},
            {"role": "assistant", "content": LETTERS[options.index(answer)]},
        ],
        "audios": [fact["audio"]],
        "choices": options,
    }


def _caption(fact: dict[str, Any]) -> str:
    parts = []
    if "voice" in fact:
        parts.append("a person speaks")
    if "family" in fact:
        parts.append(f"{fact['family']} plays a {'chord' if 'chord' in fact else 'note'}")
    if "event" in fact:
        parts.append(f"{fact['event']} is heard")
    return " and ".join(parts)


def _text_only(row_id: str, rng: np.random.Generator) -> Row:
    kind = rng.integers(3)
    if kind == 0:
        word = str(rng.choice(list(OPPOSITES)))
        question, answer = f"What is the opposite of {word}?", OPPOSITES[word]
    elif kind == 1:
        adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
        question, answer = f"Repeat the words {adjective} {noun}.", f"{adjective} {noun}"
    else:
        low, high = sorted(rng.choice(len(NUMBERS), 2, replace=False))
        question, answer = f"Count from {NUMBERS[low]} to {NUMBERS[high]}.", " ".join(NUMBERS[low : high + 1])
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": row_id, "task": "text_only", "group": "text", "messages": messages, "audios": []}
