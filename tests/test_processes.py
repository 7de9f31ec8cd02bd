"""Processes that work for one: begun anew, ended with it, and in need of nothing from the caller's script."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from loky.process_executor import BrokenProcessPool

from coat.processes import cores, each, pool, threads_of_each

LOCK = threading.Lock()
ORPHANS = """
import sys, time
from coat.processes import pool
from tests.test_processes import slowly
several = pool(2, threads=1)
for name in ("one", "two", "waiting"):
    several.submit(slowly, sys.argv[1], name)
time.sleep(600)
"""
PLAIN = """
from coat.processes import each
print("begun")
print(list(each(abs, [-3, -2, -1], workers=2)))
"""


def slowly(folder, name):
    """Work that keeps what it has when it is asked to stop, as a training does."""

    def keep(*_):
        (Path(folder) / f"{name}.kept").touch()
        sys.exit(0)

    signal.signal(signal.SIGTERM, keep)
    (Path(folder) / name).write_text(str(os.getpid()))
    time.sleep(600)


def locked(_):
    with LOCK:
        return os.getpid()


def threads(_):
    return os.environ["OMP_NUM_THREADS"]


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number):
    if number == 1:
        raise ValueError("one")
    time.sleep(0.2)
    return number


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.is_file() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def waited(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_lock_that_a_thread_holds_is_not_held_in_them():
    """As it would be in a fork, for ever."""
    with LOCK:
        found = list(each(locked, range(4), workers=2))
    assert os.getpid() not in found
    assert set(each(threads, range(4), workers=2)) == {"1"}


def test_work_for_one_is_done_here():
    assert list(each(locked, range(4), workers=1)) == [os.getpid()] * 4
    assert list(each(locked, range(4), workers=8, chunk=4)) == [os.getpid()] * 4
    assert list(each(locked, [], workers=8)) == []


def test_an_error_arrives_and_one_that_is_killed_is_said_so():
    with pytest.raises(ValueError, match="one"):
        list(each(fail, range(100), workers=2))
    with pytest.raises(BrokenProcessPool, match="SIGKILL"):
        list(each(die, range(2), workers=2))


def test_a_script_needs_no_guard(tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN)
    done = subprocess.run([sys.executable, tmp_path / "plain.py"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["begun", "[3, 2, 1]"]


def test_they_keep_what_they_have_and_end_where_the_one_that_they_work_for_is_killed(tmp_path):
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, tmp_path], env=environment)
    found = [tmp_path / name for name in ("one", "two")]
    try:
        waited(lambda: all(path.is_file() and path.read_text() for path in found))
    finally:
        parent.kill()
        parent.wait()
    pids = [int(path.read_text()) for path in found]
    assert len(set(pids)) == 2
    waited(lambda: not any(map(alive, pids)))
    assert all(path.with_suffix(".kept").is_file() for path in found)
    assert not (tmp_path / "waiting").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_threads_are_a_share_of_the_cores_that_are_left_to_this_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    mine = os.sched_getaffinity(0)
    assert 1 <= cores() <= len(mine)
    assert threads_of_each(1) == cores()
    assert threads_of_each(0) == cores()
    assert threads_of_each(1000) == 1
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert cores() == threads_of_each(1) == 1
    finally:
        os.sched_setaffinity(0, mine)
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    assert threads_of_each(1) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    assert threads_of_each(1) == cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "as many as you like")
    assert threads_of_each(1) == cores()


def test_long_jobs_are_futures():
    with pool(1, threads=1) as several:
        assert several.submit(fail, 3).result() == 3
