"""Voices, instruments, events and words of the small world, and the part of them that each split may use.

A split owns its voices, instrument programs, event styles and sentences, so a model that does well
on ``test`` has learned the quality (a mood, a pitch class, a family) and not the recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

SAMPLING_RATE = 16_000
MIN_SECONDS, MAX_SECONDS = 2.0, 4.0

# espeak-ng voices: an accent and a variant. No variant is in two splits.
VOICES: dict[Split, tuple[str, ...]] = {
    "train": (
        "en-us+m2", "en-us+f2", "en-gb+m3", "en-gb+f3", "en-gb-scotland+m4", "en-gb-x-rp+f4",
        "en-us+m5", "en-gb+f1", "en-us+Andy", "en-gb-x-rp+Michael", "en-us+Linda", "en-gb+Steph",
    ),
    "dev": ("en-us+m6", "en-gb+Belinda", "en-us+Mike"),
    "test": ("en-us+m7", "en-gb+m8", "en-us+f5", "en-gb-x-rp+Annie"),
}  # fmt: skip


@dataclass(frozen=True)
class Prosody:
    """How a mood is spoken: espeak-ng's words a minute, pitch (0-99), SSML pitch range and amplitude (0-200)."""

    rate: int
    pitch: int
    pitch_range: str
    amplitude: int


MOODS: dict[str, Prosody] = {
    "calm": Prosody(rate=150, pitch=45, pitch_range="medium", amplitude=70),
    "excited": Prosody(rate=205, pitch=75, pitch_range="x-high", amplitude=110),
    "sad": Prosody(rate=115, pitch=28, pitch_range="x-low", amplitude=45),
    "angry": Prosody(rate=190, pitch=35, pitch_range="high", amplitude=150),
}

# General MIDI programs (from 0) of seven families. No program is in two splits.
PROGRAMS: dict[str, dict[Split, tuple[int, ...]]] = {
    "piano": {"train": (0, 1, 3), "dev": (4,), "test": (2, 5)},
    "mallets": {"train": (9, 12, 11), "dev": (13,), "test": (10, 8)},
    "organ": {"train": (16, 18, 20), "dev": (21,), "test": (17, 19)},
    "guitar": {"train": (24, 26, 30), "dev": (28,), "test": (25, 27)},
    "strings": {"train": (40, 42, 48), "dev": (41,), "test": (49, 44)},
    "brass": {"train": (56, 57, 61), "dev": (58,), "test": (60, 59)},
    "woodwind": {"train": (65, 71, 73), "dev": (66,), "test": (68, 72)},
}

PITCH_CLASSES = (
    "C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B",
)  # fmt: skip
# Notes sit where 128 mel bands tell semitones apart.
LOWEST_NOTE, HIGHEST_NOTE = 60, 95

EVENTS = (
    "rain", "wind", "siren", "alarm", "bell", "applause", "knocking", "engine",
    "bird", "telephone", "footsteps", "thunder",
)  # fmt: skip

# An event's style is a number in [0, 1) that sets its pitch, speed and colour. The range is cut in
# twenty slices; of every five, the fourth belongs to dev and the fifth to test.
STYLE_SLICES = 20


def draw_style(split: Split, rng: np.random.Generator) -> float:
    """A style in [0, 1) from the slices that the split owns."""
    owned = [i for i in range(STYLE_SLICES) if slice_owner(i) == split]
    return float((rng.choice(owned) + rng.uniform(0.05, 0.95)) / STYLE_SLICES)


def slice_owner(index: int) -> Split:
    """Which split owns a style slice."""
    position = index % 5
    return "dev" if position == 3 else "test" if position == 4 else "train"


ADJECTIVES = ("small", "red", "old", "happy", "cold", "green", "loud", "soft", "dark", "sweet")
NOUNS = (
    "dog", "boat", "tree", "child", "river", "house", "bird", "teacher", "horse", "garden",
    "window", "doctor", "mountain", "train", "flower",
)  # fmt: skip
VERBS = ("finds", "sees", "wants", "follows", "paints", "carries", "likes", "moves")
PLACES = ("today", "again", "outside", "at night", "in town", "by the sea")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "fast": "slow", "happy": "sad",
    "old": "new", "wet": "dry", "open": "closed", "light": "dark", "soft": "hard", "left": "right",
}  # fmt: skip


def text_owner(text: str) -> Split:
    """Which split may use a sentence: 80 % train, 8 % dev, 12 % test, by its hash."""
    share = int.from_bytes(blake2b(text.encode(), digest_size=4).digest()) / 2**32
    return "train" if share < 0.80 else "dev" if share < 0.88 else "test"


def draw_sentence(split: Split, rng: np.random.Generator) -> str:
    """A short plain sentence that only this split uses."""
    while True:
        words = ["the", rng.choice(ADJECTIVES), rng.choice(NOUNS), rng.choice(VERBS)]
        if rng.random() < 0.5:
            words += ["the", rng.choice(NOUNS)]
        else:
            words += [rng.choice(NUMBERS[1:]), rng.choice(NOUNS) + "s"]
        if rng.random() < 0.3:
            words.append(rng.choice(PLACES))
        sentence = " ".join(words)
        if text_owner(sentence) == split:
            return sentence


def draw_instruction(split: Split, rng: np.random.Generator) -> tuple[str, str]:
    """A spoken instruction and the answer that follows it; the wording is this split's alone."""
    while True:
        kind = rng.integers(3)
        if kind == 0:
            first, second = rng.choice(NOUNS, 2, replace=False)
            spoken, answer = f"please say {first} {second}", f"{first} {second}"
        elif kind == 1:
            adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
            spoken, answer = f"repeat the words {adjective} {noun}", f"{adjective} {noun}"
        else:
            low, high = sorted(rng.choice(len(NUMBERS), 2, replace=False))
            spoken = f"count from {NUMBERS[low]} to {NUMBERS[high]}"
            answer = " ".join(NUMBERS[low : high + 1])
            # Few wordings of this kind exist: the same counting task may be heard in any split,
            # spoken by another voice.
            return spoken, answer
        if text_owner(spoken) == split:
            return spoken, answer
