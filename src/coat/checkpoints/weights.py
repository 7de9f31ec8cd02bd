"""Adapter, token rows and heads on disk: safetensors, and nothing pickled."""

from __future__ import annotations

from pathlib import Path

import torch

from coat.checkpoints.references import ADAPTER
from coat.thinking.model import ThinkingModel

HEADS = "heads.safetensors"


def save_weights(model: ThinkingModel, folder: Path, *, writes: bool = True) -> None:
    """Write what training changed: a PEFT adapter (LoRA and the three token rows) and the heads.

    Args:
        model: Whole, or in shards that several processes hold: then all must call this.
        folder: Output folder.
        writes: Whether this process is the one that writes.
    """
    from safetensors.torch import save_file

    adapter, heads = model.adapter_weights(), model.head_weights()
    if not writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    model.save_adapter(str(folder / ADAPTER), adapter)
    if heads:
        save_file({name: value.cpu().contiguous() for name, value in heads.items()}, folder / HEADS)


def head_dims(folder: Path) -> dict[str, int]:
    """e_k of every head that was saved, by the name of its expert."""
    from safetensors import safe_open

    path, last = folder / HEADS, ".project.bias"
    if not path.is_file():
        return {}
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.endswith(last)]  # noqa: SIM118
        return {name.removesuffix(last): file.get_slice(name).get_shape()[0] for name in names}


def load_weights(model: ThinkingModel, folder: Path, *, trainable: bool = False) -> None:
    """Load what :func:`save_weights` wrote. Heads are loaded if the model has them."""
    from safetensors.torch import load_file

    model.load_adapter(str(folder / ADAPTER), trainable=trainable)
    if model.heads and (folder / HEADS).is_file():
        model.load_head_weights({k: v.to(torch.float32) for k, v in load_file(folder / HEADS).items()})
