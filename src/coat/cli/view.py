"""``coat view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    run: Annotated[str, typer.Argument(help="A finished run, or 'miniature'.")],
    decoder: Annotated[
        Path | None, typer.Option("--decoder", help="Draws audio embeddings as spectrograms: coat experts decoder.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Through Gradio's tunnel, for others to see.")] = False,
) -> None:
    """Open a live page: expert features, their predictions from the think states, and both models' answers.

    coat view miniature
    """
    from coat.cli.quiet import quiet

    quiet()
    from coat.checkpoints.references import run_in
    from coat.view.page import serve_page

    folder = run_in(run).weights
    typer.echo(f"http://{host}:{port}")
    serve_page(folder, decoder=decoder, host=host, port=port, share=share)
