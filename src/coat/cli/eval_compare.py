"""``coat eval compare`` and ``coat eval report``: evaluations beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coat.cli.options import Protocol


def compare(
    first: Annotated[Path, typer.Argument(help="An evaluation, such as the baseline's.")],
    second: Annotated[Path, typer.Argument(help="Another, of the same tasks.")],
    protocol: Protocol = "strict",
    flips: Annotated[int, typer.Option(min=0, help="Items that flipped, shown for each task.")] = 3,
) -> None:
    """Compare two evaluations: differences with intervals, paired tests, and the items whose result changed.

    coat eval compare runs/eval/base runs/eval/pitch
    """
    from rich.console import Console
    from rich.table import Table

    from coat.evaluation.compare import compare_runs
    from coat.evaluation.scoring import check_protocol
    from coat.evaluation.statistics import LOWER_IS_BETTER
    from coat.files import short_names

    found = compare_runs(first, second, check_protocol(protocol))
    names = short_names([first, second])
    table = Table("task", *names, "difference [95 %]", "p (Holm)", "items", title=f"protocol {protocol}")
    for each in found:
        for place, change in enumerate(each.differences):
            better = (change.value > 0) == (change.metric not in LOWER_IS_BETTER)
            moved = rf"{100 * change.value:+.1f} \[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
            if place == 0 and each.corrected < 0.05:
                moved = f"[{'green' if better else 'red'}]{moved}[/]"
            table.add_row(
                f"{each.title}, {change.metric}",
                f"{100 * change.first:.1f}",
                f"{100 * change.second:.1f}",
                moved,
                f"{change.p:.2g}" + (f" ({each.corrected:.2g})" if place == 0 else ""),
                str(change.items),
            )
    console = Console()
    console.print(table)
    for each in found:
        gained = [flip for flip in each.flips if flip.gained]
        if each.flips:
            console.print(f"{each.title}: {len(gained)} gained, {len(each.flips) - len(gained)} lost", markup=False)
        for flip in [*gained[:flips], *[flip for flip in each.flips if not flip.gained][:flips]]:
            sign = "+" if flip.gained else "-"
            said = f"  {sign} {flip.id}: {flip.reference!r}; said {flip.first[:60]!r}, then {flip.second[:60]!r}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
        if each.left_out:
            console.print(f"{each.title}: left out: {each.left_out}.", markup=False)


def report(
    folders: Annotated[list[Path], typer.Argument(help="Evaluations; the first is the one to compare with.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page.")] = None,
    protocol: Protocol = "strict",
) -> None:
    """Write a page: scores with intervals, confusion matrices, and the worst answers with their clips.

    coat eval report runs/eval/base runs/eval/pitch
    """
    from coat.cli.quiet import quiet

    quiet()
    from coat.evaluation.compare import compare_runs
    from coat.evaluation.scoring import check_protocol
    from coat.files import short_names
    from coat.reports.evaluation import write_eval_page

    path, chosen = out or folders[-1] / "report.html", check_protocol(protocol)
    first, *others = zip(short_names(folders), folders, strict=True)
    compared = [(first[0], name, compare_runs(first[1], folder, chosen)) for name, folder in others]
    write_eval_page(folders, path, protocol=chosen, compared=compared)
    typer.echo(str(path))
