"""The command line: one file a verb, each calling the same functions as the Python API."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run ``coat``; errors meant for users come as one panel, never as a traceback."""
    import typer

    from coat.cli.app import app
    from coat.errors import CoatError

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
    except Exception as error:
        # Usage errors: some versions of typer bring their own click, so the class cannot be named.
        if not hasattr(error, "exit_code"):
            raise
        error.show()  # type: ignore[attr-defined]
        sys.exit(error.exit_code)


def _panel(problem: str, remedy: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel

    text = escape(problem) + (f"\n\n[bold]What to do:[/bold] {escape(remedy)}" if remedy else "")
    Console(stderr=True).print(Panel(text, title="coat", border_style="red", title_align="left", expand=False))
