import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile

from coat.evaluation.compare import compare_runs
from coat.evaluation.run import EvalSettings, run_tasks
from coat.evaluation.sources import open_manifest_tasks, open_tasks
from coat.reports.evaluation import write_eval_page
from coat.testing.clips import RATE
from tests.evaluation.test_run import Scripted


@pytest.fixture
def runs(tmp_path):
    rows = []
    for index, answer in enumerate(["rain", "wind"] * 6):
        soundfile.write(tmp_path / f"{index}.wav", np.full(RATE // 2, 0.01 * index, dtype=np.float32), RATE)
        messages = [{"role": "user", "content": "<audio>What <is> it?"}, {"role": "assistant", "content": answer}]
        rows.append({"id": f"r{index}", "task": "event", "audios": [f"{index}.wav"], "messages": messages,
                     "source": "field" if index < 6 else "studio"})  # fmt: skip
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    opened = open_manifest_tasks(tmp_path / "test.jsonl")
    run_tasks(Scripted(lambda request: "rain"), opened, tmp_path / "one")
    run_tasks(
        Scripted(lambda request: "wind" if int(request.name.split("r")[-1]) % 2 else "hail"), opened, tmp_path / "two"
    )
    return [tmp_path / "one", tmp_path / "two"]


def test_the_page_stands_alone_and_shows_what_was_found(runs, tmp_path):
    path = tmp_path / "report.html"
    write_eval_page(runs, path, compared=[("one", "two", compare_runs(*runs))])
    page = path.read_text()
    assert "http" not in re.sub(r"http://www.w3.org\S+", "", page)
    assert "50.0 [25.4, 74.6]" in page  # Wilson of six of twelve
    assert "two against one" in page
    assert "6 gained, 6 lost" in page
    assert "source: field" in page
    sounds = re.findall(r"data:audio/ogg;base64,([A-Za-z0-9+/=]+)", page)
    assert len(sounds) == 6, "the six that the second run got wrong"
    assert soundfile.info(io.BytesIO(base64.b64decode(sounds[0]))).duration == pytest.approx(0.5, abs=0.01)
    assert "right: rain\nsaid: hail" in page
    assert "What &lt;is&gt; it?" in page
    assert page.count("data:image/png") == 2, "bars and a table of classes"


def test_a_page_without_the_data_has_no_players(tmp_path):
    opened = open_tasks(["mmau", "librispeech_clean", "alpaca_audio"], "sample", tmp_path)
    run_tasks(Scripted(lambda request: "A"), opened, tmp_path / "run", EvalSettings(choice_orders=2))
    write_eval_page([tmp_path / "run"], tmp_path / "report.html", protocol="upstream")
    page = (tmp_path / "report.html").read_text()
    assert "<audio" not in page
    assert "MMAU test-mini" in page
    assert "string match" in page
    assert "none" in page, "no verdicts yet"
