"""The same questions to the same weights, here and behind an address, over real HTTP."""

import pytest

from coat.api.model import CoatModel
from coat.errors import CoatError
from coat.evaluation.backends.endpoint import EndpointBackend
from coat.evaluation.backends.transformers import TransformersBackend
from coat.evaluation.compare import compare_runs
from coat.evaluation.run import EvalSettings, run_tasks
from coat.evaluation.sources import open_tasks
from coat.files import read_jsonl
from tests.evaluation.stub import served
from tests.serving.conftest import running


@pytest.mark.parametrize("think", [True, False])
def test_an_endpoint_answers_as_the_model_does_here(tmp_path, think):
    opened = open_tasks(["mmau", "gtzan", "librispeech_clean"], "sample", tmp_path)
    model = CoatModel.from_pretrained("miniature").model
    with running(model, max_new_tokens=64) as (url, _):
        endpoint = EndpointBackend(f"{url}/v1", profile="qwen2_audio", think=think)
        assert not run_tasks(endpoint, opened, tmp_path / "there").errors
    thinking = model.thinking if think else model.thinking.at(0)
    assert not run_tasks(TransformersBackend(model, thinking=thinking), opened, tmp_path / "here").errors
    counts = [
        sorted(line["think_tokens"] for line in read_jsonl(tmp_path / where / "predictions.jsonl"))
        for where in ("here", "there")
    ]
    assert counts[0] == counts[1]
    assert all(bool(count) == think for count in counts[0])
    for found in compare_runs(tmp_path / "here", tmp_path / "there"):
        assert found.differences[0].value == 0
        assert not found.flips


def test_failures_are_errors_and_never_empty_answers(tmp_path):
    opened = open_tasks(["mmau"], "sample", tmp_path)
    with served(lambda number, body: 400 if "speaker" in str(body) else "C") as (url, stub):
        backend = EndpointBackend(url, concurrency=2)
        done = run_tasks(backend, opened, tmp_path / "run", EvalSettings())
        assert list(done.errors) == ["mmau m2 order 0"]
        assert done.answered == 3
        sound = stub.asked[0]["messages"][0]["content"][0]
        assert sound["type"] == "input_audio"
        assert sound["input_audio"]["format"] == "wav"
        assert stub.asked[0]["max_tokens"] == 128
        assert stub.asked[0]["temperature"] == 0


def test_the_block_is_switched_off_by_the_servers_own_option(tmp_path):
    opened = open_tasks(["gtzan"], "sample", tmp_path)
    with served(lambda number, body: "rock") as (url, stub):
        run_tasks(EndpointBackend(url, think=False), opened, tmp_path / "run")
        assert stub.asked[0]["chat_template_kwargs"] == {"audio_think": False}


def test_addresses_that_do_not_answer_are_named():
    with pytest.raises(CoatError, match="does not answer"):
        EndpointBackend("http://127.0.0.1:9/v1")
    with served(lambda number, body: "x") as (url, _):
        with pytest.raises(CoatError, match="serves stub"):
            EndpointBackend(url, model="other")
        assert EndpointBackend(url).model == "stub"
