"""``coat data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coat.cli.options import IgnoreFields, split
from coat.errors import CoatError

if TYPE_CHECKING:
    from rich.table import Table

    from coat.data.mixture import Plan

SHOWN_OVERLAPS = 20

data = typer.Typer(help="Look after data sets.", no_args_is_help=True)


@data.callback()
def verbs() -> None:
    """Import, check and compare data sets, and compute features ahead."""


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
    """Check a data set: lists every problem in a table and a page, and exits with 1 if there is one.

    coat data check train.jsonl --backbone qwen2_audio
    """
    from rich.console import Console
    from rich.table import Table

    from coat.cli.quiet import quiet

    quiet()
    from coat.data.checks import ERROR, KINDS, check_manifest
    from coat.reports.data import write_data_page
    from coat.training.progress import bar_for, make_progress

    limit, takes = None, None
    if backbone:
        from coat.backbones import load_backbone
        from coat.thinking.prompt import PromptBuilder
        from coat.thinking.tokens import add_think_tokens
        from coat.training.dataset import fits

        family, _, path = backbone.partition(":")
        outline = load_backbone(family, path or None, weights=False)
        limit = outline.audio_spec.max_seconds
        takes = fits(PromptBuilder(outline, add_think_tokens(outline.tokenizer)), max_tokens)
    with make_progress() as bar:
        found = check_manifest(
            manifest, max_seconds=limit, fits=takes, audio=audio, ignore=split([ignore_fields]), workers=workers,
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
    """Find clips that training and evaluation data share, by acoustic fingerprint; leave their rows out on request.

    coat data overlap train.jsonl test.jsonl
    """
    from rich.console import Console
    from rich.table import Table

    from coat.cli.quiet import quiet
    from coat.files import write_whole

    quiet()
    from coat.data.contamination import find_overlaps
    from coat.data.index import open_manifest
    from coat.features.store import audio_of_manifests
    from coat.training.progress import bar_for, make_progress

    if out and out.resolve().parent != manifest.resolve().parent:
        raise CoatError(
            "Paths in a manifest start at its folder.", f"Write it there: --out {manifest.parent / out.name}"
        )
    ignore = split([ignore_fields])
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
    """Show what each stage draws of every source: pool, share, samples, epochs (Table C).

    coat data plan recipes/qwen2-audio.yaml
    """
    import json

    from rich.console import Console

    from coat.cli.quiet import quiet
    from coat.config.reading import load_recipe
    from coat.files import write_whole

    resolved = load_recipe(recipe, overrides or []).seeded()
    if resolved.data.mixture is None:
        raise CoatError("The recipe has no data.mixture.", "docs/data.md shows one.")
    quiet()
    from coat.backbones import load_backbone
    from coat.training.corpus import open_corpus
    from coat.training.progress import bar_for, make_progress

    outline = load_backbone(resolved.backbone.family, resolved.backbone.path, weights=False)
    with make_progress() as bar:
        corpus = open_corpus(resolved.data, outline.audio_spec.max_seconds, progress=bar_for(bar))
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


@data.command("sources")
def sources() -> None:
    """List the corpora that can be imported, with their licences and where to get them.

    coat data sources
    """
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
