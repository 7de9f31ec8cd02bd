"""lmms-eval in its own environment: its definitions unchanged on local Parquet; ours by include path, both ways."""

import json
import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from coat.api.model import CoatModel
from coat.evaluation import upstream
from coat.evaluation.backends.transformers import TransformersBackend
from coat.evaluation.results import score_run
from coat.evaluation.run import run_tasks
from coat.evaluation.sources import open_tasks, write_sample
from coat.evaluation.task import load_task

pytestmark = pytest.mark.lmms
HERE = Path(__file__).parent
TASKS = ["mmau", "meld", "librispeech_clean", "gtzan", "vocalsound"]
CASES = {
    "options": ["Dog barking", "A car horn", "Rain", "Piano"],
    "answers": [
        "C", "(C)", "C. Rain", "Rain", "The answer is Rain.", "...so the answer is C", "B or C", "(A) or (D)", "",
        "I think it is rain rather than a piano", "I cannot hear the audio.", "<answer>C</answer>", "**C**", "c",
        "Option C: Rain", "A. Dog barking, not C.", "C\n\nor A", "a sneeze and a sigh", "throat clearing",
        "It must be a car horn because of the traffic", "D)", "The CAT sat",
    ],
    "transcripts": [
        ("THE CAT SAT ON THE MAT", "the cat sat on a mat"), ("MISTER SMITH CAME HOME", "Mr. Smith came home."),
        ("it isn't colour", "It is not color"), ("we must act now", "Transcription: 'we must act now'"),
        ("we must act now", "<answer>we must act</answer>"), ("ten percent", "10%"), ("yes", ""),
        ("hello there", "The audio says: hello there"), ("one two", "<|en|> one , two ."),
    ],
}  # fmt: skip


@pytest.fixture(scope="session")
def found(request, tmp_path_factory):
    python = Path(request.config.getoption("--lmms")).absolute()
    if not python.is_file():
        pytest.skip(f"there is no {python}: make test-lmms builds it")
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    for name in TASKS:
        path = write_sample(load_task(name), data / name)
        # Without torchcodec nothing can decode an Audio column: a plain one of bytes and path, as on any disk.
        table = pq.read_table(path).replace_schema_metadata(None)
        if name == "mmau":  # whose own scorer ends in an IndexError at a letter that a question does not offer
            table = table.filter([len(json.loads(options)) >= 4 for options in table["choices"].to_pylist()])
        pq.write_table(table, path)
    (out / "cases.json").write_text(json.dumps(CASES))
    run = subprocess.run(
        [python, HERE / "inside.py", data, out], capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return json.loads((out / "found.json").read_text()), data


@pytest.mark.parametrize("rule", ["letter", "letter_or_text"])
def test_letters_are_read_as_there(found, rule):
    """Every answer that it reads the same way each time, and the average of those that it draws."""
    for answer, drawn in zip(CASES["answers"], found[0]["functions"][rule], strict=True):
        for right in range(4):
            score, read = upstream.choice_score(answer, CASES["options"], right, rule)
            there = [letter == "ABCD"[right] for letter in drawn]
            if read:
                assert set(there) == {bool(score)}, (answer, right)
            else:
                assert len(set(drawn)) == 4
                assert sum(there) / len(there) == pytest.approx(score, abs=0.08), (answer, right)


def test_vocal_sounds_are_read_as_there(found):
    for answer, said in zip(CASES["answers"], found[0]["functions"]["first_contained"], strict=True):
        assert upstream.first_contained(answer, said) if said else not upstream.first_contained(answer, "Sigh")


@pytest.mark.parametrize("rule", ["wer", "wer_basic", "wer_by_utterance"])
def test_word_errors_are_counted_as_there(found, rule):
    for (reference, answer), there in zip(CASES["transcripts"], found[0]["functions"][rule], strict=True):
        errors, words = upstream.word_errors(answer, reference, rule)
        assert errors / words == pytest.approx(there), (reference, answer)


@pytest.fixture(scope="session")
def ours(found, tmp_path_factory):
    """The same model on the same rows by our own runner."""
    folder = tmp_path_factory.mktemp("ours")
    opened = open_tasks(TASKS[:-1], str(found[1]))
    model = TransformersBackend(CoatModel.from_pretrained("miniature").model)
    model.profile = "default"  # lmms-eval gives a model that it does not know its default prompts
    done = run_tasks(model, opened, folder)
    assert not done.errors
    assert not done.bad
    return {p: {s.task: s for s in score_run(folder, p)} for p in ("strict", "upstream")}


def test_upstreams_definitions_run_unchanged_and_score_as_ours_do(found, ours):
    runs = found[0]["runs"]["simple"]
    there = runs["local_librispeech_test_clean"]["wer,none"]
    assert float(there) == pytest.approx(100 * ours["upstream"]["librispeech_clean"].leading.value)
    score = ours["upstream"]["mmau"]
    draws = score.unread / score.leading.items
    there = float(runs["local_mmau_test_mini"]["accuracy,none"])
    assert abs(there - 100 * score.leading.value) <= 100 * draws + 1e-6, "equal but for its draws"
    assert 0 <= float(runs["local_vocalsound_test"]["accuracy,none"]) <= 1


@pytest.mark.parametrize("interface", ["simple", "chat"])
@pytest.mark.parametrize("task", ["mmau", "meld", "librispeech_clean", "gtzan"])
def test_our_tasks_score_there_as_here(found, ours, interface, task):
    there = float(found[0]["runs"][interface][f"coat_{task}"]["coat,none"])
    assert there == pytest.approx(100 * ours["strict"][task].leading.value)
