"""``coat report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    pages: Annotated[list[Path], typer.Argument(help="Pages of coat's, or folders with one, in the order to show.")],
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Its title.")] = "Continuous Audio Thinking: results",
    lead: Annotated[str, typer.Option(help="A paragraph under the title.")] = "",
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also as Markdown, with its figures in images/ beside it.")
    ] = None,
) -> None:
    """Combine pages of other commands into one self-contained page, and Markdown.

    coat report runs/ladder runs/probes runs/cost runs/eval/coat/report.html --out results.html --markdown results.md
    """
    from coat.reports.page import read_page, write_markdown, write_together

    found = [read_page(page) for page in pages]
    write_together(out, title, lead, found)
    typer.echo(str(out))
    if markdown is not None:
        write_markdown(markdown, title, lead, found)
        typer.echo(str(markdown))
