import os

import numpy as np
import pytest

from coat.audio import Clip
from coat.data.conversation import user_message
from coat.errors import CoatError
from coat.evaluation.backends.base import Request
from coat.evaluation.backends.opening import BackendOptions, open_backend
from coat.evaluation.backends.workers import _devices, _parts, open_workers
from coat.generation import Reply
from coat.testing.clips import noise

OPTIONS = BackendOptions(batch_size=3, stride=2)


def requests():
    """Of several lengths and two limits; one cannot be decoded, one is too short to be heard."""

    def load(seconds, seed):
        return lambda: [noise(seconds, seed=seed)]

    def broken():
        raise OSError("no such file")

    made = [
        Request(f"q{i}", [user_message(f"What is said? {i % 3}", clips=1)], load(0.3 + 0.2 * (i % 5), i),
                0.3 + 0.2 * (i % 5), 4 + 2 * (i % 2))
        for i in range(13)
    ]  # fmt: skip
    short = lambda: [Clip(np.full(80, 0.1, np.float32), 16_000)]  # noqa: E731
    text = Request("text", [user_message("hello")], list, 0.0, 4)
    return [
        *made,
        Request("broken", made[0].messages, broken, 0.5, 4),
        Request("short", made[0].messages, short, 0.1, 4),
        text,
    ]


@pytest.fixture(scope="module")
def alone():
    backend, _ = open_backend("miniature", OPTIONS)
    return backend, dict(backend.answer(requests()))


def compared(several, alone):
    backend, expected = alone
    assert (several.name, several.fingerprint, several.profile) == (backend.name, backend.fingerprint, backend.profile)
    found = dict(several.answer(requests()))
    assert set(found) == set(expected) == set(range(16))
    for index, reply in expected.items():
        if isinstance(reply, Reply):
            assert found[index] == reply
        else:
            assert str(reply) in str(found[index])
    assert sum(isinstance(reply, Reply) for reply in found.values()) == 14


def test_processes_answer_as_one_does(alone):
    with open_workers("miniature", OPTIONS, count=2) as several:
        assert several.workers.count == 2
        compared(several, alone)
        compared(several, alone)  # their models stay open


def test_parts_are_whole_batches_a_few_for_each_worker():
    asked = [Request(str(i), [], list, float(i), 4) for i in range(100)]
    for workers, size in ((1, 12), (2, 12), (4, 6), (20, 3)):
        parts = list(_parts(asked, 3, workers))
        assert max(map(len, parts)) == size
        assert [place for part in parts for place in part] == list(reversed(range(100))), "the longest first"


def test_a_run_answers_without_an_adapter_beside_its_weights(alone):
    assert alone[0].model.peft is None


def test_a_cluster_answers_as_one_process_does(alone, ray_cluster):
    with open_workers("miniature", OPTIONS, count=2, ray="local") as several:
        compared(several, alone)


def test_a_model_that_cannot_be_opened_is_an_error_here(tmp_path):
    with pytest.raises(CoatError, match="nothing") as caught:
        open_workers(str(tmp_path / "nothing"), OPTIONS, count=2)
    assert caught.value.remedy


@pytest.mark.parametrize(("model", "backend"), [("http://localhost:1/v1", "openai"), ("x", "vllm")])
def test_other_backends_have_workers_of_their_own(model, backend):
    with pytest.raises(CoatError, match="Workers are for --backend transformers"):
        open_workers(model, BackendOptions(backend=backend), count=2)


def test_each_process_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _devices(2) == ["0", "1"]
    os.environ["CUDA_VISIBLE_DEVICES"] = "4,GPU-7"
    assert _devices(2) == ["4", "GPU-7"]
    with pytest.raises(CoatError, match="3 workers want a GPU each, and there are 2"):
        _devices(3)
