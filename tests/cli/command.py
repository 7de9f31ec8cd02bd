"""``coat`` as a process of its own, forked from the tests: its libraries are imported already."""

import faulthandler
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.prepared import end_after

TIMEOUT = 120
WHERE = signal.SIGUSR1  # asks a process to say where its threads are


class Started:
    """A command that runs, in a session of its own.

    Args:
        arguments: What follows ``coat``.
        cwd: The folder it runs in.
        said: What it reads from its input.
        environment: Variables that it has besides those of the tests.
        main: What runs them in place of ``coat``'s own.
    """

    def __init__(self, *arguments, cwd, said="", environment=None, main=None):
        self.command = ["coat", *map(str, arguments)]
        self.returncode = None
        self.streams = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115  # closed by wait()
        self.streams[0].write(said.encode())
        self.streams[0].seek(0)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(environment or {})
            end_after(partial(_become, self.command, cwd, [stream.fileno() for stream in self.streams], main))

    def poll(self):
        """Exit status, or nothing while it runs."""
        if self.returncode is None:
            child, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if child else None
        return self.returncode

    def send_signal(self, number, group=False):
        """To the command alone, or to every process that it has started."""
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self):
        """Exit status, and what it printed, as :func:`subprocess.run` has them."""
        if self.returncode is None:
            self.returncode = _wait(self.pid, self.streams[2])
        said = []
        for stream in self.streams:
            stream.seek(0)
            said.append(stream.read().decode())
            stream.close()
        return subprocess.CompletedProcess(self.command, self.returncode, *said[1:])


def coat(*arguments, cwd, said=""):
    """Run the command as a shell would: see :class:`Started`."""
    return Started(*arguments, cwd=cwd, said=said).wait()


def _become(command, cwd, streams, run):
    """Run the command in this process; nothing of the tests' is cleaned up, for it is the parent's."""
    gc.freeze()  # what the tests left behind is finalised by them, and not here as well
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    faulthandler.register(WHERE, file=2)  # its own processes inherit it
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, "r" if i == 0 else "w", closefd=False) for i in range(3))
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    sys.argv = command
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # what tokenizers say of a fork is not the command's
    os.chdir(cwd)
    # The first use of torch after a fork renews its pool of threads, unguarded: two threads that load weights at
    # once find none ("Invalid thread pool!"). Here it is renewed before there is a second thread.
    torch.set_num_threads(torch.get_num_threads())
    AcceleratorState._reset_state(reset_partial_state=True)  # the tests' own, of one process
    from coat.cli import main

    (run or main)()


def _wait(child, err):
    def late(*_):
        os.killpg(child, WHERE)
        time.sleep(2)
        os.killpg(child, signal.SIGKILL)
        err.seek(0)
        pytest.fail(f"the command did not end within {TIMEOUT} s; where its processes are:\n{err.read().decode()}")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TIMEOUT)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return os.waitstatus_to_exitcode(status)
