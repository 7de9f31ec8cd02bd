"""Rows in the ``messages`` + ``audios`` convention of ms-swift and LLaMA-Factory, and where their clips are.

```json
{"id": "a1", "messages": [{"role": "user", "content": "<audio>What is said?"},
                          {"role": "assistant", "content": "hello"}], "audios": ["a.wav"]}
```

One ``<audio>`` for each entry of ``audios``, which may be a path (relative ones start at the manifest) or
``{"path", "start", "end", "seconds", "channel"}``. ``id``, ``task``, ``group``, ``choices``, ``language``, ``source``,
``licence``, ``seconds`` and ``metadata`` are optional. What other trainers write is read too:
:mod:`coat.data.formats`; from which files: :mod:`coat.data.reading`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from coat.audio import AudioError, Clip, load_audio, measure_audio
from coat.data.conversation import Conversation
from coat.data.formats import canonical
from coat.data.reading import Record, read_records
from coat.errors import CoatError

# A file may differ so much from the duration that its row says: decoders differ, and people round.
WRONG_SECONDS, WRONG_SHARE = 0.5, 0.05


def is_another_clips(told: float, seconds: float) -> bool:
    """Whether a row's duration is so far from its file's that it is another clip's."""
    return abs(told - seconds) > max(WRONG_SECONDS, WRONG_SHARE * seconds)


@dataclass(frozen=True)
class AudioRef:
    """Where a clip is: a file, or a stretch of it in seconds.

    Attributes:
        path: Path of the file.
        start: Start, in seconds.
        end: In seconds; the end of the file if None.
        channel: To take alone, from 0; None mixes them.
        known_seconds: Its duration, where the manifest says so; then no header is read to know it.
    """

    path: Path
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    known_seconds: float | None = field(default=None, compare=False)

    def load(self, max_seconds: float | None = None) -> Clip:
        """Decode it.

        Raises:
            AudioError: See :func:`coat.audio.load_audio`; or it lasts longer or shorter than its row says.
        """
        clip = load_audio(self.path, start=self.start, end=self.end, channel=self.channel, max_seconds=max_seconds)
        told = self.known_seconds
        if told is not None and is_another_clips(told, clip.seconds):
            raise AudioError(
                f"{self.path} lasts {clip.seconds:.2f} s; its row says {told:.2f} s.",
                "Correct 'seconds' or 'duration'. To hear only a part of a file, say where it starts too: "
                "'offset' and 'duration', or 'start' and 'end'.",
                "duration",
            )
        return clip

    @cached_property
    def seconds(self) -> float:
        """Duration: as the row says, or as the file has it; see :func:`coat.audio.measure_audio`.

        Raises:
            AudioError: The file is missing or is not audio.
        """
        if self.known_seconds is not None:
            return self.known_seconds
        if self.end is not None:
            return self.end - self.start
        return measure_audio(self.path, start=self.start)

    def identity(self) -> tuple[str, float, float, int, int, int]:
        """Key that changes when the audio does: file, segment, channel, size, time of change.

        Raises:
            OSError: There is no such file.
        """
        state, stop = self.path.stat(), -1.0 if self.end is None else self.end
        channel = -1 if self.channel is None else self.channel
        return str(self.path.resolve()), self.start, stop, channel, state.st_size, state.st_mtime_ns


@dataclass(frozen=True)
class Row:
    """One line of a manifest.

    Attributes:
        id: Unique within the manifest; its line number if it has none.
        messages: ``{"role", "content"}`` each, and ``"loss": False`` where a turn is not to be trained on.
        audios: One entry for each ``<audio>``.
        task: Name of the task, for scores.
        group: Task group.
        choices: The options of a multiple-choice question.
        language: Language of speech in it.
        source: The corpus it comes from.
        licence: Licence of the clip.
    """

    id: str
    messages: list[dict[str, Any]]
    audios: list[AudioRef]
    task: str = ""
    group: str = ""
    choices: tuple[str, ...] = ()
    language: str = ""
    source: str = ""
    licence: str = ""

    @property
    def answer(self) -> str:
        """The last assistant message, or nothing."""
        last = self.messages[-1]
        return last["content"] if last["role"] == "assistant" else ""

    @property
    def seconds(self) -> float:
        """Audio in all."""
        return sum(audio.seconds for audio in self.audios)

    def conversation(self, *, answered: bool, max_seconds: float | None = None) -> Conversation:
        """Decode the clips; leave the last answer out unless ``answered``."""
        messages = self.messages if answered or not self.answer else self.messages[:-1]
        try:
            clips = [audio.load(max_seconds) for audio in self.audios]
        except AudioError as error:
            raise error.named(f"Row {self.id}") from None
        return Conversation(messages, clips, name=self.id)


