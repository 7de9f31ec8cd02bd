"""vLLM cannot live in this package's environment: these tests drive it in its own, by processes."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from tests.prepared import Prepared

# A thread each, bound to no core: two of them run side by side. Nothing is compiled, as each lives for seconds.
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1",
       "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}  # fmt: skip


@pytest.fixture(scope="session")
def vllm_python(request):
    path = Path(request.config.getoption("--vllm"))
    if not path.is_file():
        pytest.skip(f"no vLLM environment at {path}: make test-vllm builds one")
    return str(path.absolute())  # not resolved: a link tells Python which environment it is in


@pytest.fixture(scope="session")
def vllm(vllm_python):
    """A Python of vLLM's environment, with it imported."""
    with Prepared("from tests.vllm.answer import main", vllm_python, CPU) as python:
        yield python


@pytest.fixture(scope="session")
def transformers():
    """A Python of ours, which makes what vLLM is held to."""
    with Prepared("from tests.vllm.reference import main") as python:
        yield python


@pytest.fixture(scope="session")
def reference_of(transformers, tmp_path_factory):
    """A family's exports, clips, questions and what transformers answers; made once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def make(family, pocket=None):
        folder = shared / "reference" / family
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            done = transformers.run(f"main({str(folder)!r}, {family!r}, {pocket and str(pocket)!r})")
        assert done.returncode == 0, done.stderr[-4000:]
        return folder

    return make


@pytest.fixture(scope="session")
def reference(reference_of):
    """Qwen2-Audio's."""
    return reference_of("qwen2_audio")
