import json
from pathlib import Path

import pytest

from coat.cli import main
from coat.evaluation.backends import workers
from tests.cli.command import Started, coat
from tests.cli.test_errors import wave


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    rows = []
    for index in range(4):
        wave(folder / f"{index}.wav", 0.6 + 0.2 * index)
        messages = [
            {"role": "user", "content": "<audio>What note is this?"},
            {"role": "assistant", "content": "C sharp"},
        ]
        rows.append(json.dumps({"id": f"r{index}", "task": "note", "audios": [f"{index}.wav"], "messages": messages}))
    (folder / "test.jsonl").write_text("\n".join(rows))
    run = ("eval", "run", "miniature", "--tasks", "test.jsonl,mmau,alpaca_audio", "--data", "sample")
    for name, more in (("on", ()), ("off", ("--think", "off"))):
        result = coat(*run, *more, "--out", name, "--choice-orders", "2", "--max-new-tokens", "8", cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder


def test_a_run_ends_with_its_scores(folder):
    again = coat("eval", "run", "miniature", "--tasks", "test.jsonl", "--out", "on", "--choice-orders", "2",
                 "--max-new-tokens", "8", cwd=folder)  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "0 answered now" in again.stdout
    assert "MMAU" in again.stdout
    assert "Traceback" not in again.stderr


def test_scores_compare_and_become_a_page(folder):
    scored = coat("eval", "score", "on", "--protocol", "upstream", cwd=folder)
    assert "string match" in scored.stdout
    assert "wait for a judge" in scored.stdout
    compared = coat("eval", "compare", "off", "on", cwd=folder)
    assert compared.returncode == 0, compared.stderr
    assert "note, exact match" in " ".join(compared.stdout.split())
    page = coat("eval", "report", "off", "on", cwd=folder)
    assert page.returncode == 0, page.stderr
    assert "data:image/png" in (folder / "on" / "report.html").read_text()


def test_a_judge_is_estimated_before_it_is_paid(folder):
    said = coat("eval", "judge", "on", "--dry-run", cwd=folder).stdout
    assert "2 answers to rate, 0 rated before; 2 calls" in said
    assert "gpt-4o-2024-11-20" in said


def test_tasks_are_listed_and_data_is_checked(folder):
    listed = coat("eval", "list", cwd=folder).stdout
    assert "air_bench_speech" in listed
    good = coat("eval", "check", "--tasks", "mmau,meld", "--data", "sample", cwd=folder)
    assert good.returncode == 0, good.stderr
    assert "mmau: 4 rows" in good.stdout
    bad = coat("eval", "check", "--tasks", "mmau", "--data", "nowhere", cwd=folder)
    assert bad.returncode == 1
    assert "There is no folder nowhere" in bad.stdout


def noting_workers():
    """The command, which leaves the number of processes that it was told to start."""
    start = workers.open_workers

    def noted(*arguments, count, **options):
        Path("workers").write_text(str(count))
        return start(*arguments, count=count, **options)

    workers.open_workers = noted
    main()


def test_several_processes_give_the_scores_of_one(folder):
    result = Started("eval", "run", "miniature", "--tasks", "test.jsonl,mmau,alpaca_audio", "--data", "sample",
                     "--out", "two", "--choice-orders", "2", "--max-new-tokens", "8", "--workers", "2", cwd=folder,
                     main=noting_workers).wait()  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (folder / "workers").read_text() == "2"
    one, two = ((folder / run / "scores-strict.json").read_text() for run in ("on", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("miniature",), "Missing option: --tasks"),
        (("miniature", "--tasks", "mmao", "--data", "sample"), "Did you mean 'mmau'"),
        (("miniature", "--tasks", "mmau", "--data", "sample", "--audio", "reel"), "Did you mean 'real'"),
        (("miniature", "--tasks", "mmau", "--data", "sample", "--backend", "vlm"), "Did you mean 'vllm'"),
        (("nowhere", "--tasks", "mmau", "--data", "sample"), "There is nothing at nowhere"),
        (("miniature", "--tasks", "mmau", "--data", "sample", "--backend", "openai"), "no address"),
        (
            ("miniature", "--tasks", "mmau", "--data", "sample", "--backend", "vllm", "--workers", "2"),
            "Workers are for",
        ),
    ],
)
def test_what_cannot_be_is_said(folder, arguments, said):
    result = coat("eval", "run", *arguments, "--out", "wrong", cwd=folder)
    assert result.returncode == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr


def test_the_cost_of_an_answer(folder):
    result = coat("cost", "miniature", "--tasks", "test.jsonl", "--out", "cost", "--samples", "2", "--seeds", "2",
                  "--max-new-tokens", "4", "--cot-tokens", "4", "--longest", "5", cwd=folder)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "text CoT" in result.stdout
    lines = (folder / "cost" / "timings.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 2 * 5
    assert "What sizes say" in (folder / "cost" / "cost.html").read_text()
    assert "0-5,CoAT" in (folder / "cost" / "summary.csv").read_text()
