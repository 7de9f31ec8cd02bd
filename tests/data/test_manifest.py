import json

import pytest

from coat.data.manifest import read_manifest
from coat.errors import CoatError

ROW = {
    "messages": [{"role": "user", "content": "<audio>hi"}, {"role": "assistant", "content": "yes"}],
    "audios": ["a.wav"],
}


def write(folder, *rows):
    path = folder / "m.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_rows_are_read_as_they_are(tmp_path):
    rows = read_manifest(write(tmp_path, {**ROW, "id": "x", "task": "asr"}, {"messages": ROW["messages"][1:]}))
    assert [row.id for row in rows] == ["x", "line-2"]
    assert rows[0].audios[0].path == tmp_path / "a.wav"
    assert rows[0].answer == "yes"
    assert rows[0].task == "asr"


def test_a_stretch_of_a_recording(tmp_path):
    row = read_manifest(write(tmp_path, {**ROW, "audios": [{"path": "a.wav", "start": 1.5, "end": 2}]}))[0]
    assert (row.audios[0].start, row.audios[0].end) == (1.5, 2)
    assert row.seconds == 0.5 if row.audios[0].path.exists() else True


def test_every_bad_row_is_named_at_once(tmp_path):
    bad = [
        "{not json",
        {"audios": []},
        {**ROW, "audios": []},
        {**ROW, "messages": [{"role": "robot", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " "}]},
        {"messages": [{"role": "user", "content": 3}]},
    ]
    with pytest.raises(CoatError) as caught:
        read_manifest(write(tmp_path, *bad))
    text = str(caught.value)
    for number in range(1, 7):
        assert f"line {number}:" in text
    for part in ("'messages'", "1 <audio> mark(s) but 0", "'robot'", "answer is empty", "'content' must be text"):
        assert part in text


def test_ids_must_differ(tmp_path):
    with pytest.raises(CoatError, match="'x' is used 2 times"):
        read_manifest(write(tmp_path, {**ROW, "id": "x"}, {**ROW, "id": "x"}))


def test_empty_and_missing_manifests(tmp_path):
    with pytest.raises(CoatError, match="no rows"):
        read_manifest(write(tmp_path))
    with pytest.raises(CoatError, match="no manifest"):
        read_manifest(tmp_path / "none.jsonl")
