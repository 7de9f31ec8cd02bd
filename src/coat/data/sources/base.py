"""Base class of corpora: records as their makers publish them, and the questions that are asked about each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from coat.errors import CoatError

Record = Mapping[str, Any]
AUDIO_COLUMNS = ("audio", "context")


@dataclass(frozen=True)
class Asked:
    """A question about a record, and its answer.

    Attributes:
        question: Without the audio's mark.
        answer: Answer to train on.
        task: Name of the task, for scores.
        choices: The options of a multiple-choice question.
        messages: A whole conversation with its marks, in place of question and answer.
        metadata: Other fields of the record.
    """

    question: str
    answer: str
    task: str
    choices: tuple[str, ...] = ()
    messages: tuple[dict[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Corpus(ABC):
    """A training corpus.

    A corpus on the hub is streamed from there; one that is had as files is read from a folder of them.

    Attributes:
        name: Its key.
        title: Name for tables.
        group: Its task group (App. A).
        licence: Licence of the data.
        access: Steps to get access.
        hub_id: ``owner/name`` on the hub; empty where it comes as files.
        config: Configuration of the hub's data set.
        splits: Names of the splits to train on.
        files: Contents of its folder, for corpora that come as files.
        installed: The folder where a system package puts those files.
        language: Language of its speech.
        has_audio: False for text alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    group: ClassVar[str]
    licence: ClassVar[str]
    access: ClassVar[str] = "open"
    hub_id: ClassVar[str] = ""
    config: ClassVar[str | None] = None
    splits: ClassVar[Sequence[str]] = ("train",)
    load_options: ClassVar[Mapping[str, Any]] = {}
    files: ClassVar[str] = ""
    installed: ClassVar[str] = ""
    language: ClassVar[str] = "en"
    has_audio: ClassVar[bool] = True

    @abstractmethod
    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """Questions about a record; none if it is not to be trained on.

        Args:
            record: One row, with labels by name.
            rng: Chooses wordings; seeded by the record's place.
        """

    def audio(self, record: Record) -> Any:
        """Its clip.

        A path, ``{"path", "start", "end"}``, ``{"bytes", "path"}``, a file's bytes, or ``{"array", "sampling_rate"}``.
        """
        return pick(record, *AUDIO_COLUMNS)

    def key(self, record: Record, place: int) -> str:
        """Id of the record; unique within the corpus."""
        del record
        return f"{place:08d}"

    def read(self, folder: Path) -> Iterator[Record]:
        """Records of a folder of files.

        Raises:
            CoatError: The corpus does not come as files, or the folder does not hold them.
        """
        raise CoatError(f"{self.name} is read from the hub, not from a folder.", "Leave --from out.")


def pick(record: Record, *names: str) -> Any:
    """The first column that is there: mirrors name them differently.

    Raises:
        CoatError: None is.
    """
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise CoatError(
        f"A record has none of the columns {', '.join(names)}; it has {', '.join(sorted(record))}.",
        "The data set may have changed: give a revision, or a manifest of your own.",
    )


def wanted(folder: Path, name: str, corpus: Corpus) -> Path:
    """A file of a corpus's folder.

    Raises:
        CoatError: It is not there.
    """
    path = folder / name
    if not path.exists():
        raise CoatError(f"{folder} holds no {name}.", f"{corpus.name} needs {corpus.files}. {corpus.access}")
    return path


def choose(rng: np.random.Generator, wordings: Sequence[str]) -> str:
    """One of some wordings."""
    return wordings[int(rng.integers(len(wordings)))]


def lettered(options: Sequence[str]) -> str:
    """Options as lines: ``(A) one``."""
    return "\n".join(f"({chr(65 + index)}) {option}" for index, option in enumerate(options))


def multiple_choice(question: str, options: Sequence[str], right: str, task: str, rng: np.random.Generator) -> Asked:
    """A question with its options in an order that the generator shuffles."""
    order = [options[index] for index in rng.permutation(len(options))]
    letter = chr(65 + order.index(right))
    return Asked(f"{question}\n{lettered(order)}", f"({letter}) {right}", task, tuple(order))
