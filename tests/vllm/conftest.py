"""vLLM cannot live in this package's environment: these tests drive it in its own, by processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def vllm_python(request):
    path = Path(request.config.getoption("--vllm"))
    if not path.is_file():
        pytest.skip(f"no vLLM environment at {path}: make test-vllm builds one")
    return str(path.absolute())  # not resolved: a link tells Python which environment it is in


@pytest.fixture(scope="session")
def reference_of(tmp_path_factory):
    """A family's exports, clips, questions and what transformers answers; made once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def make(family, *more):
        folder = shared / "reference" / family
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            subprocess.run([sys.executable, str(HERE / "reference.py"), str(folder), family, *map(str, more)],
                           check=True, capture_output=True)  # fmt: skip
        return folder

    return make


@pytest.fixture(scope="session")
def reference(reference_of):
    """Qwen2-Audio's."""
    return reference_of("qwen2_audio")
