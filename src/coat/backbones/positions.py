"""Positions of a prompt that are not one after another, while a model generates."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Places:
    """A forward pre-hook that gives a language model the positions of its prompt, and those that follow.

    Args:
        position_ids: ``(B, T)`` of the prompts; they may come in parts, and each as several samples.
    """

    def __init__(self, position_ids: Tensor) -> None:
        self.coming = position_ids

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """See :meth:`torch.nn.Module.register_forward_pre_hook`.

        Raises:
            RuntimeError: More tokens came at once than positions are known of.
        """
        given = options.get("inputs_embeds")
        rows, length = (options["input_ids"] if given is None else given).shape[:2]
        coming = self.coming.repeat_interleave(rows // len(self.coming), dim=0)  # several samples of a prompt
        here, later = coming[:, :length], coming[:, length:]
        if here.shape[1] != length:
            raise RuntimeError(f"{length} tokens came at once, and positions are known of {here.shape[1]}")
        self.coming = later if later.shape[1] else here[:, -1:] + 1
        return inputs, {**options, "position_ids": here}
