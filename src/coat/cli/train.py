"""``coat train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from coat.config.recipe import Recipe


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML).")],
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder; runs/RECIPE if left out.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=c. Repeatable.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the recipe and show it resolved.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    gpu: Annotated[str, typer.Option("--gpu", help="For --dry-run: hours on which GPU.")] = "H200",
    seconds: Annotated[float, typer.Option("--seconds", help="For --dry-run: of audio in an average row.")] = 10.0,
) -> None:
    """Train a recipe's stages. A run that was stopped resumes from its last checkpoint.

    coat train recipes/qwen2-audio-pitch.yaml --out runs/pitch --set data.train_dataset=my.jsonl
    """
    from rich.console import Console

    from coat.config.reading import load_recipe

    console = Console()
    resolved = load_recipe(recipe, overrides or []).seeded()
    if check:
        _check_names(resolved)
        console.print(resolved.dump(), highlight=False)
        return
    if dry_run:
        _show_cost(console, resolved, gpu, seconds)
        return
    folder = out or Path("runs") / recipe.stem
    from coat.cli.quiet import quiet
    from coat.training import run

    quiet()

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    run.train(resolved, folder, say=say)


def _check_names(recipe: Recipe) -> None:
    """That family and experts are there, which a recipe alone cannot know.

    Raises:
        CoatError: One is not, with what it may have been meant to be.
    """
    from coat import backbones, experts

    if recipe.backbone.family not in backbones.REGISTRY:  # what is known is not imported: that takes seconds
        backbones.backbone_class(recipe.backbone.family)
    kinds = {
        str(recipe.experts.get(name, {}).get("kind", name)) for name in [*recipe.active_experts(), *recipe.experts]
    }
    for kind in sorted(kinds - experts.REGISTRY.keys()):
        experts.expert_class(kind)


def _show_cost(console: Console, recipe: Recipe, gpu: str, seconds: float) -> None:
    from rich.table import Table

    from coat.cli.quiet import quiet

    quiet()
    from coat.training.cost import GB, GPUS, UTILISATION, Row, estimate, known_gpu

    name = known_gpu(gpu)
    cost = estimate(recipe, Row(seconds))
    sizes = Table(title="parameters", show_header=False)
    for part, count in cost.parameters.items():
        sizes.add_row(part, f"{count / 1e6:,.2f} M")
    sizes.add_row("[bold]trained[/bold]", f"[bold]{cost.trained / 1e6:,.2f} M[/bold]")
    memory = Table(title="memory of a process, about", show_header=False)
    for part, held in cost.memory.items():
        memory.add_row(part, f"{held / GB:.1f} GB")
    whole = sum(cost.memory.values()) / GB
    fits = "fits" if cost.fits(name) else "[red]does not fit[/red]"
    memory.add_row("[bold]in all[/bold]", f"[bold]{whole:.1f} GB[/bold], {fits} {name} ({GPUS[name][1]} GB)")
    stages = Table("stage", "rows", "TFLOP a step", f"{name}-hours, about", "of it", title="stages")
    for stage in cost.stages:
        parts = ", ".join(f"{part} {share:.0%}" for part, share in stage.parts.items() if share >= 0.005)
        step = stage.flops / stage.rows * recipe.training.batch_size / 1e12
        stages.add_row(stage.name, f"{stage.rows:,}", f"{step:,.1f}", f"{stage.hours(name):,.2g}", parts)
    for table in (sizes, memory, stages):
        console.print(table)
    console.print(
        f"For rows of {seconds:g} s, {cost.tokens} tokens with the block; at {UTILISATION:.0%} of the data sheet's "
        f"{GPUS[name][0]:,} TFLOP/s."
    )
