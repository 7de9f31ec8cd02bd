"""Omni models on disk: a thinker is one part of a larger checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coat.backbones.base import Backbone

PREFIX = "thinker."


class Thinker(Backbone):
    """An Omni model's thinker in either layout of transformers.

    Since 5.21 tower and language model are parts of ``model.model``; before, ``model.model`` is the language model and
    the tower stands beside it. Names of an adapter's weights follow, so a run is loaded by the layout that wrote it.
    """

    @property
    def _nested(self) -> bool:
        return hasattr(self.model.model, "language_model")

    @property
    def audio_tower(self) -> nn.Module:
        """See :meth:`Backbone.audio_tower`."""
        return self.model.model.audio_tower if self._nested else self.model.audio_tower

    @property
    def language_model(self) -> nn.Module:
        """See :meth:`Backbone.language_model`."""
        return self.model.model.language_model if self._nested else self.model.model

    def tower_output(self, packed: Tensor, **lengths: Tensor) -> Tensor:
        """States of the tower before its last layers, which are the projector of these families, ``(tokens, d_A)``.

        Args:
            packed: Log-mel of all clips, ``(mels, frames)``.
            **lengths: The tower's other inputs.
        """
        read: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            read.append(inputs[0])
            return (inputs[0].to(next(module.parameters()).dtype),)  # a trained projector is in full precision

        hook = self.projector.register_forward_pre_hook(keep)
        try:
            self.audio_tower(packed, **lengths)
        finally:
            hook.remove()
        return read[0]

    @property
    def within_language_model(self) -> str:
        """See :meth:`Backbone.within_language_model`."""
        return super().within_language_model if self._nested else r"(.*\.)?model\.layers\."


def save_thinker(model: Any, full_config: Any, folder: str) -> None:
    """Write a thinker in the layout of the full model, without speech output.

    Weights are named ``thinker.*`` and the configuration is nested, so that the full model's class, vLLM and
    the thinker's own class all read it.

    Args:
        model: The thinker.
        full_config: The full model's configuration class.
        folder: Output folder.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    model.save_pretrained(folder)
    place = Path(folder)
    for shard in place.glob("*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            weights = {_prefixed(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        partial = shard.with_suffix(".partial")
        save_file(weights, partial, metadata={"format": "pt"})
        partial.replace(shard)
    index = place / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_text())
        content["weight_map"] = {_prefixed(name): shard for name, shard in content["weight_map"].items()}
        index.write_text(json.dumps(content, indent=2))
    thinker = model.config.to_dict()
    # Left out, it would be read as the class's default, which ties the output layer to the embedding.
    tied = bool(model.config.tie_word_embeddings)
    thinker["text_config"]["tie_word_embeddings"] = thinker["tie_word_embeddings"] = tied
    full = full_config(thinker_config=thinker, enable_audio_output=False).to_dict()
    full["thinker_config"] = thinker | {"architectures": [type(model).__name__]}
    full |= {"architectures": [_full_class(model)], "dtype": str(model.dtype).removeprefix("torch.")}
    (place / "config.json").write_text(json.dumps(full, indent=2, default=str))


def _prefixed(name: str) -> str:
    """A model that was read from a full checkpoint is written with the prefix already."""
    return name if name.startswith(PREFIX) else PREFIX + name


def _full_class(model: Any) -> str:
    return type(model).__name__.replace("Thinker", "")
