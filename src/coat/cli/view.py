"""``coat view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    model: Annotated[str, typer.Argument(help="A run, an export or a plain checkpoint, such as miniature or pocket.")],
    decoder: Annotated[
        Path | None, typer.Option("--decoder", help="Draws audio embeddings as spectrograms: coat experts decoder.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Through Gradio's tunnel, for others to see.")] = False,
) -> None:
    """Open a live page: a clip, and the model's answer beside that of its backbone as it was.

    A run with experts shows what each hears in the clip, and what the think states kept of it.

    coat view miniature
    """
    from coat.cli.quiet import quiet

    quiet()
    from coat.view.page import serve_page

    serve_page(model, decoder=decoder, host=host, port=port, share=share, say=typer.echo)
