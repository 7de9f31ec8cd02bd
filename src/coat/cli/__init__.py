"""The command line: one file a verb, each calling the same functions as the Python API."""

from __future__ import annotations

import os
import sys

# Exit codes beside 2, which is for what was asked for: bad options, recipes and data.
COULD_NOT_RUN, BROKEN, INTERRUPTED = 3, 70, 130
TRACEBACK = "COAT_TRACEBACK"


def main() -> None:
    """Run ``coat``; errors meant for users come as one panel, never as a traceback."""
    from concurrent.futures import BrokenExecutor

    import typer

    from coat.cli.app import app
    from coat.errors import CoatError
    from coat.extras import missing

    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
    except CoatError as error:
        _panel(error.problem, error.remedy)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _panel("Stopped.", "The same command goes on from the last finished step.")
        sys.exit(INTERRUPTED)
    except BrokenExecutor as error:
        _panel(f"A process of this command was killed. {error}", "Where memory ran out, take fewer --workers.")
        sys.exit(COULD_NOT_RUN)
    except OSError as error:
        if error.errno is None:  # the hub's and the network's own kinds
            _panel(str(error), "Check the name and the network; HF_HUB_OFFLINE=1 uses what is in the cache.")
            sys.exit(COULD_NOT_RUN)
        # A folder that cannot be written, a file that is none, a disk that is full.
        where = f"{error.filename}: " if error.filename else ""
        _panel(f"{where}{error.strerror or error}", "Check the path, its permissions, and the room on the disk.")
        sys.exit(COULD_NOT_RUN)
    except Exception as error:
        # Usage errors: some versions of typer bring their own click, so the class cannot be named.
        if hasattr(error, "exit_code"):
            error.show()  # type: ignore[attr-defined]
            sys.exit(error.exit_code)
        named = missing(error) if isinstance(error, ImportError) else None
        if named is not None:
            _panel(named.problem, named.remedy)
            sys.exit(named.exit_code)
        if os.environ.get(TRACEBACK):
            raise
        _panel(f"{type(error).__name__}: {error}"[:600], f"This should not happen. {TRACEBACK}=1 shows where it did.")
        sys.exit(BROKEN)


def _panel(problem: str, remedy: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel

    text = escape(problem) + (f"\n\n[bold]What to do:[/bold] {escape(remedy)}" if remedy else "")
    Console(stderr=True).print(Panel(text, title="coat", border_style="red", title_align="left", expand=False))
