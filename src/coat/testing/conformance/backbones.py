"""Conformance tests of backbones."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from coat.backbones import load_backbone
from coat.backbones.base import Backbone
from coat.testing.conformance.generation import Generation
from coat.testing.conformance.hearing import Hearing
from coat.testing.conformance.passes import Passes
from coat.testing.conformance.prompts import Prompts


class BackboneConformance(Hearing, Prompts, Passes, Generation):
    """Subclass it in a test file, and say how a tiny checkpoint of your family is written.

    Attributes:
        family: A registered name, or ``my_package.my_model:MyModel``.

    Example::

        from coat.testing.conformance import BackboneConformance

        class TestMyModel(BackboneConformance):
            family = "my_package.my_model:MyModel"

            def write_checkpoint(self, folder):
                make_tiny_model().save_pretrained(folder)  # weights, tokenizer, feature extractor, chat template
    """

    family: ClassVar[str]

    def write_checkpoint(self, folder: Path) -> None:
        """Write a checkpoint with random weights as transformers would: small, for it is loaded for each test."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def checkpoint(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        """Its folder."""
        folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
        cls().write_checkpoint(folder)
        return str(folder)

    @pytest.fixture
    def loaded(self, checkpoint: str) -> Backbone:
        """Loaded anew for each test, by the code that loads real ones."""
        return load_backbone(self.family, checkpoint)
