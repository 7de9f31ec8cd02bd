"""A Python of its own that is prepared once, and runs code in forks of itself: what they may import is its own affair.

``python -m tests.prepared`` reads lines of JSON: first the code that prepares it, then ``{"code", "out", "err"}``, code
and the files that it prints to. After each it says the exit status of the fork.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Prepared:
    """Such a Python, as a context.

    Args:
        preparation: Code that runs before the first fork; what it defines is there in each.
        python: Path of another environment's Python.
        environment: Variables that it has besides those of the tests.
    """

    def __init__(self, preparation, python=sys.executable, environment=None):
        self.preparation, self.python, self.environment = preparation, python, environment or {}

    def __enter__(self):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [self.python, "-m", "tests.prepared"], cwd=ROOT, env={**os.environ, **self.environment},
            stdin=pipe, stdout=pipe, text=True,
        )  # fmt: skip
        self._say(self.preparation)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def run(self, code):
        """What ``python -c`` would give: a :class:`subprocess.CompletedProcess`."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            self._say({"code": code, "out": str(out), "err": str(err)})
            status = self.process.stdout.readline()
            assert status, "the preparation failed; it says why on the tests' own error output"
            return subprocess.CompletedProcess(code, int(status), out.read_text(), err.read_text())

    def _say(self, what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()


def main():
    there = {"__name__": "__main__"}
    exec(json.loads(sys.stdin.readline()), there)
    gc.freeze()  # what is imported stays: no fork looks through it for garbage, or copies its pages to do so
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            end_after(partial(_run, asked["code"], there, asked["out"], asked["err"]))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    os._exit(0)  # nothing is left to do, and taking all libraries apart lasts a second


def _run(code, there, out, err):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    exec(code, there)


def end_after(work):
    """Do it, and end this process as Python would: with the status of an exit, or with a traceback."""
    status = 1
    try:
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
