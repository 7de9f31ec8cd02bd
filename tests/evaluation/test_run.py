import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from coat.checkpoints.fingerprint import files_fingerprint
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import texts_of
from coat.errors import CoatError
from coat.evaluation.backends.base import Request, in_pieces
from coat.evaluation.backends.transformers import TransformersBackend
from coat.evaluation.compare import compare_runs
from coat.evaluation.results import leading_scores, score_run
from coat.evaluation.run import EvalSettings, read_run, run_tasks
from coat.evaluation.sources import open_manifest_tasks, open_tasks
from coat.files import read_jsonl
from coat.generation import Reply
from coat.testing.clips import RATE, conversation
from coat.thinking.model import ThinkingModel
from tests.cli.command import Started, coat

QUESTION = "Which?\nA. dog\nB. cat\nC. cow\nAnswer with the letter."


class Scripted:
    """Says what it is told, and keeps what it was asked."""

    name, model_path, profile = "transformers", "scripted", "qwen2_audio"

    def __init__(self, say, fingerprint="weights"):
        self.say, self.fingerprint, self.asked = say, fingerprint, []

    def answer(self, requests):
        for index, request in enumerate(requests):
            self.asked.append(request)
            try:
                yield index, Reply(self.say(request), 5, 0, 2, True)
            except Exception as error:
                yield index, error


