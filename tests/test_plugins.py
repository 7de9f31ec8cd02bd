"""Experts and backbones of other packages, by name and by module:Class."""

import re
import sys
from pathlib import Path

import pytest

from coat import plugins
from coat.backbones import backbone_class, family_of
from coat.checkpoints import load_model
from coat.config.reading import parse_recipe
from coat.errors import CoatError
from coat.experts import expert_class, expert_names, make_expert
from coat.training.run import train
from tests.prepared import Prepared

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "add-an-expert.md"
TINY = """
from coat.testing.checkpoints import random_backbone


def write_tiny_checkpoint(folder):
    random_backbone("qwen2_audio", folder)
"""
BACKBONE = """
from coat.backbones.qwen2_audio import Qwen2Audio


class MyModel(Qwen2Audio):
    family = "mine"
    model_types = ("my_model",)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as pip installs one, with the expert of the documentation, and what it declares."""
    folder = tmp_path / "site" / "my_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "loudness.py").write_text(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])
    (folder / "my_model.py").write_text(BACKBONE)
    (folder / "tiny.py").write_text(TINY)
    about = folder.parent / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    points = {
        "coat.experts": "loudness = my_package.loudness:Loudness",
        "coat.backbones": "mine = my_package.my_model:MyModel",
    }
    (about / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, line in points.items()))
    monkeypatch.syspath_prepend(str(folder.parent))
    plugins.declared.cache_clear()
    yield folder.parent
    plugins.declared.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]


def test_what_packages_declare_is_known_by_name(package, tmp_path):
    assert "loudness" in expert_names()
    assert expert_class("loudness").__name__ == "Loudness"
    assert backbone_class("mine").family == "mine"
    (tmp_path / "config.json").write_text('{"model_type": "my_model"}')
    assert family_of(str(tmp_path)) == "mine"


def test_an_expert_by_its_class_is_trained_with(package, tiny_path, manifest, tmp_path):
    recipe = parse_recipe(
        {
            "backbone": {"family": "my_package.my_model:MyModel", "path": str(tiny_path)},
            "experts": {"level": {"kind": "my_package.loudness:Loudness"}},
            "stages": [{"name": "one", "steps": 2, "experts": {"level": "auto"}}],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 2, "micro_batch_size": 2, "precision": "fp32"},
        }
    )
    run = train(recipe, tmp_path / "run", say=lambda _: None)
    model = load_model(run, heads=True)
    assert set(model.heads) == {"level"}
    with pytest.raises(CoatError, match="No processor is known for the family mine"):
        model.processor()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spidre", "Did you mean 'spidr'"), ("nowhere.at_all:Loudness", "cannot be imported"),
        ("my_package.loudness:Loud", "holds no Loud"), ("my_package.my_model:MyModel", "is no expert"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(package, name, message):
    with pytest.raises(CoatError, match=message):
        expert_class(name)


def test_a_class_needs_a_key_of_its_own():
    with pytest.raises(CoatError, match="a key of its own"):
        make_expert("my_package.loudness:Loudness", hidden_size=8, audio_spec=None)


@pytest.fixture(scope="module")
def theirs():
    """A Python with the suite imported, as that of another package's tests."""
    with Prepared("import os, sys, pytest, coat.testing.conformance") as python:
        yield python


@pytest.mark.parametrize(
    ("page", "file", "chosen"),
    [
        ("add-an-expert.md", "test_loudness.py", "not five_minutes"),
        ("add-a-backbone.md", "test_my_model.py", "block or template or alone"),
    ],
)
def test_the_suite_tests_what_others_wrote(package, theirs, tmp_path, page, file, chosen):
    """The pages' own test files, in a folder of their own, as their readers would run them."""
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL) if file in block
    )
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / file).write_text(code)
    done = theirs.run(
        f"os.chdir({str(tmp_path / 'theirs')!r}); os.environ['PYTHONPATH'] = {str(package)!r}\n"
        f"sys.path[:0] = [os.getcwd(), {str(package)!r}]\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:randomly', '-p', 'no:cacheprovider', '-k', {chosen!r}, {file!r}]))"
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 8
