"""Manifests: JSON Lines in the ``messages`` + ``audios`` convention of ms-swift and LLaMA-Factory.

```json
{"id": "a1", "messages": [{"role": "user", "content": "<audio>What is said?"},
                          {"role": "assistant", "content": "hello"}], "audios": ["a.wav"]}
```

One ``<audio>`` for each entry of ``audios``, which may be a path (relative ones start at the manifest) or
``{"path", "start", "end"}`` in seconds. ``id``, ``task``, ``group`` and ``choices`` are optional.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coat.audio import Clip, check_length, load_audio
from coat.data.conversation import Conversation
from coat.errors import CoatError

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class AudioRef:
    """Where a clip is: a file, or a stretch of it in seconds."""

    path: Path
    start: float = 0.0
    end: float | None = None

    def load(self, max_seconds: float | None = None) -> Clip:
        """Decode it."""
        return load_audio(self.path, start=self.start, end=self.end, max_seconds=max_seconds)

    @cached_property
    def seconds(self) -> float:
        """Duration, from the file's header alone.

        Raises:
            CoatError: The file is missing or is not audio.
        """
        import soundfile

        try:
            info = soundfile.info(str(self.path))
        except (soundfile.LibsndfileError, OSError):
            return self.load().seconds  # raises with the remedy, or reads what only decodes
        return (self.end if self.end is not None else info.frames / info.samplerate) - self.start


@dataclass(frozen=True)
class Row:
    """One line of a manifest.

    Attributes:
        id: Unique within the manifest; its line number if it has none.
        messages: As in the file.
        audios: One entry for each ``<audio>``.
        task: What is asked, for scores.
        group: Its task group.
        choices: The options of a multiple-choice question.
    """

    id: str
    messages: list[dict[str, Any]]
    audios: list[AudioRef]
    task: str = ""
    group: str = ""
    choices: tuple[str, ...] = ()

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
        except CoatError as error:
            raise CoatError(f"Row {self.id}: {error.problem}", error.remedy) from None
        return Conversation(messages, clips, name=self.id)


def read_manifest(path: str | Path) -> list[Row]:
    """Read every row, or say everything that is wrong with them at once.

    Raises:
        CoatError: The file is missing or empty, or lines of it are malformed; up to ten are named.
    """
    path = Path(path)
    if not path.is_file():
        raise CoatError(f"There is no manifest at {path}.", "Check data.train in the recipe.")
    rows: list[Row] = []
    problems: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(_parse(json.loads(line), number, path.parent))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"line {number}: {error}")
    seen: dict[str, int] = {}
    for row in rows:
        seen[row.id] = seen.get(row.id, 0) + 1
    problems += [f"id '{row_id}' is used {count} times" for row_id, count in seen.items() if count > 1]
    if problems:
        raise CoatError(f"{path} has {listed(problems, 'bad row')}", "docs/data.md shows the format.")
    if not rows:
        raise CoatError(f"{path} holds no rows.", "docs/data.md shows the format.")
    return rows


def measure(rows: Sequence[Row]) -> list[float]:
    """Seconds of audio in every row, from headers alone, so that bad files are named before anything runs.

    Raises:
        CoatError: Files are missing, are not audio, or hold less than one audio token; up to ten are named.
    """
    seconds: list[float] = []
    problems: list[str] = []
    remedy = ""
    for row in rows:
        try:
            for audio in row.audios:
                check_length(audio.seconds, str(audio.path))
            seconds.append(row.seconds)
        except CoatError as error:
            problems.append(f"{row.id}: {error.problem}")
            remedy = remedy or error.remedy
    if problems:
        raise CoatError(f"Audio is unusable in {listed(problems, 'row')}", remedy)
    return seconds


def listed(problems: list[str], what: str) -> str:
    """How many problems, and the first ten."""
    shown = "\n".join(f"  {problem}" for problem in problems[:10])
    more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
    return f"{len(problems)} {what}{'s' if len(problems) > 1 else ''}:\n{shown}{more}"


def _parse(raw: dict[str, Any], number: int, root: Path) -> Row:
    messages = raw.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' must be a list of at least one message")
    for message in messages:
        if message.get("role") not in ROLES:
            raise ValueError(f"role {message.get('role')!r} is not one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise ValueError("'content' must be text")
    if messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        raise ValueError("the answer is empty")
    audios = [_parse_audio(audio, root) for audio in raw.get("audios", [])]
    marks = sum(message["content"].count("<audio>") for message in messages)
    if marks != len(audios):
        raise ValueError(f"{marks} <audio> mark(s) but {len(audios)} entry(ies) in 'audios'")
    return Row(
        id=str(raw.get("id", f"line-{number}")),
        messages=messages,
        audios=audios,
        task=raw.get("task", ""),
        group=raw.get("group", ""),
        choices=tuple(raw.get("choices", ())),
    )


def _parse_audio(raw: str | dict[str, Any], root: Path) -> AudioRef:
    if isinstance(raw, str):
        return AudioRef(root / raw)
    return AudioRef(root / raw["path"], float(raw.get("start", 0.0)), raw.get("end"))
