"""Manifests: JSON Lines in the ``messages`` + ``audios`` convention of ms-swift and LLaMA-Factory.

```json
{"id": "a1", "messages": [{"role": "user", "content": "<audio>What is said?"},
                          {"role": "assistant", "content": "hello"}], "audios": ["a.wav"]}
```

One ``<audio>`` for each entry of ``audios``, which may be a path (relative ones start at the manifest) or
``{"path", "start", "end", "seconds"}``. ``id``, ``task``, ``group``, ``choices``, ``language``, ``source``,
``licence`` and ``seconds`` are optional. What other trainers write is read too: :mod:`coat.data.formats`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from coat.audio import Clip, load_audio
from coat.data.conversation import Conversation
from coat.data.formats import MARK, canonical
from coat.errors import CoatError


@dataclass(frozen=True)
class AudioRef:
    """Where a clip is: a file, or a stretch of it in seconds.

    Attributes:
        path: Of the file.
        start: In seconds.
        end: In seconds; the end of the file if None.
        known_seconds: Its duration, where the manifest says so; then no header is read to know it.
    """

    path: Path
    start: float = 0.0
    end: float | None = None
    known_seconds: float | None = field(default=None, compare=False)

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

        if self.known_seconds is not None:
            return self.known_seconds
        if self.end is not None:
            return self.end - self.start
        try:
            info = soundfile.info(str(self.path))
        except (soundfile.LibsndfileError, OSError):
            return self.load().seconds  # raises with the remedy, or reads what only decodes
        return info.frames / info.samplerate - self.start

    def identity(self) -> tuple[str, float, float, int, int]:
        """What changes when the sound does: file, stretch, size, time of change.

        Raises:
            OSError: There is no such file.
        """
        state, stop = self.path.stat(), -1.0 if self.end is None else self.end
        return str(self.path.resolve()), self.start, stop, state.st_size, state.st_mtime_ns


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
        language: Of speech in it.
        source: The corpus it comes from.
        licence: Of the clip.
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
            rows.append(parse_row(json.loads(line), number, path.parent))
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


def listed(problems: list[str], what: str) -> str:
    """How many problems, and the first ten."""
    shown = "\n".join(f"  {problem}" for problem in problems[:10])
    more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
    return f"{len(problems)} {what}{'s' if len(problems) > 1 else ''}:\n{shown}{more}"


def parse_row(raw: dict[str, Any], number: int, root: Path) -> Row:
    """One row of a manifest.

    Args:
        raw: As it was read.
        number: Of its line.
        root: Where relative paths start.

    Raises:
        ValueError: It is malformed.
    """
    row = canonical(raw)
    messages = row["messages"]
    if messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        raise ValueError("the answer is empty")
    seconds = row.get("seconds")
    audios = [_parse_audio(audio, root, seconds if len(row["audios"]) == 1 else None) for audio in row["audios"]]
    marks = sum(message["content"].count(MARK) for message in messages)
    if marks != len(audios):
        raise ValueError(f"{marks} <audio> mark(s) but {len(audios)} entry(ies) in 'audios'")
    return Row(
        id=str(row.get("id", f"line-{number}")),
        messages=messages,
        audios=audios,
        choices=tuple(row.get("choices") or ()),
        **{name: str(row.get(name) or "") for name in ("task", "group", "language", "source", "licence")},
    )


def _parse_audio(raw: Any, root: Path, seconds: float | None) -> AudioRef:
    if isinstance(raw, str):
        raw = {"path": raw}
    elif not isinstance(raw, dict) or not isinstance(raw.get("path"), str):
        raise ValueError("an entry of 'audios' must be a path, or an object with a 'path'")
    path = raw["path"].removeprefix("file://")
    if "://" in path:
        raise ValueError(f"{path} is on a network: fetch it first, and name the file")
    start, end = float(raw.get("start") or 0.0), raw.get("end")
    if end is not None and not 0 <= start < float(end):
        raise ValueError(f"a stretch from {start} s to {end} s holds nothing")
    known = raw.get("seconds", seconds if end is None else None)
    return AudioRef(root / path, start, None if end is None else float(end), None if known is None else float(known))
