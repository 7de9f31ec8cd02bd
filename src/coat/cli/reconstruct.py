"""``coat reconstruct``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from coat.errors import CoatError


def reconstruct(
    run: Annotated[Path, typer.Argument(help="A finished run, whose heads are kept with it.")],
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("reconstructions.html"),
    audio: Annotated[list[Path] | None, typer.Option("--audio", help="A clip to draw. Repeatable.")] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="Rows over whose clips every head is measured.")
    ] = None,
    clips: Annotated[int, typer.Option("--clips", min=1, help="At most so many of them, evenly spaced.")] = 200,
    question: Annotated[str, typer.Option(help="Asked before the block.")] = "Describe the audio.",
    decoder: Annotated[
        Path | None, typer.Option("--decoder", help="Draws audio embeddings as spectrograms: coat experts decoder.")
    ] = None,
) -> None:
    """Plot each head's prediction beside its expert's features, and score heads over many clips (Fig. 4).

    coat reconstruct runs/pitch --audio clip.wav --manifest my-test.jsonl
    """
    if not audio and manifest is None:
        raise CoatError("Missing option: --audio or --manifest.", "--audio clip.wav, or --manifest rows.jsonl")
    from coat.cli.quiet import quiet

    quiet()
    from rich.console import Console
    from rich.table import Table as RichTable

    from coat.audio import load_audio
    from coat.checkpoints import load_model
    from coat.checkpoints.building import build_experts
    from coat.checkpoints.references import run_in
    from coat.data.conversation import Conversation
    from coat.probing.reconstructions import reconstruct as draw
    from coat.reports.page import Section, write_report
    from coat.reports.plots import plot_reconstructions

    ref = run_in(run)
    model, recipe = load_model(ref, heads=True), ref.recipe
    if not model.heads:
        raise CoatError(f"{run} was trained without experts: it has no heads.", "Train with experts in a stage.")
    options = dict(recipe.experts)
    if decoder is not None:
        options["audio_reconstruction"] = {**options.get("audio_reconstruction", {}), "decoder": str(decoder)}
    experts = build_experts(recipe.model_copy(update={"experts": options}), model)
    limit, sections, console = model.backbone.audio_spec.max_seconds, [], Console()

    def ask(path: Path) -> Conversation:
        clip = load_audio(path, max_seconds=limit)
        return Conversation([{"role": "user", "content": f"<audio>{question}"}], [clip], path.name)

    for path in audio or []:
        figure = plot_reconstructions(draw(model, experts, ask(path)))
        sections.append(Section(path.name, figures=[(figure, "Left: what the expert heard. Right: the think states.")]))
    if manifest is not None:
        scores = _measure(model, experts, manifest, clips, ask)
        table = RichTable(*scores.head, title=f"{run} over {manifest}")
        for row in scores.rows:
            table.add_row(*(cell.replace("[", r"\[") for cell in row))
        console.print(table)
        text = "Cosine and R2 are against the mean feature of these clips: a head that always says the mean has 0."
        sections.append(Section(f"Over {manifest.name}", text, scores))
    write_report(out, f"What the think states kept: {run.name}", "Each head against its expert.", sections)
    console.print(str(out), highlight=False, soft_wrap=True)


def _measure(model: Any, experts: Any, manifest: Path, clips: int, ask: Any) -> Any:
    import numpy as np

    from coat.data.manifest import read_manifest
    from coat.probing.head_scores import score_heads
    from coat.reports.page import Table
    from coat.training.progress import bar_for, make_progress

    paths = list(dict.fromkeys(row.audios[0].path for row in read_manifest(manifest) if len(row.audios) == 1))
    chosen = [paths[int(i)] for i in np.linspace(0, len(paths) - 1, min(clips, len(paths))).round()]
    with make_progress() as bar:
        advance = bar_for(bar)
        loads = [partial(ask, path) for path in chosen]
        found = score_heads(model, experts, loads, progress=lambda now: advance("clips", now, len(chosen)))
    rows = []
    for each in found:
        own = [f"{name} {_around(score)}" for name, score in each.own.items()]
        name = each.expert.replace("_", " ")
        rows.append([name, _around(each.cosine), f"{each.explained:.3f}", "; ".join(own), str(each.clips)])
    return Table(["head", "cosine", "R2", "in its own terms", "clips"], rows)


def _around(score: Any) -> str:
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
