"""What ``import coat`` offers, and that its examples run."""

import doctest
import importlib

import pytest

import coat

DOCUMENTED = (
    "coat",
    "coat.api.inputs",
    "coat.api.model",
    "coat.api.trainer",
    "coat.audio.clip",
    "coat.checkpoints",
    "coat.config.reading",
    "coat.config.recipe",
    "coat.extras",
    "coat.serving.transcription",
    "coat.testing.clips",
    "coat.thinking.processor",
    "coat.config.thinking",
)


def test_the_package_holds_its_public_names_and_nothing_else():
    assert dir(coat) == sorted([*coat.__all__, "__version__"])
    for name in coat.__all__:
        assert getattr(coat, name).__doc__


@pytest.mark.parametrize("module", DOCUMENTED)
def test_examples_run(module):
    tried = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert not tried.failed
    assert tried.attempted
