"""This package's models and tasks inside lmms-eval: found by its entry point, in the environment that holds it.

Baseline and CoAT are one registered model, ``coat``, so that both are given the same prompts: lmms-eval keys them by
the registered name.
"""

from __future__ import annotations

from typing import Any


def manifests() -> Any:
    """Entry point for lmms-eval: one model, by both of its interfaces."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("coat", "coat.lmms.model.CoatSimple", "coat.lmms.model.CoatChat")
