"""Items of an evaluation: one for each row of a benchmark or manifest; clips are read later."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from coat.audio import Clip, decode_audio, measure_audio
from coat.data.conversation import MARK, Message, in_parts, user_message
from coat.data.manifest import Row
from coat.data.sources.text import gigaspeech, squeezed, switchboard
from coat.errors import CoatError
from coat.evaluation.task import LETTERS, Task

_LETTERED = re.compile(r"^\s*\(?([A-Z])[.):]\)?\s*(.*?)\s*$")
_OPTION_LINE = re.compile(r"^(\(?[A-Z][.):]\s*)(\S.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Sound:
    """A clip, not decoded yet.

    Attributes:
        name: Name in messages.
        fetch: Its file's bytes.
        start: Start, in seconds.
        end: In seconds; the end of the file if None.
        channel: To take alone; None mixes them.
    """

    name: str
    fetch: Callable[[], bytes]
    start: float = 0.0
    end: float | None = None
    channel: int | None = None

    def load(self) -> Clip:
        """Decode it.

        Raises:
            CoatError: It is no audio, or cannot be heard; see :func:`coat.audio.load_audio`.
        """
        return decode_audio(self.fetch(), self.name, start=self.start, end=self.end, channel=self.channel)

    def measure(self) -> tuple[float, str]:
        """Seconds, and a key of the content.

        Raises:
            CoatError: It is no audio.
        """
        data = self.fetch()
        seconds = measure_audio(data, self.name, start=self.start, end=self.end)
        digest = blake2b(data, digest_size=16)
        digest.update(repr((self.start, self.end, self.channel)).encode())
        return seconds, digest.hexdigest()

    @classmethod
    def of_file(
        cls, path: Path, start: float = 0.0, end: float | None = None, channel: int | None = None
    ) -> Sound:  # fmt: skip
        """The sound of a file, or of a stretch of one."""

        def fetch() -> bytes:
            try:
                return path.read_bytes()
            except (OSError, ValueError):
                raise CoatError(f"There is no audio file at {path}.", "Check the data's folder.") from None

        return cls(str(path), fetch, start, end, channel)


@dataclass(frozen=True)
class Item:
    """One question, with what is known about it.

    Attributes:
        id: Unique in its task.
        task: Its task's name.
        prompt: The question, without options; or a whole prompt where ``messages`` are given.
        reference: The right answer's text.
        options: Options of a choice, as they stand.
        right: Indices of the correct options.
        cluster: Items that share a clip or a speaker are not independent.
        facts: To be shown, and scored apart.
        judge_question: The question as the judge is told it.
        seconds: Seconds of audio.
        clips: Keys of the clips' content.
        messages: Messages of a manifest's row, in place of a prompt.
        sounds: The clips; none where only scores are computed.
    """

    id: str
    task: str
    prompt: str
    reference: str
    options: tuple[str, ...] = ()
    right: int | None = None
    cluster: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    judge_question: str = ""
    seconds: float = 0.0
    clips: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    sounds: tuple[Sound, ...] = field(default=(), compare=False, repr=False)

    def rotated(self, order: int) -> tuple[str, ...]:
        """Its options, shifted round by so many places."""
        return self.options[order:] + self.options[:order]

    def right_in(self, order: int) -> int | None:
        """Where the right option then stands."""
        return None if self.right is None else (self.right - order) % len(self.options)

    def conversation(self, task: Task, order: int = 0, profile: str = "") -> list[Message]:
        """The prompt; clips are parts of its messages."""
        if not self.messages:
            return [user_message(task.ask(self.prompt, self.rotated(order), profile), len(self.clips))]
        *before, last = self.messages
        if order:
            last = {**last, "content": _with_options(str(last["content"]), self.rotated(order))}
        return [in_parts(message) for message in (*before, last)]

    def record(self) -> dict[str, Any]:
        """All but the sounds, as plain data."""
        left_out = ("sounds",)
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}

    @classmethod
    def of_record(cls, raw: Mapping[str, Any]) -> Item:
        """From what :meth:`record` gave."""
        lists = {name: tuple(raw[name]) for name in ("options", "clips", "messages")}
        return cls(**{**raw, **lists})


def item_of_row(task: Task, raw: Mapping[str, Any], place: int, *sounds: Sound) -> Item:
    """An item of a benchmark's row.

    Args:
        task: Task of the items.
        raw: The row's columns, without the audio.
        place: Index of the row.
        *sounds: The clips.

    Raises:
        CoatError: A column is missing, or the answer is none of the options.
    """
    columns = task.columns
    name = name_of(task, raw, place)
    question = _text(raw, columns.question, task, name)
    answer = _text(raw, columns.answer, task, name)
    options = read_options(task, raw, name) if task.kind == "choice" else ()
    right = None
    if task.kind == "choice":
        right = which_option(answer, options, task.answer_is)
        if right is None:
            raise CoatError(
                f"Row {name} of {task.name}: the answer {answer!r} is none of {list(options)}.",
                f"Its answer should be {'a letter' if task.answer_is == 'letter' else 'the text of an option'}.",
            )
    speaker = value_of(raw, columns.speaker)
    facts = {key.rsplit(".", 1)[-1]: value_of(raw, key) for key in columns.facts}
    return Item(
        id=name,
        task=task.name,
        prompt=question,
        reference=options[right] if right is not None else reference_of(task, answer, name),
        options=options,
        right=right,
        cluster="" if speaker is None or speaker == "" else str(speaker),
        facts={key: _plain(value) for key, value in facts.items() if value not in (None, "")},
        judge_question=_text(raw, columns.judge_question, task, name),
        sounds=sounds,
    )


def name_of(task: Task, raw: Mapping[str, Any], place: int) -> str:
    """The name of a row: its id, or its place where the data has none."""
    given = value_of(raw, task.columns.id)
    return f"{place:06d}" if given is None else str(given)


def is_open(task: Task, raw: Mapping[str, Any]) -> bool:
    """Whether a row of a choice has nothing to choose from, or no answer."""
    columns = task.columns
    names = [columns.options] if isinstance(columns.options, str) else list(columns.options or ())
    return not any(value_of(raw, name) for name in names) or not value_of(raw, columns.answer)


def value_of(raw: Mapping[str, Any], name: str | None) -> Any:
    """A column's value, or ``column.field`` of one that holds several, as such or as JSON; None where there is none."""
    if name is None or name in raw:
        return None if name is None else raw[name]
    column, _, field_name = name.partition(".")
    held = raw.get(column)
    if isinstance(held, str) and field_name:
        try:
            held = json.loads(held)
        except ValueError:
            return None
    return value_of(held, field_name) if field_name and isinstance(held, Mapping) else None


