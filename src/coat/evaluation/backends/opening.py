"""Open a backend: transformers or vLLM on a run, an export or a checkpoint, or an address."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from coat.checkpoints import RunRef, load_model, resolve
from coat.checkpoints.fingerprint import checkpoint_fingerprint
from coat.errors import CoatError
from coat.evaluation.backends.base import Backend
from coat.reasoning import PROMPT

BackendName = Literal["transformers", "vllm", "openai"]
BACKENDS: tuple[BackendName, ...] = ("transformers", "vllm", "openai")
TextCot = Literal["off", "auto", "prompt", "own"]


@dataclass(frozen=True)
class BackendOptions:
    """How a model is opened.

    Attributes:
        backend: By what it runs.
        think: False leaves the block out, even of a model that has learned it.
        stride: Audio tokens for each think token; as the model answers by itself if None.
        text_cot: Think in text first: by the family's own mode (``own``), a prompt, or own where there is one
            (``auto``).
        think_mode: The checkpoint that holds the family's own mode; the family's usual one if empty.
        profile: The family whose prompts are used; the model's own if empty.
        batch_size: Questions at a time, by transformers.
        model: The model's name, at an address.
        key: API key of an address.
        weights: Your own name for the model behind an address.
        concurrency: Questions at once, to an address.
        hears: Seconds of audio that a model behind an address takes in one clip.
        engine: Options of ``vllm.LLM``.
    """

    backend: BackendName = "transformers"
    think: bool = True
    stride: int | None = None
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


def open_backend(model_path: str, options: BackendOptions | None = None) -> tuple[Backend, str]:
    """Open a model.

    Args:
        model_path: A run, an export, a checkpoint, a hub id, ``miniature``, or the address of an OpenAI-compatible
            server.
        options: Options of generation.

    Returns:
        The backend, and the sentence that asks it for a chain of thought, empty for none.

    Raises:
        CoatError: The model is not there, or the backend does not run it.
    """
    options = options or BackendOptions()
    if options.backend == "openai" or model_path.startswith(("http://", "https://")):
        return _endpoint(model_path, options)
    return _vllm(model_path, options) if options.backend == "vllm" else _transformers(model_path, options)


def _transformers(model_path: str, options: BackendOptions) -> tuple[Backend, str]:
    from coat.evaluation.backends.transformers import TransformersBackend
    from coat.reasoning import reasoning_prompt

    ref = resolve(model_path)
    model = load_model(ref, answers_only=True)
    thinking = model.thinking if options.think else model.thinking.at(0)
    if options.stride:
        if not thinking.enabled:
            raise CoatError(f"{model_path} has no thinking block, and is asked for one.", "Leave --think out.")
        thinking = thinking.at(options.stride)
    backbone, mode = model.backbone, ""
    if options.text_cot == "own" or (options.text_cot == "auto" and backbone.think_prompt):
        backbone.load_think_mode(options.think_mode or None)
        mode = " | own think mode"
    backend = TransformersBackend(
        model,
        model_path=model_path,
        fingerprint=checkpoint_fingerprint(ref) + mode,
        profile=options.profile,
        thinking=thinking,
        batch_size=options.batch_size,
    )
    return backend, "" if options.text_cot == "off" else reasoning_prompt(backbone)


def _endpoint(model_path: str, options: BackendOptions) -> tuple[Backend, str]:
    from coat.evaluation.backends.endpoint import EndpointBackend

    if not model_path.startswith(("http://", "https://")):
        raise CoatError(f"{model_path} is no address.", "For example: http://localhost:8000/v1")
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
    backend = EndpointBackend(
        model_path,
        model=options.model,
        key=options.key,
        profile=options.profile,
        think=options.think,
        stride=options.stride,
        weights=options.weights,
        concurrency=options.concurrency,
        hears=options.hears,
    )
    return backend, prompt


def _vllm(model_path: str, options: BackendOptions) -> tuple[Backend, str]:
    from coat.backbones import backbone_class
    from coat.checkpoints import AdapterRef, BaseRef, ExportRef
    from coat.evaluation.backends.vllm import VllmBackend

    if options.text_cot == "own":
        raise CoatError("A think mode of its own is merged by transformers alone.", "Take --backend transformers.")
    ref = resolve(model_path)
    if isinstance(ref, RunRef):
        raise CoatError(f"{model_path} is a run, and vLLM reads exports.", f"coat export {model_path} --out DIR")
    if isinstance(ref, AdapterRef):
        raise CoatError(
            f"{model_path} is an adapter alone, and vLLM reads exports.", "Export the run without --adapter-only."
        )
    assert isinstance(ref, ExportRef | BaseRef)
    several = backbone_class(ref.family).max_clips is None
    hears = options.hears or (ref.config.max_seconds if isinstance(ref, ExportRef) and several else None)
    backend = VllmBackend(
        ref.path,
        model_path=model_path,
        fingerprint=checkpoint_fingerprint(ref),
        profile=options.profile or ref.family,
        think=options.think,
        stride=options.stride,
        is_export=isinstance(ref, ExportRef),
        hears=hears if several else None,
        **options.engine,
    )
    return backend, "" if options.text_cot == "off" else PROMPT
