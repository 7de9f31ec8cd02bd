"""``coat eval lmms``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coat.cli.options import one_of, split
from coat.errors import CoatError


def lmms(
    model: Annotated[str, typer.Argument(help="A run, export, checkpoint, hub id, address, or 'miniature'.")],
    tasks: Annotated[
        list[str] | None,
        typer.Option("--tasks", help="lmms-eval's names, and ours as coat_NAME. Commas too."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A folder with a folder a task of ours.")] = None,
    include: Annotated[list[Path] | None, typer.Option("--include", help="Folder of task files. Repeatable.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where our task files and the results go.")] = Path("runs/lmms"),
    think: Annotated[str, typer.Option("--think", help="on, or off: leave the block out.")] = "on",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Documents a task.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Questions at a time.")] = 32,
    simple: Annotated[bool, typer.Option("--simple", help="By the simple interface, not the chat one.")] = False,
) -> None:
    """Run lmms-eval's own tasks on a model, and ours as coat_NAME, in the environment that holds lmms-eval.

    coat eval lmms runs/pitch --tasks mmau_test_mini,librispeech_test_clean,coat_meld
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from coat.files import write_whole
    from coat.lmms.evaluate import evaluate as evaluate_there

    one_of("--think", think, ("on", "off"))
    if not tasks:
        raise CoatError("Missing option: --tasks.", "lmms-eval's names, or ours with coat_ before them: coat_meld")
    found = evaluate_there(
        model, split(tasks), out / "tasks", data=data, include=include or (), limit=limit, batch_size=batch_size,
        simple=simple, model_args={"think": think},
    )  # fmt: skip
    write_whole(out / "results.json", json.dumps(found, indent=1, default=str))
    table = Table("task", "metric", "value")
    for task, values in found.items():
        for name, value in values.items():
            if isinstance(value, int | float) and "stderr" not in name and "," in name:
                table.add_row(task, name.split(",")[0], f"{value:.4g}")
    Console().print(table)