def _plain(value: Any) -> str:
    """A fact as text; some rows hold a list of one where others hold the one."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def item_of_manifest(task: Task, row: Row) -> Item:
    """An item of a manifest's row.

    Raises:
        CoatError: It has no answer, or a choice's answer is none of its options.
    """
    if not row.answer:
        raise CoatError(f"Row {row.id} has no answer to score by.", "End its messages with the right answer.")
    right = None
    if task.kind == "choice":
        right = which_option(row.answer, row.choices, "letter")
        if right is None:
            raise CoatError(
                f"Row {row.id}: the answer {row.answer!r} is none of {list(row.choices)}.",
                "Answer with an option's letter or text.",
            )
    facts = {"language": row.language, "source": row.source, "group": row.group}
    return Item(
        id=row.id,
        task=task.name,
        prompt="",
        reference=row.choices[right] if right is not None else row.answer,
        options=row.choices if right is not None else (),
        right=right,
        facts={key: value for key, value in facts.items() if value},
        judge_question=str(row.messages[-2]["content"]).replace(MARK, ""),
        messages=tuple({"role": m["role"], "content": m["content"]} for m in row.messages[:-1]),
        sounds=tuple(Sound.of_file(ref.path, ref.start, ref.end, ref.channel) for ref in row.audios),
    )


def reference_of(task: Task, answer: str, name: str) -> str:
    """The reference that answers are held against: markup taken out, classes by name.

    Raises:
        CoatError: A class that the task does not know.
    """
    if task.clean == "gigaspeech":
        return gigaspeech(answer)
    if task.clean == "switchboard":
        return switchboard(_spoken(answer))
    if task.kind != "label":
        return answer
    by_name = {label.lower(): label for label in task.labels}
    found = by_name.get(task.values.get(answer, answer).strip().lower())
    if found is None:
        raise CoatError(
            f"Row {name} of {task.name} is of class {answer!r}; the task has {', '.join(task.labels)}.",
            "Name it under 'values' in the task.",
        )
    return found


def _spoken(text: str) -> str:
    """The markup of NIST's transcripts: contractions, fillers, breaths, words that break off."""
    text = re.sub(r"<contraction[^>]*>|</?\w+[^>]*>", " ", text)
    text = re.sub(r"\{[^}]*\}|\(\(|\)\)|\[\[[^\]]*\]\]", " ", text)
    text = re.sub(r"(?<!\w)[%@&^+*](?=\w)", "", text)
    return squeezed(re.sub(r"(?<!\S)\S*-(?!\S)", " ", text))