@pytest.fixture
def tasks(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(6):
        soundfile.write(tmp_path / f"{index}.wav", rng.normal(0, 0.1, RATE // 2).astype(np.float32), RATE)
        messages = [
            {"role": "user", "content": f"<audio>{QUESTION}"},
            {"role": "assistant", "content": "ABC"[index % 3]},
        ]
        rows.append({"id": f"r{index}", "task": "animal", "audios": [f"{index}.wav"], "messages": messages,
                     "choices": ["dog", "cat", "cow"]})  # fmt: skip
    rows.append({**rows[0], "id": "twin"})
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_manifest_tasks(tmp_path / "test.jsonl")


def test_equal_questions_are_asked_once_and_answers_are_kept(tasks, tmp_path):
    backend = Scripted(lambda request: "A")
    done = run_tasks(backend, tasks, tmp_path / "run")
    assert (done.asked, done.answered, len(backend.asked)) == (7, 6, 6)
    assert run_tasks(backend, tasks, tmp_path / "run").answered == 0
    (score,) = score_run(tmp_path / "run")
    assert score.leading.items == 7
    assert score.leading.clusters == 6, "the twins share a clip"
    assert leading_scores(tmp_path / "run")["animal"] == score.leading


def test_a_question_that_fails_is_named_and_asked_again(tasks, tmp_path):
    def fail(request):
        if "r2" in request.name:
            raise RuntimeError("no memory")
        return "B"

    done = run_tasks(Scripted(fail), tasks, tmp_path / "run")
    assert done.errors == {"animal r2 order 0": "RuntimeError: no memory"}
    assert read_jsonl(tmp_path / "run" / "errors.jsonl") == [
        {"question": "animal r2 order 0", "error": "RuntimeError: no memory"}
    ]
    (score,) = score_run(tmp_path / "run")
    assert (score.missing, score.unread, score.leading.items) == (1, 0, 6), "no answer is not an empty answer"
    again = Scripted(lambda request: "C")
    done = run_tasks(again, tasks, tmp_path / "run")
    assert [request.name for request in again.asked] == ["animal r2"]
    assert not done.errors
    assert score_run(tmp_path / "run")[0].missing == 0


def test_changed_weights_are_asked_again(tasks, tmp_path):
    run_tasks(Scripted(lambda request: "A"), tasks, tmp_path / "run")
    trained = Scripted(lambda request: "B", fingerprint="other weights")
    run_tasks(trained, tasks, tmp_path / "run")
    assert len(trained.asked) == 6
    _, (task,) = read_run(tmp_path / "run")
    assert {answer.text for answer in task.answers.values()} == {"B"}


def test_one_folder_holds_one_way_of_asking(tasks, tmp_path):
    run_tasks(Scripted(lambda request: "A"), tasks, tmp_path / "run")
    with pytest.raises(CoatError, match="another audio"):
        run_tasks(Scripted(lambda request: "A"), tasks, tmp_path / "run", EvalSettings(audio="silence"))
    with pytest.raises(CoatError, match="holds no evaluation"):
        read_run(tmp_path)


def test_a_line_that_was_cut_short_is_asked_again(tasks, tmp_path):
    run_tasks(Scripted(lambda request: "A"), tasks, tmp_path / "run")
    path = tmp_path / "run" / "predictions.jsonl"
    path.write_text(path.read_text()[:-20])
    again = Scripted(lambda request: "A")
    run_tasks(again, tasks, tmp_path / "run")
    assert len(again.asked) == 1
    assert len(read_jsonl(path)) == 6


def test_options_are_asked_in_every_order(tasks, tmp_path):
    backend = Scripted(lambda request: "A")
    done = run_tasks(backend, tasks, tmp_path / "run", EvalSettings(choice_orders=3))
    assert done.asked == 21
    asked = {text for request in backend.asked for text in texts_of(request.messages[-1])}
    assert {text.split("\n")[1] for text in asked} == {"A. dog", "A. cat", "A. cow"}
    (score,) = score_run(tmp_path / "run")
    assert score.orders["correctness"] == pytest.approx(1 / 3)
    assert score.orders["consistency"] == 0


def test_silence_and_other_clips_are_heard_instead(tasks, tmp_path):
    real = Scripted(lambda request: "A")
    run_tasks(real, tasks, tmp_path / "real")
    own = {request.name: request.load()[0].waveform for request in real.asked}
    silent = Scripted(lambda request: "A")
    run_tasks(silent, tasks, tmp_path / "silence", EvalSettings(audio="silence"))
    for request in silent.asked:
        wave = request.load()[0].waveform
        assert not wave.any()
        assert len(wave) == len(own[request.name])
    mixed = Scripted(lambda request: "A")
    run_tasks(mixed, tasks, tmp_path / "shuffled", EvalSettings(audio="shuffled"))
    for request in mixed.asked:
        assert not np.array_equal(request.load()[0].waveform, own.get(request.name, own["animal r0"]))


def test_a_chain_of_thought_is_asked_for_and_taken_off(tasks, tmp_path):
    backend = Scripted(lambda request: "It sounds like B, or not.\nAnswer: A")
    run_tasks(backend, tasks, tmp_path / "run", EvalSettings(reasoning="\nThink.", reasoning_tokens=500))
    assert all(list(texts_of(request.messages[-1]))[-1].endswith("\nThink.") for request in backend.asked)
    assert {request.max_new_tokens for request in backend.asked} == {756}
    _, (task,) = read_run(tmp_path / "run")
    assert {answer.text for answer in task.answers.values()} == {"A"}


def test_one_clip_cannot_be_shuffled(tasks, tmp_path):
    alone = [replace(each, items=[each.items[0], each.items[-1]]) for each in tasks]
    with pytest.raises(CoatError, match="share one"):
        run_tasks(Scripted(lambda request: "A"), alone, tmp_path / "run", EvalSettings(audio="shuffled"))


def test_items_are_thinned_evenly(tasks, tmp_path):
    backend = Scripted(lambda request: "A")
    assert run_tasks(backend, tasks, tmp_path / "run", EvalSettings(limit=3)).asked == 3
    assert [request.name for request in backend.asked] == ["animal r0", "animal r3"]  # the third is r0's twin
    more = Scripted(lambda request: "A")
    assert run_tasks(more, tasks, tmp_path / "run").asked == 7
    assert len(more.asked) == 4, "what was asked before is kept"


def test_a_batch_is_answered_as_each_alone_with_the_same_embeddings(backbone, tasks, tmp_path):
    model = ThinkingModel(backbone).eval()
    settings = EvalSettings(choice_orders=2)
    small = [replace(each, task=each.task.model_copy(update={"max_new_tokens": 6})) for each in tasks]
    run_tasks(TransformersBackend(model, model_path="tiny", batch_size=8), small, tmp_path / "batch", settings)
    run_tasks(TransformersBackend(model, model_path="tiny", batch_size=1), small, tmp_path / "one", settings)
    lines = [
        {line["key"]: line for line in read_jsonl(tmp_path / name / "predictions.jsonl")} for name in ("batch", "one")
    ]
    assert lines[0] == lines[1]
    first = next(iter(lines[0].values()))
    assert first["think_tokens"] == backbone.num_audio_tokens(RATE // 2) + 2
    assert first["new_tokens"] <= 6


def test_with_the_block_off_it_is_another_model(backbone, tasks, tmp_path):
    model = ThinkingModel(backbone).eval()
    on = TransformersBackend(model).fingerprint
    off = TransformersBackend(model, thinking=ThinkingConfig(enabled=False)).fingerprint
    assert off != on
    assert "no block" in off


def test_clips_beyond_what_a_model_hears_are_given_in_pieces(backbone):
    asked = in_pieces(conversation(75.0, 10.0, answer=None), 30.0)
    assert [part["type"] for part in asked.messages[0]["content"]] == ["audio"] * 4 + ["text"]
    assert [round(clip.seconds, 3) for clip in asked.clips] == [25, 25, 25, 10]
    whole = conversation(75.0, answer=None).clips[0]
    np.testing.assert_array_equal(np.concatenate([clip.waveform for clip in asked.clips[:3]]), whole.waveform)
    request = Request("long", [{"role": "user", "content": "<audio>What?"}], lambda: [whole], 75.0, 3)
    ((_, reply),) = TransformersBackend(ThinkingModel(backbone).eval()).answer([request])
    assert reply.think_tokens == 3 * (backbone.num_audio_tokens(25 * RATE) + 2), "a block for each piece"


def test_one_bad_clip_fails_alone(backbone):
    def load(seconds):
        return lambda: conversation(seconds, answer=None).clips

    def broken():
        raise CoatError("there is no such file")

    messages = [{"role": "user", "content": "<audio>What?"}]
    loads = [load(0.5), broken, load(0.7), load(0.01)]
    requests = [Request(str(i), messages, each, 1.0 - 0.1 * i, 3) for i, each in enumerate(loads)]
    replies = dict(TransformersBackend(ThinkingModel(backbone).eval(), batch_size=4).answer(requests))
    assert isinstance(replies[0], Reply)
    assert isinstance(replies[2], Reply)
    assert "no such file" in str(replies[1])
    assert "10 ms" in str(replies[3])


def test_a_batch_that_fails_is_halved(backbone, monkeypatch):
    model, sizes = ThinkingModel(backbone).eval(), []
    prefill = model.prepare_prefill

    def tight(batch):
        sizes.append(len(batch.input_ids))
        if len(batch.input_ids) > 2:
            raise MemoryError
        return prefill(batch)

    monkeypatch.setattr(model, "prepare_prefill", tight)
    clips = conversation(0.5, answer=None).clips
    requests = [Request(str(i), [{"role": "user", "content": f"<audio>{i}?"}], lambda: clips, 1, 3) for i in range(5)]
    replies = dict(TransformersBackend(model, batch_size=5).answer(requests))
    assert all(isinstance(reply, Reply) for reply in replies.values())
    assert len(replies) == 5
    assert sizes == [5, 2, 3, 1, 2]


def test_fingerprints_follow_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    (tmp_path / "config.json").write_text("{}")
    before = files_fingerprint(str(tmp_path))
    (tmp_path / "scores-strict.json").write_text("{}")
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert files_fingerprint(str(tmp_path)) == before, "neither time nor what is written beside the weights matters"
    (tmp_path / "model.safetensors").write_bytes(b"1" + b"0" * 999)
    assert files_fingerprint(str(tmp_path)) != before
    large = tmp_path / "large.safetensors"
    large.write_bytes(bytes(70 * 2**20))
    before = files_fingerprint(str(tmp_path))
    changed = np.frombuffer(large.read_bytes(), dtype=np.uint8).copy()
    changed[:: 2**12] = 1
    large.write_bytes(changed.tobytes())
    assert files_fingerprint(str(tmp_path)) != before


def test_comparing_pairs_items_and_names_flips(tasks, tmp_path):
    run_tasks(Scripted(lambda request: "A"), tasks, tmp_path / "one")
    run_tasks(Scripted(lambda request: "C" if "r2" in request.name else "A"), tasks, tmp_path / "two")
    (found,) = compare_runs(tmp_path / "one", tmp_path / "two")
    change = found.differences[0]
    assert change.value == pytest.approx(1 / 7)
    assert change.test == "paired bootstrap", "clips repeat, so McNemar's independence does not hold"
    assert [(flip.id, flip.gained, flip.reference) for flip in found.flips] == [("r2", True, "cow")]
    other = Scripted(lambda request: "A")
    other.profile = "audio_flamingo3"
    run_tasks(other, tasks, tmp_path / "three")
    with pytest.raises(CoatError, match="prompts differ by family"):
        compare_runs(tmp_path / "one", tmp_path / "three")


def test_comparing_names_what_it_leaves_out(tasks, tmp_path):
    """A task that only one run was asked, and items that were asked otherwise, are no silent part of nothing."""
    (opened,) = tasks
    same = [replace(opened, task=opened.task.model_copy(update={"name": "first"}))]
    more = [*same, replace(opened, task=opened.task.model_copy(update={"name": "second"}))]
    for name, given in (("one", same), ("two", more)):
        run_tasks(Scripted(lambda request: "A"), given, tmp_path / name)
    shared, alone = compare_runs(tmp_path / "one", tmp_path / "two")
    assert (shared.task, shared.left_out, bool(shared.differences)) == ("first", "", True)
    assert (alone.task, alone.left_out, alone.differences) == ("second", "7 answered by one alone", [])
    otherwise = [replace(item, prompt=f"{item.prompt} Really?") for item in opened.items]
    run_tasks(Scripted(lambda request: "A"), [replace(same[0], items=otherwise)], tmp_path / "three")
    with pytest.raises(CoatError, match=r"nothing to compare: .*: 7 asked otherwise"):
        compare_runs(tmp_path / "one", tmp_path / "three")


COMMAND = ("eval", "run", "miniature", "--tasks", "test.jsonl", "--batch-size", "1", "--max-new-tokens", "48",
           "--choice-orders", "3")  # fmt: skip


@pytest.mark.slow
def test_a_killed_evaluation_resumes_with_identical_totals(tasks, tmp_path):
    path = tmp_path / "killed" / "predictions.jsonl"
    process = Started(*COMMAND, "--out", "killed", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not path.is_file() or len(path.read_text().splitlines()) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = path.read_bytes()
    done = coat(*COMMAND, "--out", "killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "18 questions" not in done.stdout.split("answered")[0].split(",")[1]
    assert path.read_bytes().startswith(held[: held.rfind(b"\n") + 1]), "what was answered stays"
    assert coat(*COMMAND, "--out", "whole", cwd=tmp_path).returncode == 0
    killed, whole = ((tmp_path / name / "scores-strict.json").read_text() for name in ("killed", "whole"))
    assert killed == whole
    lines = [sorted(map(json.dumps, read_jsonl(tmp_path / n / "predictions.jsonl"))) for n in ("killed", "whole")]
    assert lines[0] == lines[1]


def test_tasks_are_asked_once_each(tmp_path):
    with pytest.raises(CoatError, match="asked twice"):
        open_tasks(["mmau", "mmau"], "sample", tmp_path)
    with pytest.raises(CoatError, match="not on the hub"):
        open_tasks(["switchboard"])
