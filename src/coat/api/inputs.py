"""Clips and messages in the forms in which users of Python have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coat.audio import Clip, decode_audio, load_audio
from coat.audio.downmix import to_mono
from coat.audio.scale import to_unit
from coat.data.conversation import MARK, Conversation, Message, user_message
from coat.data.formats import canonical
from coat.errors import CoatError

FORMS = "a path, bytes of a file, (samples, sampling_rate), {'array', 'sampling_rate'}, or a Clip"
SOUND_KEYS = ("audio", "path", "url")
# More than any recorder writes; a spectrogram has more rows.
MAX_CHANNELS = 64


def as_clip(audio: Any, *, max_seconds: float | None = None, name: str = "clip") -> Clip:
    """A clip from any of the forms in which sound is held.

    Args:
        audio: A path; the bytes of a file; samples with their rate, as librosa and soundfile give them; what a column
            of ``datasets.Audio`` holds, decoded or not; or a clip.
        max_seconds: Refuse what is longer.
        name: Its name in messages, where it has none of its own.

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
    """Channels are the shorter axis: librosa and torchaudio put them first, soundfile last."""
    values = np.asarray(samples)
    if values.dtype.kind not in "fi" and values.dtype != np.uint8:
        raise CoatError(f"{name} holds {values.dtype}, which are no samples.", "Give floating-point numbers.")
    if values.ndim not in (1, 2) or min(values.shape) == 0:
        raise CoatError(f"{name} has the shape {values.shape}.", "Give (samples,) or (channels, samples).")
    channels = np.atleast_2d(values)
    if len(channels) > channels.shape[1]:
        channels = channels.T
    if len(channels) > MAX_CHANNELS:
        raise CoatError(f"{name} has {len(channels)} channels.", "Give (samples,) or (channels, samples).")
    return Clip(to_mono(to_unit(channels), name), int(rate), name)


def as_clips(audio: Any, *, max_seconds: float | None = None) -> list[Clip]:
    """One clip, several in a list, or none."""
    if audio is None:
        return []
    given = list(audio) if isinstance(audio, list) else [audio]
    return [as_clip(each, max_seconds=max_seconds, name=f"clip {place}") for place, each in enumerate(given, 1)]


def question(audio: Any, text: str, *, max_seconds: float | None = None) -> Conversation:
    """One question; clips go before it unless it says ``<audio>`` itself."""
    clips = as_clips(audio, max_seconds=max_seconds)
    return Conversation([user_message(text, 0 if MARK in text else len(clips))], clips, "question")


def conversation(messages: Sequence[Mapping[str, Any]], *, max_seconds: float | None = None) -> Conversation:
    """A conversation in the chat format of transformers, its sound within.

    Args:
        messages: ``{"role", "content"}`` each; content is a text, or a list of ``{"type": "text", "text": ...}`` and
            ``{"type": "audio", "audio": ...}`` with sound in any form of :func:`as_clip`.
        max_seconds: Refuse clips that are longer.

    Raises:
        CoatError: A message or a part of one is not understood, or a clip cannot be read.
    """
    sounds: list[Any] = []
    made: list[Message] = []
    for number, message in enumerate(messages, 1):
        try:
            made += canonical({"messages": [_without_sounds(message, sounds)]})["messages"]
        except ValueError as error:
            raise CoatError(f"message {number}: {error}.", "{'role': 'user', 'content': ...}") from None
    if not made or made[-1]["role"] != "user":
        raise CoatError("The last message must be the user's.", "It is what is answered.")
    return Conversation(made, as_clips(sounds, max_seconds=max_seconds), "conversation")


def _without_sounds(message: Any, sounds: list[Any]) -> Any:
    """A message whose parts name their sounds, as rows of data do: what else is in it is read as those are."""
    parts = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(parts, list):
        return message
    named = []
    for part in parts:
        if isinstance(part, Mapping) and part.get("type") == "audio":
            held = [part[key] for key in SOUND_KEYS if part.get(key) is not None]
            if len(held) != 1:
                raise ValueError(f"a part of type 'audio' must hold its sound once, under {' or '.join(SOUND_KEYS)}")
            sounds += held
            part = {"type": "audio", "path": f"clip {len(sounds)}"}
        named.append(part)
    return {**message, "content": named}
