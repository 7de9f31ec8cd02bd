"""Content of the live page: pictures on one time axis, and answers with their times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coat.audio import Clip, load_audio
from coat.benchmark.latency import Arm, LocalStopwatch
from coat.config.recipe import Recipe
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.probing.reconstructions import reconstruct
from coat.reports.experts import heard_by
from coat.reports.plots import Strip, plot_listening, strips_of
from coat.thinking.model import ThinkingModel


@dataclass(frozen=True)
class Heard:
    """An answer and what it took.

    Attributes:
        text: Text of the answer.
        first: Seconds to the first token.
        total: Seconds of the whole answer.
        tokens: Decoded.
        think_tokens: Length of the block.
    """

    text: str
    first: float
    total: float
    tokens: int
    think_tokens: int


# Drawn of a clip where a model has no heads to look through; what is not installed is left out.
WITHOUT_HEADS = ("log_mel", "basic_pitch")


class Listener:
    """A model, its experts where it has heads for them, and its backbone as it was where it has an adapter.

    Args:
        model_path: See :func:`coat.checkpoints.references.resolve`.
        decoder: Draws audio embeddings as spectrograms.

    Attributes:
        experts: The experts of a run's heads, by name.
        compares: Whether there are two answers: the model's, and its backbone's as it was.

    Raises:
        CoatError: There is no such model, or a decoder is given and nothing for it to draw.
    """

    def __init__(self, model_path: str | Path, decoder: Path | None = None) -> None:
        from coat.checkpoints import load_model, resolve
        from coat.checkpoints.references import RunRef

        ref = resolve(model_path)
        self.model: ThinkingModel = load_model(ref, heads=isinstance(ref, RunRef))
        self.experts: Mapping[str, Expert] = {}
        if isinstance(ref, RunRef) and self.model.heads:
            self.experts = _experts_of(ref.recipe, self.model, decoder)
        elif decoder is not None:
            raise CoatError(f"{model_path} has no heads, whose audio embeddings --decoder would draw.", "Leave it out.")
        self._without_heads = {} if self.experts else _heard_anyway(self.model)
        self.compares = self.model.peft is not None
        self.hears = self.model.backbone.audio_spec.max_seconds

    def clip(self, path: str | Path) -> Clip:
        """A clip that the model can hear.

        Raises:
            CoatError: It cannot be read, or is too short or too long.
        """
        return load_audio(path, max_seconds=self.hears)

    def look(self, clip: Clip) -> Any:
        """A figure: the waveform, then for each expert what it heard above what the think states kept.

        A model without heads has the spectrogram, and the notes that basic-pitch hears where it is installed.
        """
        if not self.experts:
            heard = [heard_by(expert, clip) for expert in self._without_heads.values()]
            return plot_listening(clip, [Strip(picture.title, picture, picture) for picture in heard])
        asked = Conversation([{"role": "user", "content": "<audio>Describe the audio."}], [clip], "clip")
        return plot_listening(clip, strips_of(reconstruct(self.model, self.experts, asked)))

    def answer(self, clip: Clip, question: str, *, baseline: bool, max_new_tokens: int = 64) -> Heard:
        """The model's answer, or that of its backbone as it was.

        Args:
            clip: The clip.
            question: The question.
            baseline: Without the block and without what was trained.
            max_new_tokens: Most tokens of the answer.
        """
        asked = Conversation([{"role": "user", "content": f"<audio>{question}"}], [clip], "clip")
        thinks = self.model.thinking
        arm = Arm("baseline") if baseline else Arm("CoAT", think=thinks.enabled, stride=thinks.stride)
        with self._as_it_was() if baseline else nullcontext():
            timing = LocalStopwatch(self.model)(arm, asked, max_new_tokens)
        return Heard(timing.text, timing.first, timing.total, timing.new_tokens, timing.think_tokens)

    @property
    def answers_as(self) -> str:
        """The title of the model's own answer."""
        if not self.compares:
            return "Answer"
        return "CoAT" if self.model.thinking.enabled else "Fine-tuned"

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """The backbone without its adapter, in the same memory."""
        with torch.inference_mode(), self.model.peft.disable_adapter() if self.model.peft else nullcontext():
            yield


def _heard_anyway(model: ThinkingModel) -> dict[str, Expert]:
    from coat.experts import make_expert

    made, backbone = {}, model.backbone
    for name in WITHOUT_HEADS:
        with suppress(CoatError):  # what it needs is not installed
            made[name] = make_expert(name, hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
    return made


def _experts_of(recipe: Recipe, model: ThinkingModel, decoder: Path | None) -> dict[str, Expert]:
    from coat.checkpoints.building import build_experts

    options = dict(recipe.experts)
    if decoder is not None:
        options["audio_reconstruction"] = {**options.get("audio_reconstruction", {}), "decoder": str(decoder)}
    return build_experts(recipe.model_copy(update={"experts": options}), model)
