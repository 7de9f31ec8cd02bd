"""``coat experts``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coat.errors import CoatError

if TYPE_CHECKING:
    from coat.experts.base import Expert

Name = Annotated[str, typer.Argument(help="As `coat experts list` shows it.")]
Weights = Annotated[
    str | None, typer.Option(help="A file, URL or owner/name; the official ones if left out; random to try without.")
]

experts = typer.Typer(help="List experts, check that one works here, look at what one hears.")


@experts.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """List experts, check that one works here, and plot its features of a clip."""
    if context.invoked_subcommand is None:
        list_experts()


@experts.command("list")
def list_experts() -> None:
    """List the registered experts, with the licence of their weights.

    coat experts list
    """
    from rich.console import Console
    from rich.table import Column, Table

    from coat.experts import expert_class, expert_names

    table = Table(Column("expert", no_wrap=True), "hears", "licence of the weights", "what it is")
    for name in expert_names():
        cls = expert_class(name)
        source = f"{cls.sampling_rate / 1000:g} kHz audio" if cls.needs_waveform else "the backbone's embeddings"
        licence = cls.licence if cls.commercial else f"[yellow]{cls.licence}[/yellow]"
        table.add_row(name, source, licence, (cls.__doc__ or "").strip().splitlines()[0])
    Console().print(table)


@experts.command("check")
def check(name: Name, weights: Weights = None) -> None:
    """Load an expert's weights and run it on two seconds and on forty.

    coat experts check basic_pitch
    """
    expert = _load(name, weights)
    from rich.console import Console
    from rich.table import Table

    from coat.reports.experts import check_expert

    found = check_expert(expert)
    table = Table(title=name, show_header=False)
    table.add_row("parameters", f"{found.parameters / 1e6:.1f} million")
    table.add_row("features", f"{found.size} numbers, {expert.frame_rate:g} times a second")
    table.add_row("in a batch as alone", f"within {found.batch_difference:.1e}")
    table.add_row("speed here", f"{found.times_real_time:.0f} times real time")
    table.add_row("licence of the weights", expert.licence)
    if expert.reference:
        table.add_row("paper", expert.reference)
    Console().print(table)


@experts.command("show")
def show(
    name: Name,
    clip: Annotated[Path, typer.Argument(help="What to hear.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The picture; NAME.png beside the clip if left out.")
    ] = None,
    weights: Weights = None,
) -> None:
    """Plot an expert's features of a clip.

    coat experts show basic_pitch clip.wav
    """
    from coat.audio import load_audio

    sound = load_audio(clip)
    expert = _load(name, weights)
    from coat.reports.experts import show_expert

    typer.echo(str(show_expert(expert, sound, out or clip.with_name(f"{clip.stem}-{name}.png"))))


@experts.command("decoder")
def decoder(
    manifest: Annotated[Path, typer.Argument(help="Whose clips to learn from (JSON Lines).")],
    backbone: Annotated[str, typer.Option("--backbone", help="FAMILY or FAMILY:PATH.")],
    out: Annotated[Path, typer.Option("--out", help="The decoder's file.")] = Path("decoder.safetensors"),
    clips: Annotated[int, typer.Option("--clips", min=2, help="At most so many clips, drawn by the seed.")] = 500,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training.")] = 1500,
    seed: Annotated[int, typer.Option("--seed", help="Seed of clips and weights.")] = 0,
) -> None:
    """Fit a decoder from audio embeddings to spectrograms, to show what audio_reconstruction keeps.

    coat experts decoder train.jsonl --backbone qwen2_audio
    """
    import random

    from coat.cli.quiet import quiet
    from coat.data.manifest import read_manifest

    quiet()
    rows = read_manifest(manifest)
    from coat.backbones import load_backbone
    from coat.features.store import audio_of
    from coat.training.decoder import fit_decoder
    from coat.training.progress import bar_for, make_progress

    files = audio_of(rows)
    chosen = random.Random(seed).sample(files, min(clips, len(files)))
    family, _, path = backbone.partition(":")
    model = load_backbone(family, path or None)
    heard = [ref.load(model.audio_spec.max_seconds) for ref in chosen]
    with make_progress() as bar:
        advance = bar_for(bar)
        fitted = fit_decoder(model, heard, steps=steps, seed=seed, progress=lambda: advance("decoder", 1, steps))
    fitted.decoder.save(out)
    typer.echo(f"{out}: explains {fitted.explained:.0%} of the spectrograms of {fitted.clips} held-out clips.")
    typer.echo(f"See with it: --set experts.audio_reconstruction.decoder={out}")


def _load(name: str, weights: str | None) -> Expert:
    from coat.cli.quiet import quiet

    quiet()
    from coat.audio import AudioSpec
    from coat.experts import expert_class, make_expert

    if not expert_class(name).needs_waveform:
        raise CoatError(f"{name} reads the backbone's embeddings, and cannot be run alone.", "Choose another expert.")
    options = {"weights": weights} if weights else {}
    return make_expert(name, options, hidden_size=1, audio_spec=AudioSpec(16_000, 25.0, 0.01, 30.0))
