"""Checkpoints: a string becomes a run, an export or a base, which is loaded and fingerprinted.

>>> from coat.checkpoints import load_model, resolve
>>> resolve("miniature").family
'qwen2_audio'

torch is imported when a model is loaded, not when one is only looked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coat.checkpoints.references import AdapterRef, BaseRef, Checkpoint, ExportRef, RunRef, resolve

if TYPE_CHECKING:
    from coat.checkpoints.loading import load_model

__all__ = ["AdapterRef", "BaseRef", "Checkpoint", "ExportRef", "RunRef", "load_model", "resolve"]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from coat.checkpoints.loading import load_model

        return load_model
    raise AttributeError(f"module 'coat.checkpoints' has no attribute '{name}'")
