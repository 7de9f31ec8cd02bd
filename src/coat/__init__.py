"""CoAT: Continuous Audio Thinking for large audio language models (arXiv 2606.18273).

Names are loaded when they are first used, so that ``import coat`` and ``coat --help`` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coat.registration import register_with_transformers

if TYPE_CHECKING:
    from coat.api import Coat
    from coat.audio import Clip, load_audio
    from coat.checkpoints import load_model
    from coat.config.recipe import Recipe, load_recipe
    from coat.config.thinking import ThinkingConfig
    from coat.errors import CoatError
    from coat.thinking.model import CoatModel
    from coat.thinking.processor import CoatProcessor
    from coat.training.run import train

__version__ = "0.1.0"

_HOMES = {
    "Clip": "coat.audio",
    "Coat": "coat.api",
    "CoatError": "coat.errors",
    "CoatModel": "coat.thinking.model",
    "CoatProcessor": "coat.thinking.processor",
    "Recipe": "coat.config.recipe",
    "ThinkingConfig": "coat.config.thinking",
    "load_audio": "coat.audio",
    "load_model": "coat.checkpoints",
    "load_recipe": "coat.config.recipe",
    "train": "coat.training.run",
}

__all__ = [
    "Clip",
    "Coat",
    "CoatError",
    "CoatModel",
    "CoatProcessor",
    "Recipe",
    "ThinkingConfig",
    "load_audio",
    "load_model",
    "load_recipe",
    "train",
]


register_with_transformers()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'coat' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
