"""Weights that pocket has learned: low-rank changes to tower and language model, and the projector, in one file.

The file that ships with the package is ``SHIPPED``.

The file names modules by their place within a part, not by their place in a model of transformers, whose layout
changes between versions. ``experiments/pocket`` trains and collects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from coat.backbones.base import Backbone
from coat.errors import CoatError

SHIPPED = Path(__file__).with_name("hearing.safetensors")
TOWER, LANGUAGE_MODEL, PROJECTOR = "audio_tower", "language_model", "projector"
LORA_A, LORA_B, WHOLE = "lora_A", "lora_B", "whole"
FORMAT = "pocket-hearing-2"


def parts(backbone: Backbone) -> dict[str, nn.Module]:
    """The modules that a file's names begin with."""
    return {
        TOWER: backbone.audio_tower,
        LANGUAGE_MODEL: backbone.language_model,
        PROJECTOR: backbone.projector,
    }


def read(path: Path) -> dict[str, Tensor]:
    """Read a file that :func:`write` wrote.

    Args:
        path: The file.

    Returns:
        In float32, ``part.place.lora_A`` and ``.lora_B``, whose product ``B @ A`` is the change of a weight, and
        ``part.place.whole``.

    Raises:
        CoatError: The file is not there, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CoatError(f"There is no {path}.", "scripts/pocket.sh trains it.")
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise ValueError("it was written by another version, or by another program")
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError) as error:
        raise CoatError(f"{path} holds no weights that pocket has learned: {error}", "scripts/pocket.sh") from None
    return weights


@torch.no_grad()
def apply(backbone: Backbone, path: Path) -> None:
    """Teach an assembled backbone to hear, in place.

    Args:
        backbone: As :func:`coat.pocket.assemble.assemble` returns it, in float32.
        path: A file that :func:`write` wrote.

    Raises:
        CoatError: The file is not there, or fits another model.
    """
    weights = read(path)
    roots = parts(backbone)
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        place, _, kind = rest.rpartition(".")
        if kind == LORA_B:
            continue
        owner, _, leaf = (place if kind == WHOLE else f"{place}.weight").rpartition(".")
        try:
            weight = getattr(roots[part].get_submodule(owner), leaf)
            if kind == WHOLE:
                weight.copy_(value)
            else:
                weight.addmm_(weights[f"{part}.{place}.{LORA_B}"], value)
        except (AttributeError, KeyError, RuntimeError) as error:
            raise CoatError(f"{path.name} does not fit this model at {part}.{place}: {error}") from None


def write(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write changes in float16.

    Args:
        path: The file.
        weights: As :func:`read` returns them.
    """
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".partial")
    half = {name: value.detach().half().contiguous() for name, value in sorted(weights.items())}
    save_file(half, partial, metadata={"format": FORMAT})
    partial.rename(path)
