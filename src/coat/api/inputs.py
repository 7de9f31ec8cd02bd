"""Clips and messages in the forms in which users of Python have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coat.audio import Clip, decode_audio, load_audio
from coat.data.conversation import Conversation, Message
from coat.data.formats import MARK
from coat.errors import CoatError

FORMS = "a path, bytes of a file, (samples, sampling_rate), {'array', 'sampling_rate'}, or a Clip"
SOUND_KEYS = ("audio", "path", "url", "audio_url")


def as_clip(audio: Any, *, max_seconds: float | None = None, name: str = "clip") -> Clip:
    """A clip from any of the forms in which sound is held.

    Args:
        audio: A path; the bytes of a file; samples with their rate, as librosa and soundfile give them; what a column
            of ``datasets.Audio`` holds, decoded or not; or a clip.
        max_seconds: Refuse what is longer.
        name: What to call it in messages, where it has no name of its own.

    Raises:
        CoatError: It cannot be read, or is in no such form.

    Example:
        >>> import numpy as np
        >>> as_clip((np.zeros(16_000, np.float32), 16_000)).seconds
        1.0
    """
    if isinstance(audio, Clip):
        return audio
    if isinstance(audio, str | Path):
        return load_audio(audio, max_seconds=max_seconds)
    if isinstance(audio, bytes):
        return decode_audio(audio, name, max_seconds=max_seconds)
    if hasattr(audio, "get_all_samples"):  # datasets decodes with torchcodec
        samples = audio.get_all_samples()
        return _from_samples(samples.data.numpy(), samples.sample_rate, name)
    if isinstance(audio, Mapping):
        if audio.get("array") is not None and audio.get("sampling_rate"):
            return _from_samples(audio["array"], audio["sampling_rate"], str(audio.get("path") or name))
        if isinstance(audio.get("bytes"), bytes):
            return decode_audio(audio["bytes"], str(audio.get("path") or name), max_seconds=max_seconds)
        if isinstance(audio.get("path"), str):
            return load_audio(audio["path"], max_seconds=max_seconds)
    if isinstance(audio, tuple) and len(audio) == 2:
        first, second = audio
        if np.ndim(first) == 0:  # Gradio's order
            first, second = second, first
        if np.ndim(second) == 0 and not isinstance(first, str) and np.ndim(first):
            return _from_samples(first, second, name)
    raise CoatError(f"{name}: {type(audio).__name__} is no form of sound that is known.", f"Give {FORMS}.")


def _from_samples(samples: Any, rate: Any, name: str) -> Clip:
    waveform = np.asarray(samples)
    if waveform.ndim == 2 and min(waveform.shape) == 1:
        waveform = waveform.reshape(-1)
    if waveform.ndim != 1:
        raise CoatError(
            f"{name} has {waveform.ndim} dimensions: channels must be mixed before.", "samples.mean(axis) mixes them."
        )
    if waveform.dtype.kind in "iu":
        waveform = waveform / float(np.iinfo(waveform.dtype).max)
    return Clip(waveform.astype(np.float32), int(rate), name)


def as_clips(audio: Any, *, max_seconds: float | None = None) -> list[Clip]:
    """One clip, several in a list, or none."""
    if audio is None:
        return []
    given = list(audio) if isinstance(audio, list) else [audio]
    return [as_clip(each, max_seconds=max_seconds, name=f"clip {place}") for place, each in enumerate(given, 1)]


def question(audio: Any, text: str, *, max_seconds: float | None = None) -> Conversation:
    """One question; clips go before it unless it says ``<audio>`` itself."""
    clips = as_clips(audio, max_seconds=max_seconds)
    marks = "" if MARK in text else MARK * len(clips)
    return Conversation([{"role": "user", "content": marks + text}], clips, "question")


def conversation(messages: Sequence[Mapping[str, Any]], *, max_seconds: float | None = None) -> Conversation:
    """A conversation in the chat format of transformers, its sound within.

    Args:
        messages: ``{"role", "content"}`` each; content is a text, or a list of ``{"type": "text", "text": ...}`` and
            ``{"type": "audio", "audio": ...}`` with sound in any form of :func:`as_clip`.
        max_seconds: Refuse clips that are longer.

    Raises:
        CoatError: A message or a part of one is not understood, or a clip cannot be read.
    """
    clips: list[Clip] = []
    made: list[Message] = []
    for number, message in enumerate(messages, 1):
        where = f"message {number}"
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise CoatError(
                f"{where} must hold role and content, and nothing else.", "{'role': 'user', 'content': ...}"
            )
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        made.append({"role": message["role"], "content": _content(parts, where, clips, max_seconds)})
    if not made:
        raise CoatError("There are no messages.", "Give at least one of a user.")
    return Conversation(made, clips, "conversation")


def _content(parts: Any, where: str, clips: list[Clip], max_seconds: float | None) -> str:
    if not isinstance(parts, Sequence) or isinstance(parts, str | bytes):
        raise CoatError(f"{where}: content must be a text or a list of parts.", "[{'type': 'text', 'text': ...}]")
    text = ""
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            if MARK in part["text"]:
                raise CoatError(f"{where}: a text holds {MARK}.", "Give the clip as a part of type 'audio'.")
            text += part["text"]
        elif kind == "audio":
            sound = [part[key] for key in SOUND_KEYS if part.get(key) is not None]
            if len(sound) != 1:
                raise CoatError(f"{where}: a part of type 'audio' must hold its sound once.", f"'audio': {FORMS}")
            clips.append(as_clip(sound[0], max_seconds=max_seconds, name=f"clip {len(clips) + 1}"))
            text += MARK
        else:
            raise CoatError(f"{where}: parts of type {kind!r} are not known.", "'text' and 'audio' are.")
    return text
