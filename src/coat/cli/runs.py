"""``coat runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="A folder of runs, or a run.")]
Folders = Annotated[list[Path], typer.Argument(help="Runs.")]

runs = typer.Typer(help="List, compare and plot training runs.", no_args_is_help=True)


@runs.command("list")
def list_runs(folder: Folder = Path("runs")) -> None:
    """List runs with their progress and latest losses.

    coat runs list runs
    """
    from rich.console import Console
    from rich.table import Table

    from coat.reports.runs import find_runs

    table = Table("run", "backbone", "stage", "step", "cross-entropy", "held out", "state")
    for run in find_runs(folder):
        held = f"{run.held_out[0]:.4f} at {run.held_out[1]}" if run.held_out else ""
        ce = f"{run.losses['ce']:.4f}" if "ce" in run.losses else ""
        state = "finished" if run.finished else "not finished"
        table.add_row(
            run.folder.name,
            run.recipe["backbone"]["family"],
            run.stage,
            f"{run.steps if run.finished else run.step:,} of {run.steps:,}",
            ce,
            held,
            state,
        )
    Console().print(table)


@runs.command("compare")
def compare(folders: Folders) -> None:
    """Compare runs: the recipe fields in which they differ, and their results.

    coat runs compare runs/a runs/b
    """
    from rich.console import Console
    from rich.table import Table

    from coat.files import short_names
    from coat.reports.runs import differences, read_run

    found = [read_run(folder) for folder in folders]
    table = Table("", *short_names([run.folder for run in found]))
    for field, values in differences(found).items():
        table.add_row(field, *values)
    table.add_section()
    for name in dict.fromkeys(name for run in found for name in run.losses):
        cells = [f"{run.losses[name]:.4g}" if name in run.losses else "" for run in found]
        table.add_row(f"[bold]{'loss' if name == 'loss' else f'loss of {name}'}[/bold]", *cells)
    if any(run.held_out for run in found):
        cells = [f"{run.held_out[0]:.4g} at {run.held_out[1]}" if run.held_out else "" for run in found]
        table.add_row("[bold]held-out cross-entropy[/bold]", *cells)
    Console().print(table)


@runs.command("plot")
def plot(folders: Folders, out: Annotated[Path, typer.Option("--out", help="The picture.")] = Path("runs.png")) -> None:
    """Plot every loss of some runs over their steps.

    coat runs plot runs/a runs/b --out losses.png
    """
    from coat.reports.runs import plot_runs, read_run

    plot_runs([read_run(folder) for folder in folders], out)
    typer.echo(str(out))
