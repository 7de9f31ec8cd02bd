"""Checkpoints: a string becomes a run, an export or a base, which is loaded and fingerprinted.

>>> from coat.checkpoints import load_model, resolve
>>> resolve("miniature").family
'qwen2_audio'
"""

from __future__ import annotations

from coat.checkpoints.loading import load_model
from coat.checkpoints.references import BaseRef, Checkpoint, ExportRef, RunRef, resolve

__all__ = ["BaseRef", "Checkpoint", "ExportRef", "RunRef", "load_model", "resolve"]
