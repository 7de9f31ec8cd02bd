"""A bare install answers; whatever else is asked of it names the extra that brings what is missing."""

import re
import tomllib
from pathlib import Path

import pytest
import soundfile

from coat.backbones import load_backbone
from coat.errors import CoatError
from coat.extras import EXTRAS, missing, need
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import noise
from tests.prepared import Prepared

ROOT = Path(__file__).parents[1]
# As where nothing of the extras is installed: modules are not found, by imports and by those who look.
BARE = f"""
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {set(EXTRAS)!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
import peft, torch, transformers.modeling_utils
torch.set_num_threads(1)
"""
DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "whisper_normalizer": "whisper-normalizer", "multipart": "python-multipart",
    "python_multipart": "python-multipart", "prometheus_client": "prometheus-client",
    "mistral_common": "mistral-common",
}  # fmt: skip


@pytest.fixture(scope="module")
def bare():
    with Prepared(BARE) as python:
        yield python


@pytest.fixture(scope="module")
def coat(bare):
    def run(*arguments):
        done = bare.run(f"sys.argv = {['coat', *map(str, arguments)]!r}\nfrom coat.cli import main\nmain()")
        return done.returncode, " ".join((done.stdout + done.stderr).replace("│", " ").split())

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("bare") / "clip.wav"
    soundfile.write(path, noise(1.0).waveform, 16_000)
    return path


def test_a_bare_install_answers_and_exports(coat, clip, tmp_path):
    code, said = coat("chat", "--miniature", clip, "What is heard?")
    assert code == 0, said
    code, said = coat("export", "miniature", "--out", tmp_path / "model")
    assert code == 0, said


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["data", "check", "{rows}"], "train"),
        (["train", "recipes/laptop.yaml", "--set", "data.train_dataset={rows}", "--out", "{out}"], "(train|pitch)"),
        (["eval", "run", "miniature", "--tasks", "{rows}", "--out", "{out}"], "eval"),
        (["serve", "miniature"], "serve"),
        (["view", "miniature"], "(view|train)"),
        (["demo", "--out", "{out}"], "(train|eval|miniature)"),
        (["report", "{rows}", "--out", "{out}"], "(train|eval)"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(coat, words, extra, tmp_path, manifest):
    code, said = coat(*(word.format(rows=manifest, out=tmp_path / "out") for word in words))
    assert code != 0
    if "is no page of" not in said:  # a report needs nothing until it has pages
        assert re.search(rf"pip install 'coat-audio\[{extra}\]'", said), said
    assert "Traceback" not in said


def test_from_python_too(bare):
    done = bare.run("from coat import CoatModel, CoatTrainer\nCoatTrainer({}, 'x')")
    assert done.returncode == 1
    assert "coat-audio[train]" in done.stderr


def test_voxtral_s_own_file_needs_its_extra_and_what_was_saved_does_not(bare, tmp_path):
    random_backbone("voxtral", tmp_path / "hub", like_hub=True)
    load_backbone("voxtral", str(tmp_path / "hub")).save_pretrained(str(tmp_path / "saved"))
    load = "from coat.backbones import load_backbone\nload_backbone('voxtral', {!r})"
    done = bare.run(load.format(str(tmp_path / "hub")))
    assert done.returncode == 1
    assert "coat-audio[voxtral]" in done.stderr
    done = bare.run(load.format(str(tmp_path / "saved")))
    assert done.returncode == 0, done.stderr


def test_modules_and_extras_are_those_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, extra in EXTRAS.items():
        wanted = DISTRIBUTIONS.get(module, module)
        assert any(re.split(r"[^\w-]", each)[0] == wanted for each in extras[extra]), module


def test_other_modules_are_not_explained_away(monkeypatch):
    assert missing(ModuleNotFoundError("No module named 'x'", name="x")) is None
    need("train")
    monkeypatch.setitem(EXTRAS, "no_such_module", "train")
    with pytest.raises(CoatError, match="no_such_module"):
        need("train")
