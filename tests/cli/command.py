"""``coat`` as a process of its own, forked from the tests: its libraries are imported already."""

import os
import signal
import subprocess
import sys
import tempfile
import traceback

import pytest
import torch
from accelerate.state import AcceleratorState

TIMEOUT = 120


class Started:
    """A command that runs.

    Args:
        arguments: What follows ``coat``.
        cwd: The folder it runs in.
        environment: Variables that it has besides those of the tests.
        main: What runs them in place of ``coat``'s own.
    """

    def __init__(self, *arguments, cwd, environment=None, main=None):
        self.command = ["coat", *map(str, arguments)]
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  # closed by wait()
        sys.stdout.flush()
        sys.stderr.flush()
        self.child = os.fork()
        if self.child == 0:
            os.environ.update(environment or {})
            _become(self.command, cwd, self.out.fileno(), self.err.fileno(), main)

    def wait(self):
        """Exit status, and what it printed, as :func:`subprocess.run` has them."""
        status = _wait(self.child)
        said = []
        for file in (self.out, self.err):
            file.seek(0)
            said.append(file.read().decode())
            file.close()
        return subprocess.CompletedProcess(self.command, status, *said)


def coat(*arguments, cwd):
    """Run the command as a shell would: see :class:`Started`."""
    return Started(*arguments, cwd=cwd).wait()


def _become(command, cwd, out, err, run):
    """Run the command in this process, and end it; nothing of the tests' is cleaned up, for it is the parent's."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
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
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child):
    def late(*_):
        os.killpg(child, signal.SIGKILL)
        pytest.fail(f"the command did not end within {TIMEOUT} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TIMEOUT)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return os.waitstatus_to_exitcode(status)
