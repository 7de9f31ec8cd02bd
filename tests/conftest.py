"""Shared fixtures: a tiny random backbone, a few clips, a small manifest. Everything is seeded."""

from __future__ import annotations

import gc
import json
import os
from copy import deepcopy
from pathlib import Path

import pytest
import soundfile
import torch

from coat.backbones import load_backbone
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import RATE, assistant, noise, user

OTHER_ENVIRONMENTS = ("vllm", "lmms")
ON_REQUEST = (*OTHER_ENVIRONMENTS, "pocket", "vocabulary")
# Tests run side by side; two that each want every core slow each other down tenfold, and so do their child processes.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser):
    parser.addoption("--screenshot", default=None, help="where the live page's picture goes, for the README")
    parser.addoption("--clip", default=None, help="and the clip on it")
    for name in OTHER_ENVIRONMENTS:
        parser.addoption(f"--{name}", default=f".venv-{name}/bin/python", help=f"the Python of one that holds {name}")


def pytest_collection_modifyitems(config, items):
    """What needs another environment or fetches much runs when it is asked for: ``-m vllm``, ``-m pocket``.

    Modules with slow tests come first: at the end, where a worker may wait for another, tests are short.
    """
    left_out = [name for name in ON_REQUEST if name not in config.getoption("-m")]
    items[:] = [item for item in items if not any(item.get_closest_marker(name) for name in left_out)]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """What has been imported stays: collections of garbage, of which each training asks for some, pass it over."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_environment():
    """What a test sets for its process ends with it: variables, the folder, and imports that it blocks."""
    environment, folder = dict(os.environ), Path.cwd()
    yield
    if dict(os.environ) != environment:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
    if Path.cwd() != folder:
        os.chdir(folder)


@pytest.fixture(scope="session")
def ray_cluster():
    """The one Ray cluster of this process, of two cores: every test that uses Ray asks for it.

    Ray can be started once in a process, and whatever calls ``coat.features.cluster`` takes the one that is there.
    """
    ray = pytest.importorskip("ray")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # else they wait for tests beside them
    root = str(Path(__file__).parents[1])  # workers import what the tests import
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             runtime_env={"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}})  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    random_backbone("qwen2_audio", folder)
    return folder


@pytest.fixture(scope="session")
def _loaded_backbone(tiny_path):
    return load_backbone("qwen2_audio", str(tiny_path))


@pytest.fixture
def backbone(_loaded_backbone):
    return deepcopy(_loaded_backbone)


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    """Twelve rows: ten clips of two lengths, two text-only."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for index in range(10):
        name = f"clip-{index}.wav"
        clip = noise(0.4 + 0.3 * (index % 2), seed=index)
        soundfile.write(folder / name, clip.waveform, RATE)
        content = f"<audio>What is said? {index % 3}"
        messages = [user(content), assistant("the red dog" + " boats" * (index % 4))]
        rows.append({"id": f"a{index}", "task": "transcription", "audios": [name], "messages": messages})
    rows += [{"id": f"t{index}", "messages": [user("Describe"), assistant("two boats")]} for index in range(2)]
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
