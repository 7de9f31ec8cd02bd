"""``coat`` as a process of its own, forked from the tests: its libraries are imported already."""

import os
import signal
import subprocess
import sys
import tempfile
import traceback

import pytest
import torch

TIMEOUT = 120


def coat(*arguments, cwd):
    """Run the command as a shell would.

    Args:
        arguments: What follows ``coat``.
        cwd: The folder it runs in.

    Returns:
        Exit status, and what it printed, as :func:`subprocess.run` has them.
    """
    command = ["coat", *map(str, arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _become(command, cwd, out.fileno(), err.fileno())
        status = _wait(child)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, status, out.read().decode(), err.read().decode())


def _become(command, cwd, out, err):
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
        from coat.cli import main

        main()
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
