"""A tiny checkpoint of every family, random weights in the real classes, for tests of your own parts.

>>> from coat.testing.checkpoints import random_backbone
>>> random_backbone("audio_flamingo3", "runs/tiny-af3")    # doctest: +SKIP
>>> random_backbone("qwen2_5_omni").num_audio_tokens(16_000)  # doctest: +SKIP
25

Each is saved in the layout of the family's hub checkpoints and loaded by the same code.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch

from coat.backbones.base import Backbone
from coat.errors import CoatError, did_you_mean
from coat.testing.families import MAKERS
from coat.testing.published import as_published, describe_images, tie
from coat.testing.sizes import REAL_SIZES, Sizes

__all__ = ["REAL_SIZES", "Sizes", "random_backbone"]


def random_backbone(
    family: str,
    folder: str | Path | None = None,
    *,
    seed: int = 0,
    sizes: Sizes | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    like_hub: bool = False,
) -> Backbone:
    """A member of a family with random weights, tiny if nothing else is said.

    Args:
        family: Its key in recipes.
        folder: Folder to write it to; None writes nothing.
        seed: Seed of the weights.
        sizes: ``REAL_SIZES`` has those of the hub checkpoints.
        dtype: Data type of the weights.
        device: Device that draws them; PyTorch's default if None. True sizes in a machine's memory take minutes;
            ``meta`` draws nothing.
        like_hub: Give the checkpoint what published ones may have and fresh ones do not: an embedding without a spare
            row, tied to the output layer where the family's class ties them; a ``generation_config.json`` with
            penalties, sampling and several end tokens; a chat template in another place. It needs a folder.

    Raises:
        CoatError: The family has no maker.
        ValueError: ``like_hub`` without a folder.
    """
    if family not in MAKERS:
        raise CoatError(f"There is no tiny maker for '{family}'.", did_you_mean(family, list(MAKERS)))
    if like_hub and folder is None:
        raise ValueError("like_hub describes files: say in which folder to write them")
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device) if device is not None else nullcontext():
            backbone = MAKERS[family](sizes or Sizes())
    finally:
        torch.set_default_dtype(before)
    backbone.model.eval()
    if like_hub:
        tie(backbone)
    if folder is not None:
        backbone.save_pretrained(str(folder))
        describe_images(Path(folder), family)
        if like_hub:
            as_published(backbone, Path(folder))
    return backbone