def read_manifest(path: str | Path, *, ignore: Collection[str] = (), answered: bool = False) -> list[Row]:
    """Read every row, or say everything that is wrong with them at once.

    Args:
        path: JSON Lines, a JSON array or Parquet, see :mod:`coat.data.reading`.
        ignore: Fields to pass over.
        answered: Rows without an answer to train on are malformed.

    Raises:
        CoatError: The file is missing or empty, or lines of it are malformed; up to ten are named.
    """
    path = existing(path)
    rows: list[Row] = []
    problems: list[str] = []
    for record in read_records(path):
        try:
            rows.append(row_of(record, path.parent, ignore=ignore, answered=answered))
        except RowError as error:
            problems.append(f"{record.where}: {error}")
    seen = Counter(row.id for row in rows)
    problems += [f"id '{row_id}' is used {count} times" for row_id, count in seen.items() if count > 1]
    if problems:
        raise CoatError(f"{path} has {listed(problems, 'bad row')}", "docs/data.md shows the format.")
    if not rows:
        raise no_rows(path)
    return rows


def no_rows(path: Path) -> CoatError:
    """The error of a manifest without rows."""
    return CoatError(f"{path} holds no rows.", "docs/data.md shows the format.")


def existing(path: str | Path) -> Path:
    """The path of a manifest that is there.

    Raises:
        CoatError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise CoatError(f"There is no manifest at {path}.", "Check the path: in a recipe it is data.train_dataset.")
    return path


def listed(problems: list[str], what: str) -> str:
    """How many problems, and the first ten."""
    shown = "\n".join(f"  {problem}" for problem in problems[:10])
    more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
    return f"{len(problems)} {what}{'s' if len(problems) > 1 else ''}:\n{shown}{more}"


class RowError(ValueError):
    """A row that cannot be used.

    Attributes:
        kind: ``malformed row``, ``empty answer`` or ``no answer``.
    """

    def __init__(self, problem: str, kind: str = "malformed row") -> None:
        super().__init__(problem)
        self.kind = kind


def row_of(record: Record, root: Path, *, ignore: Collection[str] = (), answered: bool = False) -> Row:
    """A row of a manifest, as every command takes it.

    Args:
        record: As it was read.
        root: Folder that relative paths start from.
        ignore: Fields to pass over.
        answered: It must have an answer that is trained on.

    Raises:
        RowError: It is malformed, or has no answer.
    """
    if record.problem:
        raise RowError(record.problem)
    try:
        row = canonical(record.raw, ignore=ignore)
    except ValueError as error:
        raise RowError(str(error)) from None
    messages = row["messages"]
    trained = [m for m in messages if m["role"] == "assistant" and m.get("loss", True)]
    if any(not message["content"].strip() for message in trained):
        raise RowError("the answer is empty", "empty answer")
    if answered and not trained:
        raise RowError(
            "there is no assistant message to train on: answers stand under 'messages' or, for example, 'response'",
            "no answer",
        )
    return Row(
        id=row.get("id", f"{'line' if record.where.startswith('line') else 'row'}-{record.number}"),
        messages=messages,
        audios=[_ref(clip, root) for clip in row["audios"]],
        choices=row.get("choices", ()),
        **{name: row.get(name, "") for name in ("task", "group", "language", "source", "licence")},
    )


def _ref(clip: dict[str, Any], root: Path) -> AudioRef:
    return AudioRef(
        root / clip["path"], clip.get("start", 0.0), clip.get("end"), clip.get("channel"), clip.get("seconds")
    )
