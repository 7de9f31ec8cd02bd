"""vLLM cannot live in this package's environment: these tests drive it in its own, by processes."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def vllm_python(request):
    path = Path(request.config.getoption("--vllm"))
    if not path.is_file():
        pytest.skip(f"no vLLM environment at {path}: make test-vllm builds one")
    return str(path.absolute())  # not resolved: a link tells Python which environment it is in


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """Exports of every family, clips, questions and what transformers answers."""
    folder = tmp_path_factory.mktemp("reference") / "all"
    subprocess.run([sys.executable, str(HERE / "reference.py"), str(folder)], check=True, capture_output=True)
    return folder
