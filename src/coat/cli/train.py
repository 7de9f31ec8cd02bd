"""``coat train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML).")],
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder; runs/RECIPE if left out.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=c. Repeatable.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the recipe and show it resolved.")] = False,
) -> None:
    """Train a recipe's stages. Stopped and started again, it goes on from its last checkpoint."""
    from rich.console import Console

    from coat.config.recipe import load_recipe

    console = Console()
    resolved = load_recipe(recipe, overrides or [])
    if check:
        console.print(resolved.dump(), highlight=False)
        return
    folder = out or Path("runs") / recipe.stem
    from coat.cli.quiet import quiet
    from coat.training import run

    quiet()

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    run.train(resolved, folder, say=say)
