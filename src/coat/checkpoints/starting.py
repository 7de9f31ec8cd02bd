"""A run that begins with the weights of an earlier one (``start_from`` of a recipe)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coat.backbones import backbone_class
from coat.checkpoints.fingerprint import files_fingerprint
from coat.checkpoints.references import ADAPTER, AdapterRef, RunRef, resolve
from coat.checkpoints.weights import HEADS
from coat.config.recipe import Recipe
from coat.errors import CoatError
from coat.hub import locate
from coat.thinking.model import ThinkingModel

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def check_start(recipe: Recipe) -> RunRef | AdapterRef | None:
    """Resolve the run or adapter that a recipe starts from, before any weights are loaded; None if it starts anew.

    Raises:
        CoatError: It is no run and no adapter, or it was trained on another checkpoint, with LoRA of another rank or
            scale, or with other heads.
    """
    if recipe.start_from is None:
        return None
    ref = resolve(recipe.start_from)
    if not isinstance(ref, RunRef | AdapterRef):
        raise CoatError(
            f"start_from: {recipe.start_from} is no finished run and no adapter.",
            "A whole model, such as an export, is a place to begin too: backbone.path.",
        )
    family, base = recipe.backbone.family, recipe.backbone.path or backbone_class(recipe.backbone.family).hub_id
    if ref.family != family:
        raise CoatError(
            f"start_from: {recipe.start_from} was trained on {ref.family}, and backbone.family is {family}."
        )
    theirs, ours = locate(ref.base), locate(base)
    if theirs != ours and files_fingerprint(theirs) != files_fingerprint(ours):
        raise CoatError(
            f"start_from: {recipe.start_from} was trained on {ref.base}, whose weights are not those of {base}.",
            f"backbone.path: {ref.base}",
        )
    config = json.loads((_adapter_of(ref) / PEFT_CONFIG).read_text())
    if (config["r"], config["lora_alpha"]) != (recipe.lora.rank, recipe.lora.alpha):
        raise CoatError(
            f"start_from: {recipe.start_from} has LoRA of rank {config['r']} and alpha {config['lora_alpha']}, and "
            f"this recipe of rank {recipe.lora.rank} and alpha {recipe.lora.alpha}.",
            f"lora: {{rank: {config['r']}, alpha: {config['lora_alpha']}}}",
        )
    if isinstance(ref, RunRef):
        _check_heads(ref, recipe)
    return ref


def _check_heads(ref: RunRef, recipe: Recipe) -> None:
    """Heads of one shape may differ in what they compute, by their number of attention heads."""
    theirs = ref.recipe
    both = [name for name in recipe.active_experts() if name in theirs.active_experts()]
    if both and theirs.heads != recipe.heads:
        fields = ", ".join(f"{name}: {value}" for name, value in theirs.heads.model_dump().items())
        raise CoatError(
            f"start_from: {recipe.start_from} has other heads for {', '.join(both)} than this recipe.",
            f"heads: {{{fields}}}",
        )


def load_start(model: ThinkingModel, ref: RunRef | AdapterRef) -> list[str]:
    """Load the weights that a run begins with, in place.

    Args:
        model: With what its recipe trains, and heads of its experts; these keep their weights where ``ref`` has none.
        ref: From :func:`check_start`.

    Returns:
        Names of the experts whose heads were loaded.

    Raises:
        CoatError: What was trained there is not what is trained here.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    folder = _adapter_of(ref)
    ours = model.adapter_shapes()
    with safe_open(folder / PEFT_WEIGHTS, "pt") as file:
        theirs = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    if ours != theirs:
        raise CoatError(
            f"start_from: {ref.path} has not trained what this recipe trains. {_differences(ours, theirs)}",
            "Give train, lora, train_embeddings and thinking.enabled as they were there.",
        )
    model.load_adapter(str(folder))
    heads = Path(ref.path) / HEADS
    if not (isinstance(ref, RunRef) and heads.is_file()):
        return []
    saved: dict[str, dict[str, Any]] = {}
    for name, value in load_file(heads).items():
        expert, _, rest = name.partition(".")
        saved.setdefault(expert, {})[rest] = value
    both = [name for name in model.heads if name in saved]
    for name in both:
        try:
            model.heads[name].load_state_dict(saved[name])
        except RuntimeError as error:
            raise CoatError(
                f"start_from: the head of {name} in {ref.path} is another: {error}",
                "Give the expert's options as they were there.",
            ) from None
    return both


def _adapter_of(ref: RunRef | AdapterRef) -> Path:
    """The folder of PEFT's two files, on this machine."""
    if isinstance(ref, RunRef):
        return ref.weights / ADAPTER
    from transformers.utils import cached_file

    paths = [cached_file(ref.path, name) for name in (PEFT_CONFIG, PEFT_WEIGHTS)]
    return Path(str(paths[0])).parent


def _differences(ours: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]]) -> str:
    """An example of what only one of two has, and of what both have in another shape."""
    said = []
    for what, names in (
        ("only there", theirs.keys() - ours.keys()),
        ("only here", ours.keys() - theirs.keys()),
        ("of another shape", {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}),
    ):
        if names:
            said.append(f"{len(names)} tensors are {what}, such as {min(names)}.")
    return " ".join(said)
