"""The few lines that most users need: load, chat, think."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coat.audio import Clip, load_audio
from coat.checkpoints import load_model
from coat.checkpoints.references import MINIATURE
from coat.data.conversation import Conversation, Message
from coat.errors import CoatError
from coat.generation import generate
from coat.reasoning import MORE_TOKENS, reasoned, reasoning_prompt
from coat.thinking.batch import make_batch
from coat.thinking.model import CoatModel

AudioLike = str | Path | Clip


@dataclass(frozen=True)
class Thought:
    """What the model thought about one clip.

    Attributes:
        think_hidden: H_think, ``(L, d)``.
        predictions: Each head's P_k(H_think), ``(L, e_k)``; empty where a checkpoint holds no heads.
    """

    think_hidden: Tensor
    predictions: dict[str, Tensor]


class Coat:
    """A model ready to answer.

    Example:
        >>> coat = Coat.miniature()                            # doctest: +SKIP
        >>> coat.chat("clip.wav", "What note is this?")        # doctest: +SKIP
        'C sharp'
    """

    def __init__(self, model: CoatModel) -> None:
        self.model = model.eval()

    @classmethod
    def load(cls, model_path: str | Path, **options: Any) -> Coat:
        """A finished run, an export, or a plain checkpoint of a known family, which answers without a block.

        Args:
            model_path: A folder, or a hub id; ``miniature`` for the small model that ships with the package.
            **options: See :func:`coat.checkpoints.loading.load_model`: ``dtype``, ``device``, ``device_map``,
                ``attn_implementation``, ``heads``.

        Raises:
            CoatError: It is none of them.
        """
        return cls(load_model(model_path, **options))

    @classmethod
    def miniature(cls, *, heads: bool = False) -> Coat:
        """The small trained model that ships with the package."""
        return cls.load(MINIATURE, heads=heads)

    def chat(
        self,
        audio: AudioLike | Sequence[AudioLike] | None,
        text: str,
        *,
        max_new_tokens: int = 256,
        text_cot: bool = False,
        **options: Any,
    ) -> str:
        """Answer a question about one or several clips, or about none; greedily, unless options say otherwise.

        Args:
            audio: Paths or clips; they go before the text unless it says ``<audio>`` itself.
            text: The question.
            max_new_tokens: Where the answer is cut at the latest.
            text_cot: Have the model think in text first, as the paper's rival does; the answer holds the chain, and
                :func:`coat.reasoning.final_answer` takes it off.
            **options: Options of transformers' ``generate``, such as ``temperature`` and ``repetition_penalty``.

        Raises:
            CoatError: A clip cannot be read or is too short or too long.
        """
        clips = self._clips(audio)
        marks = "" if "<audio>" in text else "<audio>" * len(clips)
        messages: list[Message] = [{"role": "user", "content": marks + text}]
        if text_cot:
            messages = reasoned(messages, reasoning_prompt(self.model.backbone))
            max_new_tokens += MORE_TOKENS
        asked = [Conversation(messages, clips, "question")]
        return generate(self.model, asked, max_new_tokens=max_new_tokens, **options)[0]

    @torch.inference_mode()
    def think(self, audio: AudioLike, text: str = "Describe the audio.") -> Thought:
        """The think states of a clip before an answer to ``text``, and what each head reads in them.

        Raises:
            CoatError: The model has no thinking block, or the clip cannot be read.
        """
        if not self.model.thinking.enabled:
            raise CoatError("This model has no thinking block.", "Load a run whose recipe has thinking.enabled: true.")
        conversation = Conversation([{"role": "user", "content": f"<audio>{text}"}], self._clips(audio), "question")
        output = self.model(make_batch(self.model.builder, [conversation]).to(self.model.backbone.device))
        return Thought(output.think_hidden[0], {name: rows[0] for name, rows in output.predictions.items()})

    def _clips(self, audio: AudioLike | Sequence[AudioLike] | None) -> list[Clip]:
        if audio is None:
            return []
        given = [audio] if isinstance(audio, str | Path | Clip) else list(audio)
        limit = self.model.backbone.hearing.max_seconds
        return [clip if isinstance(clip, Clip) else load_audio(clip, max_seconds=limit) for clip in given]
