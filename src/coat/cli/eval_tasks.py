"""``coat eval list`` and ``coat eval check``: tasks and their data, before any model is asked."""

from __future__ import annotations

from pathlib import Path

import typer

from coat.cli.options import Data, Tasks, split
from coat.errors import CoatError


def list_tasks() -> None:
    """List the tasks: what they are, where their data is, how they are scored.

    coat eval list
    """
    from rich.console import Console
    from rich.table import Table

    from coat.evaluation.task import load_task, task_names

    table = Table("task", "data", "rows", "scored by", "tokens")
    table.columns[0].no_wrap = True
    family = None
    for task in sorted(map(load_task, task_names()), key=lambda task: (task.family, task.title)):
        if task.family != family:
            table.add_section()
            table.add_row(f"[bold]{task.family}[/bold]")
            family = task.family
        table.add_row(
            task.name,
            task.source.hub or "of the LDC",
            f"{task.source.rows:,}" if task.source.rows else "",
            task.kind + (", weighted F1" if task.weighted_f1 else ""),
            str(task.max_new_tokens),
        )
    Console().print(table)


def check(tasks: Tasks = None, data: Data = None) -> None:
    """Check the data of tasks without a model: columns, counts, lengths, revision, and rows that would be skipped.

    coat eval check --tasks mmau,my-test.jsonl
    """
    from tempfile import TemporaryDirectory

    from coat.cli.quiet import quiet

    quiet()
    from rich.console import Console

    from coat.evaluation.sources import measured, open_tasks
    from coat.evaluation.task import task_names

    console, problems = Console(), 0
    names = [name for each in split(tasks or ["all"]) for name in (task_names() if each == "all" else [each])]
    with TemporaryDirectory() as scratch:
        for name in names:
            try:
                found = [measured(each) for each in open_tasks([name], data, Path(scratch))]
            except CoatError as error:
                problems += 1
                console.print(f"[red]{name}[/red]: {error.problem} {error.remedy}", highlight=False, soft_wrap=True)
                continue
            for each in found:
                rows = len(each.items) + sum(map(len, each.skipped.values())) + len(each.bad)
                said = each.task.source.rows
                count = f"{rows:,} rows"
                if said and said != rows and data != "sample":
                    count += f" ([red]{said:,} are documented[/red])"
                seconds = sorted(item.seconds for item in each.items) or [0.0]
                lengths = f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, {sum(seconds) / 3600:.2f} h"
                left = "".join(f"; {len(ids)} {why}" for why, ids in each.skipped.items())
                revision = f"; {each.revision}" if each.revision else ""
                console.print(f"{each.task.name}: {count}, {lengths}{left}{revision}", highlight=False, soft_wrap=True)
                for row, why in list(each.bad.items())[:5]:
                    console.print(f"  [red]{row}[/red]: {why}", highlight=False, soft_wrap=True)
                problems += bool(each.bad)
    if problems:
        raise typer.Exit(1)
