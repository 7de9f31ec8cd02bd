"""``coat data``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coat.errors import CoatError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from coat.config.recipe import Recipe
    from coat.data.mixture import Plan
    from coat.data.sources.base import Corpus
    from coat.training.features import Estimate

SHOWN_OVERLAPS = 20
IgnoreFields = Annotated[
    str, typer.Option("--ignore-fields", help="Fields of rows to pass over, with commas; others are refused by name.")
]

data = typer.Typer(help="Look after data sets.", no_args_is_help=True)


@data.callback()
def verbs() -> None:
    """Look after data sets."""


@data.command("check")
def check(
    manifest: Annotated[Path, typer.Argument(help="A manifest: JSON Lines, a JSON array, or Parquet.")],
    page: Annotated[Path | None, typer.Option("--html", help="The page; MANIFEST.check.html if left out.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", help="FAMILY or FAMILY:PATH: clips and conversations that it does not take are named."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="With --backbone: the longest prompt, as data.max_tokens.")
    ] = None,
    ignore_fields: IgnoreFields = "",
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Decode every clip.")] = True,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that decode.")] = 4,
    strict: Annotated[bool, typer.Option("--strict", help="End with an error at warnings too.")] = False,
) -> None:
    """Find everything that is wrong with a data set: a table, a page, and exit code 1 if there is anything."""
    from rich.console import Console
    from rich.table import Table

    from coat.cli.quiet import quiet

    quiet()
    from coat.analysis.data_page import write_data_page
    from coat.data.checks import ERROR, KINDS, check_manifest
    from coat.training.progress import bar_for, make_progress

    limit, takes = None, None
    if backbone:
        from coat.backbones import load_backbone
        from coat.thinking.prompt import PromptBuilder
        from coat.thinking.tokens import add_think_tokens
        from coat.training.dataset import fits

        family, _, path = backbone.partition(":")
        outline = load_backbone(family, path or None, weights=False)
        limit = outline.hearing.max_seconds
        takes = fits(PromptBuilder(outline, add_think_tokens(outline.tokenizer)), max_tokens)
    with make_progress() as bar:
        found = check_manifest(
            manifest, max_seconds=limit, fits=takes, audio=audio, ignore=names_of(ignore_fields), workers=workers,
            progress=bar_for(bar),
        )  # fmt: skip
    console = Console()
    table = Table("finding", "how many", "for example", title=f"{found.rows:,} rows, {found.clips:,} clips")
    for kind, items in found.by_kind().items():
        colour = "red" if KINDS[kind][0] == ERROR else "yellow"
        table.add_row(f"[{colour}]{kind}[/{colour}]", f"{len(items):,}", f"{items[0].row}: {items[0].text}")
    if found.findings:
        console.print(table)
    else:
        console.print(f"{found.rows:,} rows, {found.clips:,} clips: nothing is wrong.")
    out = page or manifest.with_name(manifest.name + ".check.html")
    write_data_page(found, out)
    console.print(f"Page: {out}", soft_wrap=True)
    raise typer.Exit(1 if found.errors or (strict and found.findings) else 0)


@data.command("overlap")
def overlap(
    manifest: Annotated[Path, typer.Argument(help="What is trained on (JSON Lines).")],
    others: Annotated[list[Path], typer.Argument(help="What is evaluated on.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the rows that share nothing.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that decode.")] = 4,
    ignore_fields: IgnoreFields = "",
) -> None:
    """Find sounds that training and evaluation share, by how they sound; leave their rows out on request."""
    from rich.console import Console
    from rich.table import Table

    from coat.cli.quiet import quiet
    from coat.files import write_whole

    quiet()
    from coat.data.index import open_manifest
    from coat.data.overlap import find_overlaps
    from coat.training.features import audio_of_manifests
    from coat.training.progress import bar_for, make_progress

    if out and out.resolve().parent != manifest.resolve().parent:
        raise CoatError(
            "Paths in a manifest start at its folder.", f"Write it there: --out {manifest.parent / out.name}"
        )
    ignore = names_of(ignore_fields)
    rows = open_manifest(manifest, ignore=ignore)
    with make_progress() as bar:
        found = find_overlaps(
            audio_of_manifests([str(manifest)], ignore=ignore),
            audio_of_manifests(map(str, others), ignore=ignore),
            workers=workers,
            progress=bar_for(bar),
        )
    console = Console()
    table = Table("trained on", "evaluated on", "seconds shared", "bits that differ")
    for item in found[:SHOWN_OVERLAPS]:
        table.add_row(str(item.ref.path), str(item.other.path), f"{item.seconds:.1f}", f"{item.bit_errors:.0%}")
    if found:
        console.print(table)
    shared = {item.ref for item in found}
    held = [index for index, row in enumerate(rows) if shared.intersection(row.audios)]
    console.print(f"{len(held):,} of {len(rows):,} rows share a sound with what is evaluated on.", highlight=False)
    if out:
        left_out = set(held)
        kept = (rows.line(index).decode() + "\n" for index in range(len(rows)) if index not in left_out)
        write_whole(out, "".join(kept))
        console.print(f"{out}: {len(rows) - len(held):,} rows.", soft_wrap=True)


@data.command("plan")
def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML) with a mixture.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field of the recipe.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan as JSON too.")] = None,
) -> None:
    """Show what each stage draws of every source: pool, share, samples, epochs (Table C)."""
    import json

    from rich.console import Console

    from coat.cli.quiet import quiet
    from coat.config.recipe import load_recipe
    from coat.files import write_whole

    resolved = load_recipe(recipe, overrides or [])
    if resolved.data.mixture is None:
        raise CoatError("The recipe has no data.mixture.", "docs/data.md shows one.")
    quiet()
    from coat.backbones import load_backbone
    from coat.training.corpus import open_corpus
    from coat.training.progress import bar_for, make_progress

    outline = load_backbone(resolved.backbone.family, resolved.backbone.path, weights=False)
    with make_progress() as bar:
        corpus = open_corpus(resolved.data, outline.hearing.max_seconds, progress=bar_for(bar))
    console = Console()
    plans = {}
    for stage in resolved.stages:
        made = corpus.plan(resolved.data, stage.steps * resolved.training.batch_size)
        assert made is not None
        plans[stage.name] = made.as_dict()
        console.print(plan_table(made, stage.name))
        if made.samples < made.budget:
            console.print(
                f"[yellow]Caps hold the stage to {made.samples:,} of {made.budget:,} rows[/yellow]: beyond, its "
                "order begins anew. Raise data.mixture.cap, or add sources."
            )
    if corpus.left_out:
        console.print(
            f"{corpus.left_out:,} rows are too long for the backbone or have unusable audio, and are left out."
        )
    if out:
        write_whole(out, json.dumps(plans, indent=1))


@data.command("prepare")
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
    split: Annotated[str, typer.Option("--split", help="For hub:OWNER/NAME: splits, with commas.")] = "train",
    question: Annotated[str, typer.Option("--question", help="For hub:OWNER/NAME: asked where rows ask nothing.")] = "",
    ignore_fields: IgnoreFields = "",
) -> None:
    """Make a corpus's manifest, or compute expert features ahead. Stopped, either goes on where it was."""
    from rich.console import Console

    from coat.cli.quiet import quiet
    from coat.data.sources import REGISTRY, corpus
    from coat.data.sources.anything import PREFIX, Anything

    quiet()
    console = Console()
    if source in REGISTRY or source.startswith(PREFIX):
        ignore = names_of(ignore_fields)
        found = (
            Anything(source, tuple(split.split(",")), question, ignore) if source.startswith(PREFIX) else corpus(source)
        )
        _prepare_corpus(console, found, out, folder, limit, seed, revision)
        return
    recipe = _recipe(Path(source), experts, cache, backbone, embeddings, overrides or [])
    passed_over = [*recipe.data.ignore_fields, *names_of(ignore_fields)]
    from coat.training import features
    from coat.training.progress import bar_for, make_progress
    from coat.training.run import frozen_dtype

    unusable = recipe.data.unusable
    files = features.audio_of_manifests(recipe.data.manifests(), ignore=passed_over, unusable=unusable)
    job = features.FeatureJob.of(recipe, dtype=frozen_dtype(recipe))
    workshop = job.open()
    if verify:
        for path in workshop.remove_damaged():
            console.print(f"[yellow]Damaged, and removed:[/yellow] {path}", soft_wrap=True)
    with make_progress() as bar:
        sounds = workshop.index(files, bar_for(bar), unusable=unusable)
    units = workshop.plan(sounds)
    console.print(f"{len(files)} clips, {len(sounds)} different sounds", highlight=False)
    _show(console, workshop.estimate(units), job.cache)
    if dry_run or not units:
        return
    with make_progress() as bar:
        if ray:
            from coat.training.cluster import compute_on_ray

            compute_on_ray(workshop, job, units, ray, workers=workers, progress=bar_for(bar))
        else:
            features.compute(workshop, units, progress=bar_for(bar))
    console.print(f"Done. Train with [bold]--set data.cache={job.cache}[/bold]", soft_wrap=True)


