"""``coat export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    out: Annotated[Path, typer.Option("--out", help="A folder that is not there yet.")],
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="A PEFT adapter, without the base's weights.")
    ] = False,
    push_to_hub: Annotated[str | None, typer.Option(help="Upload it there too: owner/name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everyone see the upload.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and upload nothing.")] = False,
) -> None:
    """Export a run as a plain checkpoint for transformers, vLLM and PEFT: merged, read back, and compared.

    coat export runs/pitch --out pitch-model
    """
    from coat.cli.quiet import quiet

    quiet()
    from coat.export.checkpoint import export as write
    from coat.export.hub import push

    folder = write(run, out, adapter_only=adapter_only, say=typer.echo)
    typer.echo(f"Written: {folder}")
    if push_to_hub:
        files = push(folder, push_to_hub, private=not public, dry_run=dry_run)
        verb = "Would upload" if dry_run else "Uploaded"
        typer.echo(f"{verb} {len(files)} files, {sum(size for _, size in files) / 1e6:.1f} MB, to {push_to_hub}:")
        for name, size in files:
            typer.echo(f"  {name}  {size / 1e6:.3f} MB")
