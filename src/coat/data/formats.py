"""Rows as other trainers write them, brought to ``messages`` + ``audios``; understood whole, or refused by field.

| from | looks like |
| --- | --- |
| ms-swift | ``messages`` (``loss``) or ``query``/``response`` (many names), ``history``, ``system``; ``audios`` |
| LLaMA-Factory | ``conversations`` of ``from``/``value``; ``audios`` |
| Alpaca | ``instruction``, ``input``, ``output`` |
| Audio Flamingo | ``sound``, and ``conversations`` with ``<sound>`` |
| Qwen2-Audio, Qwen-Omni | ``messages`` whose content is a list of ``audio``/``audio_url`` and ``text`` items |
| OpenAI | the same, and ``weight`` |
| Qwen-Audio | ``Audio 1: <audio>path</audio>`` inside the text |
| Qwen3-ASR | ``audio`` and ``text``, which may begin with ``language English<asr_text>`` |
| NeMo | ``audio_filepath``, ``text``, ``duration``, ``offset`` |
| Qwen2-Audio's and Kimi's evaluation | ``audio`` and ``prompt``/``gt``; ``audio_path``, ``question``, ``answer`` |

Marks and clips must agree in number; only where there is no mark at all do clips come first, as ms-swift has it. A
field that is not known, and is not empty, is refused: what is left out silently is missed by nobody until the model is
bad.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from coat.data.conversation import MARK
from coat.data.entries import STRETCH, clip_entry, take_stretch
from coat.data.fields import answer_text, kind_of, refuse_unknown, short, text_of

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
MESSAGES = ("messages", "conversations")
QUESTION = ("query", "prompt", "instruction", "question", "problem")
ANSWER = (
    "response", "answer", "output", "target", "solution", "gt", "completion", "text", "transcript", "transcription",
    "sentence",
)  # fmt: skip
SYSTEM = ("system", "system_prompt")
AUDIO = (
    "audios", "audio", "audio_path", "audio_paths", "audio_filepath", "audio_file", "audio_url", "sound", "sounds",
    "speech", "wav", "wav_path", "file", "path",
)  # fmt: skip
LABELS = {"task": "task", "group": "group", "language": "language", "lang": "language", "source": "source",
          "licence": "licence", "license": "licence"}  # fmt: skip
IDS = ("id", "index")
# What each field of a row is for.
PARTS = {
    **dict.fromkeys(MESSAGES, "messages"), **dict.fromkeys(QUESTION, "question"), **dict.fromkeys(ANSWER, "answer"),
    **dict.fromkeys(SYSTEM, "system"), **dict.fromkeys(AUDIO, "audio"), **dict.fromkeys(STRETCH, "stretch"),
    **dict.fromkeys(LABELS, "label"), **dict.fromkeys(IDS, "id"),
    "input": "input", "history": "history", "choices": "choices", "metadata": "metadata",
}  # fmt: skip
KNOWN = frozenset(PARTS)
MESSAGE_FIELDS = frozenset(("role", "from", "content", "value", "loss", "weight"))

_INLINE = re.compile(r"(?:Audio \d+: ?)?<audio>([^<>\n]+)</audio>\n?")
_ASR = re.compile(r"^language (\w+)<asr_text>")
# What someone wrote who meant <audio>, and the control tokens of audio models, which no text may hold.
_LIKE_A_MARK = re.compile(
    r"&lt;/?\s*(?:audio|sound|speech|voice|wav)[\w ]*/?\s*&gt;|</?\s*(?:audio|sound|speech|voice|wav)[\w ]*/?\s*>", re.I
)
_CONTROL = re.compile(r"(?i:<\|(?:\w*audio\w*|pad)\|>)|\[(?:BEGIN_)?AUDIO\]")


def canonical(raw: Any, *, ignore: Collection[str] = ()) -> dict[str, Any]:
    """A row in this project's own form.

    Args:
        raw: As it was read.
        ignore: Fields to leave out, by the user's own word.

    Returns:
        ``messages`` with ``role``, text ``content`` and, where a turn is not to be trained on, ``loss: False``;
        ``audios``, each ``{"path"}`` and what is known of its stretch; and ``id``, ``task``, ``group``, ``choices``,
        ``language``, ``source``, ``licence``, ``metadata`` where they are given.

    Raises:
        ValueError: What cannot be understood, or could only be guessed; the field is named.

    Example:
        >>> row = canonical({"audio_filepath": "a.wav", "offset": 1.5, "duration": 2.0, "text": "hello"})
        >>> row["audios"], row["messages"][0]["content"]
        ([{'path': 'a.wav', 'start': 1.5, 'end': 3.5}], '<audio>')
    """
    if not isinstance(raw, dict):
        raise ValueError(f"a row must be an object with fields, not {kind_of(raw)}")
    row = {name: value for name, value in raw.items() if value is not None and name not in ignore}
    given: dict[str, list[str]] = {}
    for name in row:
        part = PARTS.get(name)
        if part is None:
            refuse_unknown(row, KNOWN, "")
        else:
            given.setdefault(part, []).append(name)
    audios = _audios(row, given.get("audio", []))
    found: list[Any] = []
    messages = [_message(message, found) for message in _messages(row, given)]
    if found and audios:
        raise ValueError("clips are named both inside the messages and in 'audios'")
    clips = [clip_entry(clip) for clip in audios or found]
    if "stretch" in given:
        take_stretch(row, clips)
    if clips and not any(MARK in message["content"] for message in messages):
        _prepend(messages, len(clips))
    _check_marks(messages, len(clips))
    made: dict[str, Any] = {"messages": messages, "audios": clips}
    made |= _labels(row, given)
    _take_language(made, messages)
    return made


def _audios(row: dict[str, Any], names: list[str]) -> list[Any]:
    names = [name for name in names if row[name] not in ("", [])]
    if len(names) > 1:
        raise ValueError(f"clips are named in both '{names[0]}' and '{names[1]}'")
    if not names:
        return []
    value = row[names[0]]
    if not isinstance(value, str | dict | list):
        raise ValueError(f"'{names[0]}' must be a path, or a list of paths, not {kind_of(value)}")
    return value if isinstance(value, list) else [value]


def _messages(row: dict[str, Any], given: dict[str, list[str]]) -> list[Any]:
    questions, answers = _holding(row, given.get("question")), _holding(row, given.get("answer"))
    systems, inputs = _holding(row, given.get("system")), _holding(row, given.get("input"))
    lists, history = given.get("messages", []), _holding(row, given.get("history"))
    for names in (questions, answers, systems, lists):
        if len(names) > 1:
            raise ValueError(f"there are both '{names[0]}' and '{names[1]}': which one counts could only be guessed")
    system = [{"role": "system", "content": text_of(row[name], f"'{name}'")} for name in systems]
    if lists:
        for name in (*questions, *answers, *inputs, *history):
            raise ValueError(f"there are both '{lists[0]}' and '{name}': which one counts could only be guessed")
        messages = row[lists[0]]
        if not isinstance(messages, list) or not messages:
            raise ValueError(f"'{lists[0]}' must be a list of at least one message")
        first = messages[0]
        if system and isinstance(first, dict) and first.get("role", first.get("from")) == "system":
            raise ValueError("there is a system message both in the messages and in a field of its own")
        return [*system, *messages]
    # Alpaca has an instruction and what it is about; others use ``input`` for the question itself.
    parts = [text_of(row[name], f"'{name}'") for name in (*questions, *inputs)]
    question = "\n".join(part for part in parts if part) if parts else None
    answer = answer_text(row[answers[0]], f"'{answers[0]}'") if answers else None
    if question is None and answer is None:
        raise ValueError("there are neither 'messages' nor a question and an answer under any known name")
    turns = [*system, *(_history(row) if history else ()), {"role": "user", "content": question or ""}]
    return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]


def _holding(row: dict[str, Any], names: list[str] | None) -> list[str]:
    """Those of some fields that hold something; an empty text only where no other does."""
    there = [name for name in names or () if row[name] not in ([], {})]
    return [name for name in there if row[name] != ""] or there[:1]


def _history(row: dict[str, Any]) -> list[dict[str, str]]:
    turns = []
    history = row["history"]
    if not isinstance(history, list):
        raise ValueError(f"'history' must be a list of pairs of texts, not {kind_of(history)}")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("'history' must be a list of pairs of texts")
        turns.append({"role": "user", "content": text_of(pair[0], "a question of 'history'")})
        turns.append({"role": "assistant", "content": text_of(pair[1], "an answer of 'history'")})
    return turns


def _message(message: Any, found: list[Any]) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError("a message must be an object with 'role' and 'content'")
    refuse_unknown(message, MESSAGE_FIELDS, "in a message, ")
    for one, other in (("role", "from"), ("content", "value"), ("loss", "weight")):
        if one in message and other in message:
            raise ValueError(f"a message has both '{one}' and '{other}'")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"role {short(role) if isinstance(role, str) else role!r} is not one of {', '.join(ROLES)}")
    role = ROLES[role]
    if isinstance(content, list):
        content = "".join(_item(item, found) for item in content)
    elif role == "assistant" and isinstance(content, bool | int | float):
        content = answer_text(content, "'content'")
    elif not isinstance(content, str):
        raise ValueError("'content' must be text, or a list of audio and text items")
    content = _marked(text_of(content, "'content'"), role, found)
    made: dict[str, Any] = {"role": role, "content": content}
    trained = _trained(message, role)
    return made if trained else made | {"loss": False}


def _trained(message: dict[str, Any], role: str) -> bool:
    """Whether a turn is trained on, as far as the row says."""
    name = "loss" if "loss" in message else "weight"
    value = message.get(name)
    if value is None:
        return True
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise ValueError(f"'{name}' of a message must be true or false, 1 or 0: turns have no weights in between")
    if value and role != "assistant":
        raise ValueError(f"'{name}' of a {role} message asks to train on it; only assistant messages are trained on")
    return bool(value) or role != "assistant"


def _marked(content: str, role: str, found: list[Any]) -> str:
    """A text whose marks are all ``<audio>``."""
    if not any(sign in content for sign in ("<", "&lt;", "AUDIO]")):
        return content

    def inline(match: re.Match[str]) -> str:
        found.append(match[1])
        return MARK

    if "</audio>" in content:
        content = _INLINE.sub(inline, content)
    content = content.replace("<sound>", MARK)
    if control := _CONTROL.search(content):
        raise ValueError(f"a text holds {control[0]}, a control token; write {MARK} where a clip goes")
    if role == "assistant":
        if MARK in content:
            raise ValueError(f"an assistant message holds {MARK}; clips are heard in user messages")
        return content
    if MARK in content and role == "system":
        raise ValueError(f"a system message holds {MARK}; clips are heard in user messages")
    if other := _LIKE_A_MARK.search(content.replace(MARK, "")):
        raise ValueError(f"a text holds {other[0]}, which is no mark; write {MARK} where a clip goes")
    return content


def _item(item: Any, found: list[Any]) -> str:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "text":
        refuse_unknown(item, ("type", "text"), "in a text item, ")
        return text_of(item.get("text"), "the text of a text item")
    if kind not in ("audio", "audio_url"):
        raise ValueError(f"content items of type {str(kind)[:40]!r} are not known; audio and text are")
    found.append(item)
    return MARK


def _labels(row: dict[str, Any], given: dict[str, list[str]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in given.get("label", ()):
        if row[name] == "":
            continue
        if LABELS[name] in made:
            raise ValueError(f"'{name}' says again what another field says")
        made[LABELS[name]] = text_of(row[name], f"'{name}'")
    if names := given.get("id"):
        name = "id" if "id" in names else "index"
        value = row[name]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"'{name}' must be text or a number, not {kind_of(value)}")
        made["id"] = answer_text(value, f"'{name}'")
    if choices := row.get("choices"):
        if not isinstance(choices, list):
            raise ValueError(f"'choices' must be a list of texts, not {kind_of(choices)}")
        made["choices"] = tuple(answer_text(choice, "an option of 'choices'") for choice in choices)
    metadata = row.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, dict):
            raise ValueError(f"'metadata' must be an object, not {kind_of(metadata)}")
        made["metadata"] = metadata
    return made


def _prepend(messages: list[dict[str, Any]], count: int) -> None:
    asked = next((message for message in messages if message["role"] == "user"), None)
    if asked is None:
        raise ValueError("there are clips but no user message to hear them in")
    asked["content"] = MARK * count + asked["content"]


def _check_marks(messages: list[dict[str, Any]], clips: int) -> None:
    marks = sum(message["content"].count(MARK) for message in messages)
    if marks != clips:
        raise ValueError(f"{marks} {MARK} mark(s) but {clips} entry(ies) in 'audios'")


def _take_language(row: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    last = messages[-1]
    if last["role"] == "assistant" and (match := _ASR.match(last["content"])):
        last["content"] = last["content"][match.end() :]
        row.setdefault("language", match[1])
