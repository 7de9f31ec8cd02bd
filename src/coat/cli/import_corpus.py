"""``coat data import``: a corpus becomes a manifest with its sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coat.cli.options import IgnoreFields, split
from coat.errors import CoatError


def import_corpus(
    source: Annotated[str, typer.Argument(help="A corpus by name (coat data sources), or hub:OWNER/NAME.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for manifest and sounds.")] = Path("data"),
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="Folder with the corpus, where it comes as files, not installed."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Import at most so many records.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the wordings of questions.")] = 0,
    revision: Annotated[str | None, typer.Option("--revision", help="Revision on the hub.")] = None,
    splits: Annotated[str, typer.Option("--split", help="For hub:OWNER/NAME: splits, with commas.")] = "train",
    question: Annotated[str, typer.Option("--question", help="For hub:OWNER/NAME: asked where rows ask nothing.")] = "",
    ignore_fields: IgnoreFields = "",
) -> None:
    """Import a corpus: write its manifest and sounds. Stopped and started again, it goes on where it was.

    coat data import librispeech --out data

    coat data import asterisk_prompts --out data

    coat data import hub:PolyAI/minds14/en-US --question "What is said?"
    """
    from rich.console import Console

    from coat.cli.quiet import quiet
    from coat.data.sources import corpus
    from coat.data.sources.anything import PREFIX, Anything
    from coat.data.sources.prepare import prepare_corpus
    from coat.data.sources.records import folder_records, hub_records
    from coat.training.progress import bar_for, make_progress

    quiet()
    console = Console()
    ignore = split([ignore_fields])
    found = Anything(source, tuple(split([splits])), question, ignore) if source.startswith(PREFIX) else corpus(source)
    if folder is None and found.installed and Path(found.installed).is_dir():
        folder = Path(found.installed)
    if folder is None and not found.hub_id:
        raise CoatError(f"{found.name} comes as files: {found.files}.", f"{found.access} Then: --from FOLDER")
    if not found.access.startswith("open"):
        access = "" if folder else f" {found.access}"
        console.print(f"{found.title}. Licence: {found.licence}.{access}", soft_wrap=True)
    with make_progress() as bar:
        advance = bar_for(bar)
        made = prepare_corpus(
            found,
            out,
            lambda skip: (
                folder_records(found, folder, skip) if folder else hub_records(found, skip=skip, revision=revision)
            ),
            limit=limit,
            seed=seed,
            origin=str(folder.resolve()) if folder else revision or "",
            progress=lambda done: advance("records", done, limit or 0),
        )
    for line in made.bad[:10]:
        console.print(f"[yellow]left out:[/yellow] {line}", soft_wrap=True, highlight=False)
    if made.bad:
        console.print(f"{len(made.bad)} records have sound that cannot be read.")
    console.print(f"{made.manifest}: {made.rows:,} rows.", soft_wrap=True)
