"""Open whoever answers: a run, an export, a checkpoint or an address, by one of three backends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from coat.errors import CoatError
from coat.evaluation.answerers.base import Answerer
from coat.reasoning import PROMPT

Backend = Literal["transformers", "vllm", "openai"]
BACKENDS: tuple[Backend, ...] = ("transformers", "vllm", "openai")
TextCot = Literal["off", "auto", "prompt", "own"]


@dataclass(frozen=True)
class AnswererOptions:
    """How a model is opened.

    Attributes:
        backend: By what it runs.
        think: False leaves the block out, even of a model that has learned it.
        text_cot: Think in text first: by the family's own mode (``own``), a prompt, or own where there is one
            (``auto``).
        think_mode: The checkpoint that holds the family's own mode; the family's usual one if empty.
        profile: The family whose prompts are used; the model's own if empty.
        batch_size: Questions at a time, by transformers.
        model: The model's name, at an address.
        key: API key of an address.
        weights: What stands behind an address, in words of yours.
        concurrency: Questions at once, to an address.
        hears: Seconds of audio that a model behind an address takes in one clip.
        engine: Options of ``vllm.LLM``.
    """

    backend: Backend = "transformers"
    think: bool = True
    text_cot: TextCot = "off"
    think_mode: str = ""
    profile: str = ""
    batch_size: int = 32
    model: str | None = None
    key: str = "none"
    weights: str = ""
    concurrency: int = 8
    hears: float | None = None
    engine: dict[str, Any] = field(default_factory=dict)


def open_answerer(place: str, options: AnswererOptions | None = None) -> tuple[Answerer, str]:
    """Open a model.

    Args:
        place: A run, an export, a checkpoint, a hub id, ``miniature``, or the address of an OpenAI-compatible server.
        options: How.

    Returns:
        Who answers, and the sentence that asks it for a chain of thought, empty for none.

    Raises:
        CoatError: The model is not there, or the backend does not run it.
    """
    options = options or AnswererOptions()
    if options.backend == "openai" or place.startswith(("http://", "https://")):
        return _endpoint(place, options)
    return _vllm(place, options) if options.backend == "vllm" else _local(place, options)


def _local(place: str, options: AnswererOptions) -> tuple[Answerer, str]:
    from coat.api import Coat
    from coat.evaluation.answerers.local import LocalAnswerer
    from coat.reasoning import reasoning_prompt

    model = Coat.load(place).model
    mode = ""
    thinking = model.thinking if options.think else replace(model.thinking, enabled=False)
    backbone = model.backbone
    if options.text_cot == "own" or (options.text_cot == "auto" and backbone.think_prompt):
        backbone.load_think_mode(options.think_mode or None)
        mode = " | own think mode"
    prompt = "" if options.text_cot == "off" else reasoning_prompt(backbone)
    answerer = LocalAnswerer(
        model, place=place, fingerprint=weights_of(place) + mode, thinking=thinking, batch_size=options.batch_size
    )  # fmt: skip
    return _asked_as(answerer, options), prompt


def _endpoint(place: str, options: AnswererOptions) -> tuple[Answerer, str]:
    from coat.evaluation.answerers.endpoint import EndpointAnswerer

    if not place.startswith(("http://", "https://")):
        raise CoatError(f"{place} is no address.", "For example: http://localhost:8000/v1")
    prompt = "" if options.text_cot == "off" else PROMPT
    if options.text_cot == "own":
        from coat.backbones import backbone_class

        if not options.profile:
            raise CoatError(
                "Which family's own think mode to ask for cannot be known at an address.",
                "Name it: --profile audio_flamingo3",
            )
        prompt = backbone_class(options.profile).think_prompt
        if not prompt:
            raise CoatError(f"{options.profile} has no think mode of its own.", "Take --text-cot prompt.")
    answerer = EndpointAnswerer(
        place,
        model=options.model,
        key=options.key,
        profile=options.profile,
        think=options.think,
        weights=options.weights,
        concurrency=options.concurrency,
        hears=options.hears,
    )
    return answerer, prompt


def _vllm(place: str, options: AnswererOptions) -> tuple[Answerer, str]:
    from coat.backbones import backbone_class, family_of
    from coat.checkpoints.export_config import read_export_config
    from coat.evaluation.answerers.vllm import VllmAnswerer
    from coat.export.checkpoint import exported

    if options.text_cot == "own":
        raise CoatError("A think mode of its own is merged by transformers alone.", "Take --backend transformers.")
    folder = exported(place)
    settings = read_export_config(folder)
    family = settings.family if settings else family_of(folder)
    if family is None:
        raise CoatError(f"{place} is of no family that is known here.", "Serve it, and ask it: --backend openai")
    several = backbone_class(family).max_clips is None
    hears = options.hears or (settings.max_seconds if settings and several else None)
    answerer = VllmAnswerer(
        folder,
        place=place,
        fingerprint=weights_of(folder),
        profile=options.profile or family,
        think=options.think,
        is_export=settings is not None,
        hears=hears if several else None,
        **options.engine,
    )
    return answerer, "" if options.text_cot == "off" else PROMPT


def _asked_as(answerer: Any, options: AnswererOptions) -> Answerer:
    answerer.profile = options.profile or answerer.profile
    return answerer


def weights_of(place: str) -> str:
    """A key of the weights of a run (with its base), an export or a checkpoint."""
    from coat.api import MINIATURE, miniature_folder
    from coat.evaluation.fingerprint import fingerprint
    from coat.training.assembly import base_of, is_finished

    folder = miniature_folder() if place == MINIATURE and not Path(place).exists() else Path(place)
    return fingerprint(str(folder), base_of(folder)) if is_finished(folder) else fingerprint(place)
