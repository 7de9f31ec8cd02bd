"""Tables and bars for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from coat.reports.page import Table

BAR_WIDTH = 40


def terminal_table(table: Table, title: str, caption: str | None = None) -> RichTable:
    """A report's table for a terminal; what is best is green."""
    shown = RichTable(*table.head, title=title, caption=caption)
    for row, cells in enumerate(table.rows):
        best = ["green" if (row, column) in table.best else "" for column in range(len(cells))]
        shown.add_row(*(Text(cell, style) for cell, style in zip(cells, best, strict=True)))
    return shown


def bars(values: Mapping[str, Mapping[str, float]]) -> RenderableType:
    """Bars from 0 to 1, a group a task.

    Args:
        values: ``{task: {arm: value}}``.
    """
    groups: list[RenderableType] = []
    for task, by_arm in values.items():
        grid = RichTable.grid(padding=(0, 1))
        best = max(by_arm.values())
        for arm, value in by_arm.items():
            grid.add_row(
                Text(arm, justify="right"),
                Bar(1.0, 0.0, value, width=BAR_WIDTH, color="green" if value == best else "blue"),
                Text(f"{100 * value:.0f} %"),
            )
        groups += [Text(f"\n{task.replace('_', ' ')}", "bold"), grid]
    return Group(*groups)
