"""The few lines that most users need: load, chat, think."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coat.audio import Clip, load_audio
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import Conversation, Message
from coat.errors import CoatError
from coat.generation import generate
from coat.places import find_place
from coat.reasoning import MORE_TOKENS, reasoned, reasoning_prompt
from coat.thinking.batch import make_batch
from coat.thinking.model import CoatModel

AudioLike = str | Path | Clip
MINIATURE = "miniature"


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
    def load(cls, place: str | Path) -> Coat:
        """A finished run, an export, or a plain checkpoint of a known family, which answers without a block.

        Args:
            place: A folder, or a hub id; ``miniature`` for the small model that ships with the package.

        Raises:
            CoatError: It is none of them.
        """
        from coat.backbones import family_of
        from coat.checkpoints.export_config import read_export_config
        from coat.export.checkpoint import load_export
        from coat.training.assembly import is_finished

        if str(place) == MINIATURE and not Path(place).exists():
            return cls.miniature()
        place = find_place(str(place))
        if is_finished(Path(place)):
            return cls.from_run(place)
        family = None if read_export_config(str(place)) else family_of(str(place))
        if family is not None:
            return cls.from_pretrained(family, str(place))
        return cls(_placed(load_export(place, dtype=_dtype())))

    @classmethod
    def from_run(cls, folder: str | Path, *, heads: bool = False) -> Coat:
        """The model of a finished training run, with its projection heads if asked."""
        from coat.training.assembly import load_run

        return cls(_placed(load_run(folder, heads=heads)))

    @classmethod
    def from_pretrained(cls, family: str, path: str | None = None) -> Coat:
        """A plain backbone without a block: the baseline."""
        from coat.backbones import load_backbone

        return cls(_placed(CoatModel(load_backbone(family, path, dtype=_dtype()), ThinkingConfig(enabled=False))))

    @classmethod
    def miniature(cls, *, heads: bool = False) -> Coat:
        """The small trained model that ships with the package."""
        return cls.from_run(miniature_folder(), heads=heads)

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
            **options: Of transformers' ``generate``, such as ``temperature``, ``top_p`` and ``repetition_penalty``.

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


def miniature_folder() -> Path:
    """Where the shipped miniature is.

    Raises:
        CoatError: This build of the package has none.
    """
    folder = Path(str(files("coat"))) / "miniature" / "shipped"
    if not (folder / "finished.json").is_file():
        raise CoatError("This build of the package holds no miniature.", "Make it: make miniature")
    return folder


def _dtype() -> torch.dtype:
    from coat.training.trainer import uses_bf16

    return torch.bfloat16 if uses_bf16("auto") else torch.float32


def _placed(model: CoatModel) -> CoatModel:
    return model.to("cuda") if torch.cuda.is_available() else model
