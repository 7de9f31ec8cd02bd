import gc
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import soundfile

from coat.data import indexing
from coat.data.index import Joined, open_manifest
from coat.data.manifest import read_manifest
from coat.errors import CoatError
from coat.testing.clips import assistant, user


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(5):
        soundfile.write(tmp_path / f"{index}.wav", rng.normal(0, 0.1, 8000 + 1600 * index), 16_000)
    return tmp_path


def row(index, **fields):
    return {"id": f"r{index}", "audios": [f"{index}.wav"], "messages": [user("<audio>é?"), assistant("yes")], **fields}


def write(folder, rows, name="m.jsonl"):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def test_rows_are_read_by_place(folder):
    path = write(folder, [row(i, group="a" if i % 2 else "b", source="s") for i in range(5)])
    manifest = open_manifest(path)
    assert [r.id for r in manifest] == [r.id for r in read_manifest(path)]
    assert manifest[3] == read_manifest(path)[3]
    assert manifest[-1].id == "r4"
    assert [r.id for r in manifest[1:3]] == ["r1", "r2"]
    assert manifest.seconds.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert manifest.notes.names[manifest.notes.groups].tolist() == ["b", "a", "b", "a", "b"]
    with pytest.raises(IndexError):
        manifest[5]
    assert pickle.loads(pickle.dumps(manifest))[2] == manifest[2]


def test_a_file_is_checked_once_until_it_changes(folder, monkeypatch):
    path = write(folder, [row(0), row(1)])
    open_manifest(path)
    monkeypatch.setattr("coat.data.index.read_notes", lambda *_: pytest.fail("read again"))
    assert len(open_manifest(path)) == 2
    monkeypatch.undo()
    write(folder, [row(0), row(1), row(2)])
    assert len(open_manifest(path)) == 3
    path.with_name(path.name + ".index.npz").write_bytes(b"broken")
    assert len(open_manifest(path)) == 3


def test_garbage_is_collected_seldom_while_rows_are_checked_and_as_before_after_that(folder, monkeypatch):
    before, during, check = gc.get_threshold(), [], indexing.row_of
    monkeypatch.setattr(
        indexing, "row_of", lambda *given, **how: during.append(gc.get_threshold()) or check(*given, **how)
    )
    open_manifest(write(folder, [row(0), row(1)]))
    assert {threshold for threshold, *_ in during} == {indexing.BETWEEN_COLLECTIONS}
    monkeypatch.setattr(indexing, "row_of", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_manifest(write(folder, [row(2)], "other.jsonl"))
    assert gc.get_threshold() == before


def test_threads_that_check_rows_at_once_put_the_threshold_of_collections_back(folder, monkeypatch):
    before, check = gc.get_threshold(), indexing.row_of
    first_reads, second_reads, first_is_done = Event(), Event(), Event()

    def row_of(record, *given, **how):
        if record.raw["id"] == "r0":  # begins first, and ends while the other reads
            first_reads.set()
            assert second_reads.wait(60)
        else:
            second_reads.set()
            assert first_is_done.wait(60)
            assert gc.get_threshold()[0] == indexing.BETWEEN_COLLECTIONS
        return check(record, *given, **how)

    monkeypatch.setattr(indexing, "row_of", row_of)
    paths = [write(folder, [row(place)], f"{place}.jsonl") for place in range(2)]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(open_manifest, paths[0])
        assert first_reads.wait(60)
        second = pool.submit(open_manifest, paths[1])
        assert len(first.result()) == 1
        first_is_done.set()
        assert len(second.result()) == 1
    assert gc.get_threshold() == before


def test_where_nothing_can_be_written_it_works_all_the_same(folder, monkeypatch):
    path = write(folder, [row(0)])
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("read-only")))
    assert len(open_manifest(path)) == 1
    assert not list(folder.glob("*.npz*"))


def test_known_durations_spare_the_headers(folder):
    rows = [row(9, seconds=3.5), row(8) | {"audios": [{"path": "nowhere.wav", "start": 2, "end": 4.5}]}]
    rows.append(row(7) | {"audios": [{"path": "nowhere.wav", "seconds": 1.25}]})
    assert open_manifest(write(folder, rows)).seconds.tolist() == [3.5, 2.5, 1.25]


def test_everything_wrong_is_named_at_once(folder):
    (folder / "text.wav").write_text("no sound")
    rows = [row(0), row(1) | {"audios": ["gone.wav"]}, row(2) | {"audios": ["text.wav"]}, row(3, messages=[]), row(0)]
    rows.append(row(4, seconds=0.01))
    rows.append(row(4, id="r5", start=7))
    with pytest.raises(CoatError) as caught:
        open_manifest(write(folder, rows))
    said = str(caught.value)
    for part in (
        "r1: There is no audio file",
        "r2: ",
        "line 4: ",
        "'r0' is used 2 times",
        "r4: ",
        "at least 100 ms",
        "a stretch from 7 s is asked for",
    ):
        assert part in said, said
    assert "6 bad rows" in said


def test_empty_and_missing(folder):
    with pytest.raises(CoatError, match="no rows"):
        open_manifest(write(folder, []))
    with pytest.raises(CoatError, match="no manifest"):
        open_manifest(folder / "none.jsonl")


def test_a_line_that_changed_meanwhile_is_named(folder):
    path = write(folder, [row(0), row(1)])
    manifest = open_manifest(path)
    state = path.stat()
    path.write_bytes(b"x" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(CoatError, match=r"Line 2 of .* has changed"):
        manifest[1]


def test_manifests_join_and_leave_out_what_is_too_long(folder):
    first = open_manifest(write(folder, [row(i) for i in range(3)], "a.jsonl"))
    second = open_manifest(write(folder, [row(i) for i in range(3, 5)], "b.jsonl"))
    joined = Joined([first, second])
    assert [r.id for r in joined] == [f"r{i}" for i in range(5)]
    short = joined.within(0.75)
    assert [r.id for r in short] == ["r0", "r1", "r2"]
    assert short.seconds.tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert [r.id for r in Joined([first, second], np.array([4, 0]))] == ["r4", "r0"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_parts_side_by_side_are_the_whole(folder, monkeypatch, end):
    """Rows, their places, their names and what is wrong with them, as one pass from the beginning has them."""
    rows = [row(i % 5) | {"id": f"r{i}", "group": "ab"[i % 2], "source": f"s{i % 3}"} for i in range(200)]
    for i in (20, 150):
        del rows[i]["id"]  # called by their lines
    path = folder / "many.jsonl"
    path.write_text("".join(json.dumps(each) + end for each in rows))
    whole = open_manifest(path)
    alone = {name: getattr(whole.notes, name).tolist() for name in ("offsets", "lines", "seconds", "groups", "sources")}
    path.with_name(path.name + ".index.npz").unlink()
    monkeypatch.setattr("coat.data.indexing.PART_BYTES", 1000)
    parted = open_manifest(path)
    assert {name: getattr(parted.notes, name).tolist() for name in alone} == alone
    assert list(parted) == list(whole) == read_manifest(path)
    bad = [*rows, rows[7], {"id": "x"}, row(9)]
    path.write_text("".join(json.dumps(each) + end for each in bad))
    with pytest.raises(CoatError) as caught:
        open_manifest(path)
    number = 1 + 201 * len(end.replace("\r", ""))
    for part in (f"line {number}: there are neither", "id 'r7' is used 2 times", "9.wav", "3 bad rows"):
        assert part in str(caught.value), str(caught.value)
