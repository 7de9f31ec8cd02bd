"""``coat think``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def think(
    run: Annotated[str, typer.Argument(help="A finished run whose recipe has experts, or miniature.")],
    clip: Annotated[Path, typer.Argument(help="The clip.")],
    events: Annotated[
        list[Path] | None, typer.Option(help="Write the time line: .json, .rttm, .TextGrid or .txt. Repeatable.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the time line: .png, .svg or .pdf.")] = None,
    text: Annotated[str, typer.Option(help="The question that is asked about the clip.")] = "Describe the audio.",
) -> None:
    """Show when a clip's think states say that something is heard: notes, sound events.

    coat think miniature piano.wav --events notes.TextGrid --picture notes.png
    """
    from rich.console import Console
    from rich.table import Table

    from coat.cli.quiet import quiet

    quiet()
    from coat.api.inputs import as_clip
    from coat.api.model import CoatModel
    from coat.reports.events import write_events

    model = CoatModel.from_pretrained(run, heads=True)
    heard = as_clip(clip)
    found = model.events(heard, text)
    table = Table("from", "to", "what", "confidence", "expert")
    for event in found:
        table.add_row(
            f"{event.start:.2f} s", f"{event.end:.2f} s", event.label, f"{event.confidence:.2f}", event.expert
        )
    Console().print(table if found else "No event is read from the think states of this clip.")
    for path in events or []:
        write_events(path, found, heard.seconds, clip.stem)
        typer.echo(f"Written: {path}")
    if picture is not None:
        from coat.reports.plots import plot_events

        plot_events(heard, found).savefig(picture, bbox_inches="tight", facecolor="white")
        typer.echo(f"Written: {picture}")
