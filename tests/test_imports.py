"""Imports go one way, and nothing heavy is imported before it is needed."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import coat

SOURCE = Path(coat.__file__).parent
# Each room may import from its own and those to its left.
LAYERS = [
    {"errors", "extras", "files", "audio", "audio_batch", "hub", "plugins", "processes", "versions"},
    {"config"},
    {"data"},
    {"losses", "heads"},
    {"backbones", "experts"},
    {"thinking"},
    {"checkpoints"},
    {"generation", "reasoning"},
    {"features"},
    {"training", "evaluation"},
    {"ablation", "benchmark", "export", "probing"},
    {"reports"},
    {"api"},
    {"testing", "synthetic", "pocket", "serving", "lmms", "view"},
    {"cli", "__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("coat."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("coat.")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # in registries
            names |= set(re.findall(r"^coat\.(\w+)[\w.]*:\w+$", node.value))
    return names


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    if path == SOURCE / "__init__.py":  # public names
        return
    here = LEVEL[room(path)]
    above = {name for name in imported(path) if LEVEL[name] > here}
    assert not above, f"{path.name} imports from rooms above it: {above}"


def test_experts_never_import_a_backbone():
    for path in (SOURCE / "experts").glob("*.py"):
        assert "backbones" not in imported(path), path


def test_only_backbones_and_their_tiny_checkpoints_know_model_classes():
    for path in SOURCE.rglob("*.py"):
        if room(path) not in ("backbones", "testing") and path.parent.name != "vllm":
            assert "ForConditionalGeneration" not in path.read_text(), path


def test_only_backbones_know_families():
    """What differs between families lives there; processors, prompts and training ask, and never branch."""
    for path in SOURCE.rglob("*.py"):
        if room(path) not in ("backbones", "testing") and path.parent.name != "vllm":
            branches = re.findall(r'family (?:==|!=|in|not in) [\["\'(][^\n]*', path.read_text())
            assert not branches, (path, branches)


def test_help_and_finding_checkpoints_need_no_torch():
    heavy = "('torch', 'transformers', 'numpy')"
    code = f"import sys, coat.cli.app, coat.checkpoints; print(any(m in sys.modules for m in {heavy}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_public_names_resolve():
    for name in coat.__all__:
        assert getattr(coat, name).__doc__
    with pytest.raises(AttributeError, match="nothing_here"):
        coat.nothing_here  # noqa: B018


@pytest.mark.parametrize("path", sorted((SOURCE.parents[1] / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_ask_for_what_is_there(path):
    """They are run by hand, and would break unseen when something is renamed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "coat":
            module = importlib.import_module(node.module)
            for alias in node.names:
                there = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert there, ast.unparse(node)
