"""The processor, known to ``AutoProcessor`` as soon as this module is imported: ``from coat import CoatProcessor``.

Apart from the class itself, whose source goes with exports to machines without this package.
"""

from __future__ import annotations

from transformers import AutoProcessor, PreTrainedConfig

from coat.thinking.processor import CoatProcessor

__all__ = ["CoatProcessor"]


class _CoatConfig(PreTrainedConfig):
    """A configuration of no model: processors are found by their name, and stock checkpoints keep their own."""

    model_type = "coat"


AutoProcessor.register(_CoatConfig, CoatProcessor, exist_ok=True)
