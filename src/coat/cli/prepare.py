"""``coat data prepare``: a corpus to a manifest, or expert features ahead."""

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
    from coat.data.sources.base import Corpus
    from coat.training.features import Estimate


def prepare(
    source: Annotated[str, typer.Argument(help="A corpus by name, a recipe (YAML), or a manifest (JSON Lines).")],
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
    out: Annotated[Path, typer.Option("--out", help="For a corpus: where manifest and sounds go.")] = Path("data"),
    folder: Annotated[
        Path | None, typer.Option("--from", help="For a corpus that comes as files: the folder that holds them.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="For a corpus: at most so many records.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="For a corpus: of wordings.")] = 0,
    revision: Annotated[str | None, typer.Option("--revision", help="For a corpus on the hub.")] = None,
    splits: Annotated[str, typer.Option("--split", help="For hub:OWNER/NAME: splits, with commas.")] = "train",
    question: Annotated[str, typer.Option("--question", help="For hub:OWNER/NAME: asked where rows ask nothing.")] = "",
    ignore_fields: IgnoreFields = "",
) -> None:
    """Write a corpus's manifest, or precompute expert features. Both resume after a stop."""
    from rich.console import Console

    from coat.cli.quiet import quiet
    from coat.data.sources import REGISTRY, corpus
    from coat.data.sources.anything import PREFIX, Anything

    quiet()
    console = Console()
    if source in REGISTRY or source.startswith(PREFIX):
        ignore = split([ignore_fields])
        found = (
            Anything(source, tuple(split([splits])), question, ignore) if source.startswith(PREFIX) else corpus(source)
        )
        _prepare_corpus(console, found, out, folder, limit, seed, revision)
        return
    recipe = _recipe(Path(source), experts, cache, backbone, embeddings, overrides or [])
    passed_over = [*recipe.data.ignore_fields, *split([ignore_fields])]
    from coat.checkpoints.building import frozen_dtype
    from coat.training import features
    from coat.training.progress import bar_for, make_progress

    on_bad_row = recipe.data.on_bad_row
    files = features.audio_of_manifests(recipe.data.manifests(), ignore=passed_over, on_bad_row=on_bad_row)
    job = features.FeatureJob.of(recipe, dtype=frozen_dtype(recipe))
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
            from coat.training.cluster import compute_on_ray

            compute_on_ray(store, job, units, ray, workers=workers, progress=bar_for(bar))
        else:
            features.compute(store, units, progress=bar_for(bar))
    console.print(f"Done. Train with [bold]--set data.cache={job.cache}[/bold]", soft_wrap=True)


def _prepare_corpus(
    console: Console,
    found: Corpus,
    out: Path,
    folder: Path | None,
    limit: int | None,
    seed: int,
    revision: str | None,
) -> None:
    from coat.data.sources.prepare import folder_records, hub_records, prepare_corpus
    from coat.training.progress import bar_for, make_progress

    if folder is None and not found.hub_id:
        raise CoatError(f"{found.name} comes as files: {found.files}.", f"{found.access} Then: --from FOLDER")
    if not found.access.startswith("open"):
        console.print(f"{found.title}. Licence: {found.licence}. {found.access}", soft_wrap=True)
    with make_progress() as bar:
        advance = bar_for(bar)
        made = prepare_corpus(
            found,
            out,
            lambda skip: (
                folder_records(found, folder, skip) if folder else hub_records(found, skip=skip, revision=revision)
            ),
            limit=limit,
            seed=seed,
            progress=lambda done: advance("records", done, limit or 0),
        )
    for line in made.bad[:10]:
        console.print(f"[yellow]left out:[/yellow] {line}", soft_wrap=True, highlight=False)
    if made.bad:
        console.print(f"{len(made.bad)} records have sound that cannot be read.")
    console.print(f"{made.manifest}: {made.rows:,} rows.", soft_wrap=True)


def _recipe(
    source: Path,
    experts: str | None,
    cache: str | None,
    backbone: str | None,
    embeddings: bool | None,
    overrides: Sequence[str],
) -> Recipe:
    """The recipe itself, or one that stands for a manifest and the options."""
    from coat.config.recipe import load_recipe, parse_recipe

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
    """What there is to do, and whether there is room for it."""
    from rich.table import Column, Table

    from coat.training.features import free_bytes

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
