"""Load whatever a path refers to, ready to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from coat.backbones import load_backbone
from coat.checkpoints.building import add_heads, build_model
from coat.checkpoints.devices import as_dtype, default_device
from coat.checkpoints.references import AdapterRef, BaseRef, Checkpoint, ExportRef, RunRef, resolve
from coat.checkpoints.weights import head_dims, load_weights
from coat.thinking.model import ThinkingModel


def load_model(
    model_path: str | Path | Checkpoint,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    device_map: str | dict[str, Any] | None = None,
    attn_implementation: str | None = None,
    heads: bool = False,
    load_in_4bit: bool | None = None,
    answers_only: bool = False,
) -> ThinkingModel:
    """Load a run, an export, an adapter or a plain checkpoint, in evaluation mode.

    Args:
        model_path: See :func:`coat.checkpoints.references.resolve`.
        dtype: Data type of the weights: ``auto`` (what a run's recipe says, else bfloat16 where the accelerator
            computes in it), ``float32``, ``bfloat16``, ``float16`` or a ``torch.dtype``.
        device: Device of the model; the accelerator, or the CPU where there is none, if None.
        device_map: As in transformers, for models that one device does not hold; excludes ``device``.
        attn_implementation: As in transformers.
        heads: Load the projection heads of a run too, for analysis.
        load_in_4bit: Hold the language model in four bits; as the run was trained if None.
        answers_only: The adapter will be neither trained nor saved: fold it into weights of float32, where that moves
            logits by rounding alone and spares every layer its part beside. Weights of 16 bits it would round anew.

    Raises:
        CoatError: There is no such model.
        ValueError: Both ``device`` and ``device_map`` are given.
    """
    if device is not None and device_map is not None:
        raise ValueError("give device or device_map, not both")
    ref = model_path if isinstance(model_path, RunRef | ExportRef | AdapterRef | BaseRef) else resolve(model_path)
    given = {"device_map": device_map, "attn_implementation": attn_implementation}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if isinstance(ref, RunRef):
        model = _run(ref, dtype, heads=heads, load_in_4bit=load_in_4bit, **options)
    else:
        path = ref.base if isinstance(ref, AdapterRef) else ref.path
        backbone = load_backbone(ref.family, path, dtype=as_dtype(dtype), load_in_4bit=bool(load_in_4bit), **options)
        model = ThinkingModel(backbone, ref.thinking)
        if isinstance(ref, AdapterRef):
            model.load_adapter(ref.path)
    model = model.eval()
    if answers_only and {weight.dtype for weight in model.backbone.model.parameters()} == {torch.float32}:
        model.merge_adapter()
    return model if device_map is not None else model.to(device or default_device())


def _run(
    ref: RunRef, dtype: str | torch.dtype, *, heads: bool, load_in_4bit: bool | None, **options: Any
) -> ThinkingModel:
    held = None if dtype == "auto" else as_dtype(dtype)
    model = build_model(ref.recipe, dtype=held, load_in_4bit=load_in_4bit, **options)
    if heads:
        add_heads(model, head_dims(ref.weights), ref.recipe)
    load_weights(model, ref.weights)
    return model