@data.command("sources")
def sources() -> None:
    """List the corpora that can be prepared, with their licences and how to have them."""
    from rich.console import Console
    from rich.table import Table

    from coat.data.sources import REGISTRY, corpus

    table = Table("name", "group", "what it is", "licence", "how to have it")
    for name in REGISTRY:
        found = corpus(name)
        where = found.hub_id or f"--from a folder with {found.files}"
        terms = "" if found.access == "open" else f" {found.access}"
        table.add_row(name, found.group, found.title, found.licence, f"{where}.{terms}")
    Console().print(table)


def names_of(text: str) -> list[str]:
    """Names that are given with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


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


def plan_table(plan: Plan, name: str) -> Table:
    """Table C of a plan."""
    from rich.table import Table

    table = Table("group", title=f"{name}: {plan.samples:,} rows")
    table.add_column("source", overflow="fold")
    for heading in ("pool", "share", "samples", "epochs", "hours"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, asked in plan.asked.items():
        lines = [line for line in plan.lines if line.group == group]
        for line in lines:
            table.add_row(group, line.source, *_numbers(line.pool, line.share, line.samples, line.hours))
        pool, samples = sum(line.pool for line in lines), sum(line.samples for line in lines)
        share, hours = sum(line.share for line in lines), sum(line.hours for line in lines)
        short = samples < asked * plan.budget - len(plan.asked)
        title = f"[bold]{group}[/bold]" + (f" (asked {asked:.1%})" if short else "")
        table.add_row("", title, *_numbers(pool, share, samples, hours), end_section=True)
    return table


def _numbers(pool: int, share: float, samples: int, hours: float) -> list[str]:
    return [f"{pool:,}", f"{share:.1%}", f"{samples:,}", f"{samples / pool:.2f}", f"{hours:,.0f}"]


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
    names = names_of(experts or "")
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
        "data": {"train": str(source), "cache_embeddings": bool(embeddings)},
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