def read_options(task: Task, raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A choice's options, however the data holds them.

    Raises:
        CoatError: There are fewer than two.
    """
    columns = task.columns.options
    if isinstance(columns, tuple):
        found = [str(raw[column]) for column in columns if raw.get(column) not in (None, "")]
    else:
        value = value_of(raw, columns)
        if isinstance(value, str):
            value = _read_text_options(value)
        found = [str(option) for option in value or ()]
    lettered = [_LETTERED.match(option) for option in found]
    if found and all(match and match[1] == LETTERS[i] for i, match in enumerate(lettered)):
        found = [match[2] for match in lettered if match]
    if len(found) < 2:
        raise CoatError(
            f"Row {name} of {task.name} has {len(found)} option(s).", "Check 'columns.options' of the task."
        )
    return tuple(found)


def _read_text_options(text: str) -> Sequence[Any]:
    try:
        value = json.loads(text)
        if isinstance(value, list):
            return value
    except ValueError:
        pass
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return lines
    # Lettered options on one line: "(A) one (B) two".
    return [part.strip() for part in re.split(r"\s*(?=\([A-Z]\)\s)", text) if part.strip()]


def which_option(answer: str, options: Sequence[str], answer_is: str) -> int | None:
    """The place of the right option, given as its text, its letter, or both."""
    answer = answer.strip()
    texts = [option.strip().lower() for option in options]
    by_text = texts.index(answer.lower()) if answer.lower() in texts else None
    match = re.match(r"^\(?([A-Za-z])(?:[).:]+\s*(.*))?$", answer)
    letter = LETTERS.find(match[1].upper()) if match else -1
    by_letter = letter if 0 <= letter < len(options) else None
    first, second = (by_letter, by_text) if answer_is == "letter" else (by_text, by_letter)
    return second if first is None else first


def lettered_lines(text: str) -> list[str]:
    """Options that a prompt lists, one a line, with letters from A on."""
    found = _OPTION_LINE.findall(text)
    ordered = all(head.strip("(.): ") == LETTERS[i] for i, (head, _) in enumerate(found))
    return [option for _, option in found] if ordered else []


def _with_options(text: str, options: Sequence[str]) -> str:
    """A prompt with its lettered lines filled with other options."""
    rest = iter(options)
    return _OPTION_LINE.sub(lambda match: match[1] + next(rest), text)


def can_rotate(item: Item) -> bool:
    """Whether its options can be asked in another order."""
    if len(item.options) < 2:
        return False
    if not item.messages:
        return True
    return lettered_lines(str(item.messages[-1]["content"])) == list(item.options)


def _text(raw: Mapping[str, Any], column: str | None, task: Task, name: str) -> str:
    if column is None:
        return ""
    value = value_of(raw, column)
    if value is None:
        raise CoatError(
            f"Row {name} of {task.name} has no '{column}'; it has {', '.join(sorted(raw))}.",
            f"coat eval check {task.name} shows what is expected.",
        )
    if column in task.label_names and isinstance(value, int):
        return task.label_names[column][value]
    return str(value)
