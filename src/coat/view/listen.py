"""Content of the live page: pictures on one time axis, and two answers with their times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coat.audio import Clip, load_audio
from coat.benchmark.latency import Arm, LocalStopwatch
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.probing.reconstructions import reconstruct
from coat.reports.plots import plot_listening
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


class Listener:
    """A run, its experts, and its backbone as it was.

    Args:
        folder: A finished run.
        decoder: Draws audio embeddings as spectrograms.

    Raises:
        CoatError: There is no finished run in the folder.
    """

    def __init__(self, folder: Path, decoder: Path | None = None) -> None:
        from coat.checkpoints import load_model
        from coat.checkpoints.building import build_experts
        from coat.checkpoints.references import run_in

        ref = run_in(folder)
        self.model: ThinkingModel = load_model(ref, heads=True)
        recipe = ref.recipe
        options = dict(recipe.experts)
        if decoder is not None:
            options["audio_reconstruction"] = {**options.get("audio_reconstruction", {}), "decoder": str(decoder)}
        recipe = recipe.model_copy(update={"experts": options})
        self.experts: Mapping[str, Expert] = build_experts(recipe, self.model) if self.model.heads else {}
        self.hears = self.model.backbone.audio_spec.max_seconds

    def clip(self, path: str | Path) -> Clip:
        """A clip that the model can hear.

        Raises:
            CoatError: It cannot be read, or is too short or too long.
        """
        return load_audio(path, max_seconds=self.hears)

    def look(self, clip: Clip) -> Any:
        """A figure: the waveform, then for each expert what it heard above what the think states kept.

        Raises:
            CoatError: The run has no heads.
        """
        if not self.experts:
            raise CoatError("This run was trained without experts: it has no heads to look through.")
        asked = Conversation([{"role": "user", "content": "<audio>Describe the audio."}], [clip], "clip")
        return plot_listening(clip, reconstruct(self.model, self.experts, asked))

    def answer(self, clip: Clip, question: str, *, baseline: bool, max_new_tokens: int = 64) -> Heard:
        """The run's answer, or that of its backbone as it was.

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

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """The backbone without its adapter, in the same memory."""
        with torch.inference_mode(), self.model.peft.disable_adapter() if self.model.peft else nullcontext():
            yield
