"""Rows as other trainers write them, brought to ``messages`` + ``audios``.

| from | looks like |
| --- | --- |
| ms-swift | ``messages`` or ``query``/``response`` (many names), ``history``, ``system``; ``audios`` a list or one |
| LLaMA-Factory | ``conversations`` of ``from``/``value``; ``audios`` |
| Qwen2-Audio, Qwen-Omni, OpenAI | ``messages`` whose content is a list of ``audio``/``audio_url`` and ``text`` items |
| Qwen-Audio | ``Audio 1: <audio>path</audio>`` inside the text |
| Qwen3-ASR | ``audio`` and ``text``, which may begin with ``language English<asr_text>`` |
| Qwen2-Audio's and Kimi's evaluation | ``audio`` and ``prompt``/``gt``; ``audio_path``, ``question``, ``answer`` |

Marks and clips must agree in number; only where there is no mark at all do clips come first, as ms-swift has it.
"""

from __future__ import annotations

import re
from typing import Any

MARK = "<audio>"
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
QUESTION = ("query", "prompt", "instruction", "question", "problem", "input")
ANSWER = ("response", "answer", "output", "target", "solution", "gt", "completion", "text")
AUDIO = ("audios", "audio", "audio_path")

_INLINE = re.compile(r"(?:Audio \d+: ?)?<audio>([^<>\n]+)</audio>\n?")
_ASR = re.compile(r"^language (\w+)<asr_text>")


def canonical(raw: dict[str, Any]) -> dict[str, Any]:
    """A row in this project's own form; one that is in it already is not changed.

    Args:
        raw: As it was read.

    Returns:
        ``messages`` with text content, ``audios``, and every other field as it was.

    Raises:
        ValueError: What cannot be understood, or could only be guessed.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"a row must be an object with fields, not {type(raw).__name__}")
    row = dict(raw)
    audios = _audios(row)
    found: list[Any] = []
    messages = [_message(message, found) for message in _messages(row)]
    if found and audios:
        raise ValueError("clips are named both inside the messages and in 'audios'")
    audios = audios or found
    if audios and not any(MARK in message["content"] for message in messages):
        _prepend(messages, len(audios))
    _take_language(row, messages)
    return row | {"messages": messages, "audios": audios}


def _audios(row: dict[str, Any]) -> list[Any]:
    for name in AUDIO:
        value = row.pop(name, None)
        if value:
            return value if isinstance(value, list) else [value]
    return []


def _messages(row: dict[str, Any]) -> list[Any]:
    for name in ("messages", "conversations"):
        if name in row:
            messages = row.pop(name)
            if not isinstance(messages, list) or not messages:
                raise ValueError(f"'{name}' must be a list of at least one message")
            system = row.pop("system", None)
            return [{"role": "system", "content": system}, *messages] if system else messages
    question, answer = _first(row, QUESTION), _first(row, ANSWER)
    if question is None and answer is None:
        raise ValueError("there are neither 'messages' nor a question and an answer under any known name")
    messages = []
    if system := row.pop("system", None) or row.pop("system_prompt", None):
        messages.append({"role": "system", "content": system})
    for asked, said in row.pop("history", None) or []:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    messages.append({"role": "user", "content": question or ""})
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row.pop(name) for name in names if isinstance(row.get(name), str)), None)


def _message(message: Any, found: list[Any]) -> dict[str, str]:
    if not isinstance(message, dict):
        raise ValueError("a message must be an object with 'role' and 'content'")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if role not in ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(ROLES)}")
    if isinstance(content, list):
        content = "".join(_item(item, found) for item in content)
    if not isinstance(content, str):
        raise ValueError("'content' must be text, or a list of audio and text items")

    def inline(match: re.Match[str]) -> str:
        found.append(match[1])
        return MARK

    return {"role": ROLES[role], "content": _INLINE.sub(inline, content) if "</audio>" in content else content}


def _item(item: Any, found: list[Any]) -> str:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "text":
        return str(item["text"])
    if kind not in ("audio", "audio_url"):
        raise ValueError(f"content items of type {kind!r} are not known; audio and text are")
    place = item.get("audio", item.get("audio_url", item.get("path", item.get("url"))))
    if isinstance(place, dict):
        place = place.get("url", place.get("path"))
    if not isinstance(place, str):
        raise ValueError("an audio item must name its file: data inside a row is not read")
    found.append(place)
    return MARK


def _prepend(messages: list[dict[str, str]], count: int) -> None:
    asked = next((message for message in messages if message["role"] == "user"), None)
    if asked is None:
        raise ValueError("there are clips but no user message to hear them in")
    asked["content"] = MARK * count + asked["content"]


def _take_language(row: dict[str, Any], messages: list[dict[str, str]]) -> None:
    last = messages[-1]
    if last["role"] == "assistant" and (match := _ASR.match(last["content"])):
        last["content"] = last["content"][match.end() :]
        row.setdefault("language", match[1])
