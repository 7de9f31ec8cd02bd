"""``coat demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(min=1, help="Repeat training over so many seeds.")] = 1,
) -> None:
    """Build the small world, train the comparison, and write a report.

    Stopped and started again, it goes on from the last finished step.

    coat demo --out runs/demo
    """
    from coat.cli.quiet import quiet

    quiet()
    from rich.console import Console

    from coat.synthetic.demo import run_demo

    run_demo(out, seeds=range(seeds), console=Console())
