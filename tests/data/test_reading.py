"""One reader for every command: encodings, line ends, compression, arrays, tables."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from coat.data.checks import check_manifest
from coat.data.index import open_manifest
from coat.data.manifest import read_manifest
from coat.data.reading import parse_json, read_records
from coat.errors import CoatError
from coat.evaluation.sources import open_manifest_tasks

ROWS = [
    {"id": f"r{i}", "question": f"Say {i}\u2028\u0085é 😀", "answer": f"word {i}\u2029", "task": "say"}
    for i in range(7)
]


def zstd(data):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


def lines(end="\n", ascii_=False):
    return "".join(json.dumps(row, ensure_ascii=ascii_) + end for row in ROWS).encode()


FORMS = {
    "plain": lines(),
    "escaped": lines(ascii_=True),
    "mark": b"\xef\xbb\xbf" + lines(),
    "windows": lines("\r\n"),
    "old mac": lines("\r"),
    "blank lines": b"\n\n" + lines("\n\n"),
    "no last end": lines().rstrip(b"\n"),
    "gzip": gzip.compress(lines()),
    "two gzips": gzip.compress(lines()[: len(lines()) // 2]) + gzip.compress(lines()[len(lines()) // 2 :]),
    "zstd": zstd(lines()),
    "array": json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    "array with a mark": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "array in gzip": gzip.compress(json.dumps(ROWS).encode()),
}


def write(folder, form, name="rows.jsonl"):
    path = folder / name
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)
    else:
        path.write_bytes(FORMS[form])
    return path


@pytest.mark.parametrize("form", [*FORMS, "parquet"])
def test_every_command_reads_the_same_rows(tmp_path, form):
    path = write(tmp_path, form)
    read = read_manifest(path, answered=True)
    assert [row.answer for row in read] == [row["answer"] for row in ROWS]
    assert [row.messages[0]["content"] for row in read] == [row["question"] for row in ROWS]
    for _ in range(2):  # by its notes, the second time
        opened = open_manifest(path, answered=True)
        assert list(opened) == read
        assert [opened[i] for i in (5, 0, -1)] == [read[5], read[0], read[6]]
    checked = check_manifest(path, workers=1)
    assert (checked.rows, checked.findings) == (7, [])
    (task,) = open_manifest_tasks(path)
    assert [item.reference for item in task.items] == [row.answer for row in read]


def test_a_copy_is_made_anew_when_the_file_changes(tmp_path):
    path = write(tmp_path, "gzip")
    assert len(open_manifest(path)) == 7
    path.write_bytes(gzip.compress(lines()[: lines().index(b"\n") + 1]))
    assert [row.id for row in open_manifest(path)] == ["r0"]


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32"), ("utf-16-le", "UTF-16")])
def test_another_encoding_is_named(tmp_path, encoding, name):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines().decode().encode(encoding))
    for reader in (read_manifest, open_manifest, check_manifest):
        with pytest.raises(CoatError, match=f"is {name}") as caught:
            reader(path)
        assert "iconv" in caught.value.remedy


def test_latin_1_is_named_by_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "?", "answer": "a"}\n{"question": "caf\xe9?", "answer": "b"}\n')
    with pytest.raises(CoatError, match=r"line 2: byte 0xE9 at column 18 is not UTF-8"):
        read_manifest(path)
    (finding,) = check_manifest(path).findings
    assert finding.row == "line 2"


def test_a_file_that_breaks_off_is_refused(tmp_path):
    for name, data in (("a.gz", FORMS["gzip"]), ("b.parquet", None)):
        path = tmp_path / name
        path.write_bytes(data[:-20] if data else write(tmp_path, "parquet", "whole").read_bytes()[:-30])
        with pytest.raises(CoatError, match=r"breaks off|cannot be read"):
            read_manifest(path)


def test_an_array_that_is_broken_says_where(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"question": "?",\n "answer": "a"},\n {"question" "b"}]')
    with pytest.raises(CoatError, match="begins as a JSON array, but it is not JSON: Expecting ':' delimiter at"):
        read_manifest(path)


def test_rows_that_are_arrays_are_refused_one_by_one(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('["a"]\n["b"]\n')
    assert [record.raw for record in read_records(path)] == [["a"], ["b"]]
    with pytest.raises(CoatError, match="line 2: a row must be an object with fields, not a list"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "a": 2}', "the field 'a' is there twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("[" * 100_000, "nested too deeply|not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "4300 digits"),
        ("{broken", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_json_that_loses_something_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_json(text.encode())


def test_sound_inside_a_table_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = [{"audio": {"bytes": b"RIFF", "path": "a.wav"}, "text": "x"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(CoatError, match="row 1: the column 'audio' holds bytes"):
        read_manifest(path)
