"""IEMOCAP: acted dialogues with emotions. Session 5 is left for evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, multiple_choice
from coat.data.sources.prompts import EMOTION
from coat.errors import CoatError

# The four classes of the usual protocol; excitement counts as happiness.
EMOTIONS = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
SESSIONS = (1, 2, 3, 4)

_LINE = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t", re.MULTILINE)


class Iemocap(Corpus):
    """Emotion of an utterance, four classes, as a choice. Sessions 1 to 4."""

    name = "iemocap"
    title = "acted dialogues, emotion of an utterance, sessions 1 to 4"
    group = "choice"
    licence = "USC's release form; not to be passed on"
    access = "Sign the form at sail.usc.edu/iemocap."
    sessions: tuple[int, ...] = SESSIONS
    files = "Session1/ to Session4/ of IEMOCAP_full_release"

    def read(self, folder: Path) -> Iterator[Record]:
        """Utterances with one of the four emotions."""
        labels = [path for s in self.sessions for path in sorted(folder.glob(f"Session{s}/dialog/EmoEvaluation/*.txt"))]
        if not labels:
            raise CoatError(
                f"{folder} holds no Session*/dialog/EmoEvaluation.", f"It needs {self.files}. {self.access}"
            )
        for path in labels:
            session = path.parents[2]
            for utterance, label in _LINE.findall(path.read_text(errors="replace")):
                if label in EMOTIONS:
                    sound = session / "sentences" / "wav" / path.stem / f"{utterance}.wav"
                    yield {"id": utterance, "emotion": EMOTIONS[label], "audio": str(sound)}

    def key(self, record: Record, place: int) -> str:
        """The utterance's own."""
        return str(record["id"])

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        options = sorted(set(EMOTIONS.values()))
        yield multiple_choice(choose(rng, EMOTION), options, record["emotion"], "emotion", rng)


class IemocapQA(Iemocap):
    """The same utterances, asked without options."""

    name = "iemocap_qa"
    title = "acted dialogues, emotion in a word, sessions 1 to 4"
    group = "qa"

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        yield Asked(choose(rng, EMOTION) + " Answer in one word.", record["emotion"], "emotion")
