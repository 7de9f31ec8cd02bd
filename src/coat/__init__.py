"""CoAT: Continuous Audio Thinking for large audio language models (arXiv 2606.18273).

>>> from coat import CoatModel
>>> CoatModel.from_pretrained("miniature").thinking.stride
1

Names are loaded when they are first used, so that ``import coat`` and ``coat --help`` stay quick.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from coat.versions import VERSION

if TYPE_CHECKING:
    from coat.api.model import CoatModel, ThinkOutput
    from coat.api.trainer import CoatTrainer
    from coat.audio import Clip, load_audio
    from coat.config.reading import load_recipe
    from coat.config.recipe import Recipe
    from coat.config.thinking import ThinkingConfig
    from coat.errors import CoatError
    from coat.thinking.auto import CoatProcessor

__version__ = VERSION

_HOMES = {
    "Clip": "coat.audio",
    "CoatError": "coat.errors",
    "CoatModel": "coat.api.model",
    "CoatProcessor": "coat.thinking.auto",
    "CoatTrainer": "coat.api.trainer",
    "Recipe": "coat.config.recipe",
    "ThinkOutput": "coat.api.model",
    "ThinkingConfig": "coat.config.thinking",
    "load_audio": "coat.audio",
    "load_recipe": "coat.config.reading",
}

__all__ = [
    "Clip",
    "CoatError",
    "CoatModel",
    "CoatProcessor",
    "CoatTrainer",
    "Recipe",
    "ThinkOutput",
    "ThinkingConfig",
    "load_audio",
    "load_recipe",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        try:
            return getattr(_import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            from coat.extras import missing

            raise missing(error) or error from None
    raise AttributeError(f"module 'coat' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
