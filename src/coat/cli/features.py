"""``coat data features``: expert features and audio embeddings, computed ahead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coat.cli.options import IgnoreFields, split
from coat.errors import CoatError

if TYPE_CHECKING:
    from rich.console import Console

    from coat.config.recipe import Recipe
    from coat.features.store import Estimate


def features(
    source: Annotated[str, typer.Argument(help="A recipe (YAML) or a manifest.")],
    experts: Annotated[
        str | None, typer.Option("--experts", help="Names, with commas; those of the recipe if left out.")
    ] = None,
    cache: Annotated[str | None, typer.Option("--cache", help="Folder; the recipe's data.cache if left out.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="FAMILY or FAMILY:PATH, for a manifest: whose audio tokens to align to."),
    ] = None,
    embeddings: Annotated[
        bool | None,
        typer.Option("--embeddings/--no-embeddings", help="The backbone's audio embeddings too; as the recipe says."),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field of the recipe.")] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", help="A Ray cluster's address, auto, or local: by many machines.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Ray workers; one a GPU, or a core.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="First read all shards, and drop damaged ones.")] = False,
    ignore_fields: IgnoreFields = "",
) -> None:
    """Compute expert features and audio embeddings ahead. Stopped and started again, it goes on where it was.

    coat data features recipes/qwen2-audio-pitch.yaml --cache features

    coat data features train.jsonl --experts spidr,panns --backbone qwen2_audio --cache features
    """
    from rich.console import Console

    from coat.cli.quiet import quiet

    quiet()
    console = Console()
    recipe = _recipe(Path(source), experts, cache, backbone, embeddings, overrides or []).seeded()
    passed_over = [*recipe.data.ignore_fields, *split([ignore_fields])]
    from coat.checkpoints.building import frozen_dtype
    from coat.features.store import FeatureJob, audio_of_manifests, compute
    from coat.training.progress import bar_for, make_progress

    on_bad_row = recipe.data.on_bad_row
    files = audio_of_manifests(recipe.data.manifests(), ignore=passed_over, on_bad_row=on_bad_row)
    job = FeatureJob.of(recipe, dtype=frozen_dtype(recipe))
    store = job.open()
    if verify:
        for path in store.remove_damaged():
            console.print(f"[yellow]Damaged, and removed:[/yellow] {path}", soft_wrap=True)
    with make_progress() as bar:
        sounds = store.index(files, bar_for(bar), on_bad_row=on_bad_row)
    units = store.plan(sounds)
    console.print(f"{len(files)} clips, {len(sounds)} different sounds", highlight=False)
    _show(console, store.estimate(units), job.cache)
    if dry_run or not units:
        return
    with make_progress() as bar:
        if ray:
            from coat.features.cluster import compute_on_ray

            compute_on_ray(store, job, units, ray, workers=workers, progress=bar_for(bar))
        else:
            compute(store, units, progress=bar_for(bar))
    console.print(f"Done. Train with [bold]--set data.cache={job.cache}[/bold]", soft_wrap=True)


def _recipe(
    source: Path,
    experts: str | None,
    cache: str | None,
    backbone: str | None,
    embeddings: bool | None,
    overrides: Sequence[str],
) -> Recipe:
    """The recipe itself, or one that stands for a manifest and the options."""
    from coat.config.reading import load_recipe, parse_recipe

    chosen = [f"data.cache={cache}"] if cache else []
    chosen += [] if embeddings is None else [f"data.cache_embeddings={str(embeddings).lower()}"]
    names = split([experts or ""])
    stage: dict[str, Any] = {"name": "features", "steps": 1, "experts": dict.fromkeys(names, "auto")}
    if source.suffix in (".yaml", ".yml"):
        recipe = load_recipe(source, [*chosen, *overrides])
        if not names:
            return recipe
        return parse_recipe(recipe.model_dump() | {"stages": [stage]}, str(source))
    if not names and not embeddings:
        raise CoatError("There is nothing to compute ahead.", "Name experts: --experts spidr,panns")
    family, _, path = (backbone or "").partition(":")
    if not family:
        raise CoatError(
            "Features are on a backbone's audio tokens; a manifest names none.",
            "For example: --backbone qwen2_audio",
        )
    raw = {
        "backbone": {"family": family, "path": path or None},
        "stages": [stage],
        "data": {"train_dataset": str(source), "cache_embeddings": bool(embeddings)},
    }
    return parse_recipe(raw, "The command", [*chosen, *overrides])


def _show(console: Console, estimates: Sequence[Estimate], cache: str) -> None:
    """Print the work to do, and whether there is room for it."""
    from rich.table import Column, Table

    from coat.features.store import free_bytes

    table = Table(
        "source", Column("clips missing", justify="right"), Column("hours", justify="right"),
        Column("at most", justify="right"), Column("on this machine", justify="right"),
    )  # fmt: skip
    for found in estimates:
        table.add_row(
            found.source, f"{found.clips:,}", f"{found.hours:.2f}", _size(found.bytes), _duration(found.seconds)
        )
    console.print(table)
    needed, free = sum(found.bytes for found in estimates), free_bytes(cache)
    if needed > free:
        console.print(
            f"[yellow]Up to {_size(needed)} are needed, {_size(free)} are free at {cache}.[/yellow] Features compress "
            "to between half and nine tenths; name another folder with --cache if that is too little.",
            soft_wrap=True,
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
