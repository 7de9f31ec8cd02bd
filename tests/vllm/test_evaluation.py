"""`coat eval run --backend vllm` gives the answers of transformers."""

import json
import os
import subprocess

import pytest

from coat.checkpoints import load_model
from coat.evaluation.backends.transformers import TransformersBackend
from coat.evaluation.run import read_run, run_tasks
from coat.evaluation.sources import open_manifest_tasks
from tests.vllm.conftest import CPU

pytestmark = pytest.mark.vllm
OPTIONS = ("dtype=float32", "enforce_eager=true", "max_model_len=4096")


def test_answers_equal_those_of_transformers(vllm_python, reference, tmp_path):
    rows = [
        {"id": f"r{index}", "task": "said", "audios": [str(reference / f"clips/qwen2_audio-{index}.wav")],
         "messages": [{"role": "user", "content": f"<audio>What is said? {index % 3}"},
                      {"role": "assistant", "content": "the red dog"}]}
        for index in range(8)
    ]  # fmt: skip
    manifest = tmp_path / "test.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    export = reference / "exports" / "qwen2_audio"
    command = [vllm_python, "-m", "coat", "eval", "run", str(export), "--backend", "vllm", "--tasks", str(manifest),
               "--max-new-tokens", "8", "--out", str(tmp_path / "there")]  # fmt: skip
    for option in OPTIONS:
        command += ["--engine", option]
    done = subprocess.run(command, env={**os.environ, **CPU}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    model = load_model(export).eval()
    opened = open_manifest_tasks(manifest, max_new_tokens=8)
    assert not run_tasks(TransformersBackend(model), opened, tmp_path / "here").errors
    (there,), (here,) = (read_run(tmp_path / name)[1] for name in ("there", "here"))
    assert {key: answer.text for key, answer in there.answers.items()} == {
        key: answer.text for key, answer in here.answers.items()
    }
    assert len(there.answers) == len(rows)
