"""``coat demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from coat.reports.page import Section

SAID = (
    "Whisper's encoder and SmolLM2, put together as one Qwen2-Audio and taught to hear on two cores: docs/pocket.md "
    "has how, and how well. It is asked about recordings of this machine's packages that its training did not have."
)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(min=1, help="Repeat training over so many seeds.")] = 2,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trainings side by side; as many as there are cores if left out.")
    ] = None,
    pocket: Annotated[
        bool, typer.Option(help="First put a small real model together, and ask it about recordings.")
    ] = True,
) -> None:
    """Ask a small real model about recordings; then build the small world, train the comparison, and write a report.

    Stopped and started again, it goes on from the last finished step.

    coat demo --out runs/demo
    """
    from coat.cli.quiet import quiet

    quiet()
    from rich.console import Console

    from coat.ablation.side_by_side import share_of_cores
    from coat.synthetic.demo import ARMS, run_demo

    console = Console()
    out.mkdir(parents=True, exist_ok=True)  # where that cannot be, it is said before minutes of fetching
    opening = hear_first(console) if pocket else []
    run_demo(
        out,
        seeds=range(seeds),
        workers=workers or share_of_cores(seeds * len(ARMS)),
        console=console,
        opening=opening,
    )


def hear_first(console: Console) -> list[Section]:
    """Put pocket together and ask it about this machine's recordings.

    Args:
        console: Console to print to.

    Returns:
        What the report opens with; nothing where pocket's parts cannot be had, which is said.
    """
    from coat.api.model import CoatModel
    from coat.errors import CoatError
    from coat.pocket.build import build
    from coat.pocket.recordings import ask, recordings, table_of
    from coat.reports.page import Section
    from coat.reports.terminal import terminal_table

    try:
        folder = build(say=lambda line: console.print(line, highlight=False, soft_wrap=True))
    except CoatError as error:
        console.print(f"Without pocket: {error}", highlight=False, soft_wrap=True)
        return []
    table = table_of(list(ask(CoatModel.from_pretrained(folder), recordings())))
    console.print(terminal_table(table, "pocket hears", "no clip of these was in its training"))
    return [Section("A small real model", SAID, table=table)]
