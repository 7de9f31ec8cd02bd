"""``AutoProcessor`` knows :class:`CoatProcessor` as soon as ``coat`` is imported, at no cost to those who do not ask.

transformers is slow to import, so nothing is imported here: the registration is done when, and if, the module
that holds ``AutoProcessor`` is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

TARGET = "transformers.models.auto.processing_auto"


def register_with_transformers() -> None:
    """Register now if ``AutoProcessor`` is there, else when it comes."""
    if TARGET in sys.modules:
        _register(sys.modules[TARGET])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register(module: Any) -> None:
    from transformers import PreTrainedConfig

    from coat.thinking.processor import CoatProcessor

    # A configuration of no model: the class is found by its name in processor_config.json, and stock
    # checkpoints keep their own processors.
    placeholder = type("CoatConfig", (PreTrainedConfig,), {"model_type": "coat"})
    if not any(processor is CoatProcessor for processor in module.PROCESSOR_MAPPING._extra_content.values()):
        module.AutoProcessor.register(placeholder, CoatProcessor)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register(module)
