"""The model for lmms-eval, by its simple and its chat interface."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from lmms_eval.api.model import lmms

from coat.audio import Clip, decode_audio, load_audio
from coat.audio.downmix import to_mono
from coat.data.conversation import MARK, Part, user_message
from coat.errors import CoatError
from coat.evaluation.backends.base import Request
from coat.evaluation.backends.opening import BackendOptions, open_backend
from coat.generation import Reply

# What lmms-eval's own audio models decode at most, where a task does not say.
MAX_NEW_TOKENS = 256


class _Coat(lmms):
    """Answers requests of lmms-eval in batches of like length.

    Args:
        pretrained: A run, export, checkpoint, hub id, ``miniature``, or the address of a server.
        think: ``on``, or ``off``: leave the block out.
        text_cot: ``off``, ``auto``, ``prompt`` or ``own``.
        batch_size: Questions at a time.
        device: Taken as lmms-eval gives it; the model chooses for itself.
        **options: Others of :class:`coat.evaluation.backends.opening.BackendOptions`.
    """

    def __init__(
        self,
        pretrained: str,
        think: str = "on",
        text_cot: Any = "off",
        batch_size: int | str = 32,
        device: str | None = None,
        max_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        del device, max_batch_size
        size = int(batch_size) if str(batch_size).isdigit() and int(batch_size) > 1 else 32
        asked = BackendOptions(think=str(think) not in ("off", "False"), text_cot=text_cot, batch_size=size, **options)
        self.backend, self.reasoning = open_backend(pretrained, asked)

    @property
    def rank(self) -> int:
        """One process answers."""
        return 0

    @property
    def world_size(self) -> int:
        """One process answers."""
        return 1

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not offered: every task of audio generates."""
        raise NotImplementedError("coat answers by generating")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not offered."""
        raise NotImplementedError("coat answers one question at a time")

    def generate_until(self, requests: list[Any]) -> list[str]:
        """An answer to each request; one that fails stops the run, and is named."""
        asked = list(self._requests(requests))
        answers = [""] * len(asked)
        for index, reply in self.backend.answer(asked):
            if not isinstance(reply, Reply):
                raise CoatError(f"{asked[index].name} could not be answered: {reply}") from reply
            answers[index] = cut(reply.text, requests[index].args)
        return answers

    def _requests(self, requests: list[Any]) -> Iterator[Request]:
        raise NotImplementedError

    def _request(self, name: str, messages: list[Any], sounds: list[Any], limits: Mapping[str, Any]) -> Request:
        if self.reasoning:
            from coat.reasoning import reasoned

            messages = reasoned(messages, self.reasoning)
        clips = [to_clip(sound, name) for sound in sounds]
        limit = int(limits.get("max_new_tokens") or MAX_NEW_TOKENS)
        return Request(name, messages, lambda: clips, sum(clip.seconds for clip in clips), limit)


class CoatSimple(_Coat):
    """The simple interface: a prompt, and sounds beside it."""

    is_simple = True

    def _requests(self, requests: list[Any]) -> Iterator[Request]:
        for request in requests:
            context, limits, doc_to_visual, doc_id, task, split = request.args
            sounds = [sound for sound in doc_to_visual(self.task_dict[task][split][doc_id]) if sound is not None]
            messages = [user_message(context.replace(MARK, ""), len(sounds))]
            yield self._request(f"{task} {doc_id}", messages, sounds, limits)


class CoatChat(_Coat):
    """The chat interface: messages with sounds inside."""

    is_simple = False

    def _requests(self, requests: list[Any]) -> Iterator[Request]:
        for request in requests:
            _, doc_to_messages, limits, doc_id, task, split = request.args
            sounds: list[Any] = []
            messages = []
            for message in doc_to_messages(self.task_dict[task][split][doc_id]):
                content = message["content"]
                if not isinstance(content, str):
                    content = [_part(part, sounds) for part in content]
                messages.append({"role": message["role"], "content": content})
            yield self._request(f"{task} {doc_id}", messages, sounds, limits)


def _part(part: Mapping[str, Any], sounds: list[Any]) -> Part:
    """A part of a message; lmms-eval's own conversion calls a decoded sound a video."""
    if part["type"] == "text":
        return {"type": "text", "text": str(part["text"])}
    sounds.append(part.get("url", part.get(part["type"])))
    return {"type": "audio"}


def to_clip(sound: Any, name: str) -> Clip:
    """A sound as data sets give it: decoded, a decoder, a file's bytes, a path.

    Raises:
        CoatError: It is none of them.
    """
    if hasattr(sound, "get_all_samples"):
        samples = sound.get_all_samples()
        wave = np.atleast_2d(np.asarray(samples.data, dtype=np.float32))
        return Clip(to_mono(wave, name), int(samples.sample_rate), name)
    if isinstance(sound, Mapping) and sound.get("array") is not None:
        wave = np.atleast_2d(np.asarray(sound["array"], dtype=np.float32))
        wave = wave.T if wave.shape[0] > wave.shape[1] else wave
        return Clip(to_mono(wave, name), int(sound["sampling_rate"]), name)
    if isinstance(sound, Mapping) and sound.get("bytes") is not None:
        return decode_audio(sound["bytes"], name)
    path = sound.get("path") if isinstance(sound, Mapping) else sound
    if isinstance(path, str):
        return load_audio(path)
    if isinstance(sound, io.IOBase):
        return decode_audio(sound.read(), name)
    raise CoatError(f"{name} holds a sound as {type(sound).__name__}, which is not known here.")


def cut(answer: str, args: tuple[Any, ...]) -> str:
    """An answer up to whatever the task says ends it."""
    limits = next((part for part in args if isinstance(part, dict)), {})
    until = limits.get("until") or []
    for stop in [until] if isinstance(until, str) else until:
        answer = answer.split(stop)[0] if stop else answer
    return answer
