"""``coat probe``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from coat.errors import CoatError


def probe(
    models: Annotated[list[str], typer.Argument(help="Runs, exports or checkpoints; NAME=PLACE names one in tables.")],
    labels: Annotated[Path, typer.Option("--labels", help="JSON Lines: audio, labels, groups, split.")],
    targets: Annotated[
        str, typer.Option("--targets", help="FIELD, FIELD:GROUP or FIELD:GROUP:TASK, with commas between.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the probes.")],
    tasks: Annotated[
        Path | None, typer.Option("--tasks", help="Manifest whose TASKs are asked, for confidence against success.")
    ] = None,
    clips: Annotated[int, typer.Option("--clips", min=10, help="At most so many a side.")] = 600,
    training: Annotated[bool, typer.Option("--over-training", help="Also at every checkpoint that runs keep.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
) -> None:
    """Fit linear probes on think states, on the state before the answer, and on audio embeddings.

    Controls: the same probe on shuffled labels, and the share of the commonest label. Groups are never on both sides.

    coat probe base=runs/demo/backbone runs/demo/runs/coat-seed0 --labels runs/demo/corpus/clips.jsonl
    --targets mood:voice:mood,pitch_class:program:pitch_class --tasks runs/demo/corpus/test.jsonl --out runs/probes
    """
    from coat.cli.quiet import quiet

    quiet()
    from rich.console import Console
    from rich.table import Table

    from coat.checkpoints import load_model
    from coat.files import write_jsonl, write_whole
    from coat.probing.models import Target, over_training, plain_lines, read_clips, read_model, successes
    from coat.reports.probes import write_probe_page
    from coat.training.progress import bar_for, make_progress

    named = _named(models)
    chosen = [_target(text, Target) for text in targets.split(",") if text]
    sides = [read_clips(labels, target, limit=clips) for target in chosen]
    out.mkdir(parents=True, exist_ok=True)
    table = Table("model", "target", "states", "accuracy", "shuffled", "chance", "rho (p)")
    found: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    with make_progress() as bar:
        advance = bar_for(bar)
        advance("models and targets", 0, len(models) * len(chosen))
        for name, model_path in named.items():
            model = load_model(model_path)
            answers = out / f"{name}-answers"
            if tasks:
                _ask(model, model_path, tasks, [target.task for target in chosen], answers, max_new_tokens)
            readings = []
            for target, each in zip(chosen, sides, strict=True):
                right = successes(answers, target.task, each.paths[1]) if tasks and target.task else {}
                readings += read_model(model, each, success=right)
                advance("models and targets", 1, len(models) * len(chosen))
            write_whole(out / f"{name}.jsonl", plain_lines(readings))
            found[name] = readings
            if training and (Path(model_path) / "stages").is_dir():
                curves[name] = over_training(Path(model_path), sides, progress=partial(advance, f"{name}: checkpoints"))
                write_jsonl(out / f"{name}-over-training.jsonl", curves[name])
    chance = {each.target.name: each.chance for each in sides}
    for name, readings in found.items():
        for reading in readings:
            score, shuffled = reading.score, reading.shuffled
            table.add_row(
                name, reading.target, reading.where.replace("_", " "),
                rf"{100 * score.value:.1f} \[{100 * score.low:.1f}, {100 * score.high:.1f}]",
                f"{100 * shuffled.value:.1f}", f"{100 * chance[reading.target]:.1f}",
                "" if reading.rho is None else f"{reading.rho:+.2f} ({reading.p:.2g})",
            )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(str(write_probe_page(found, curves, chance, out)), highlight=False, soft_wrap=True)


def _target(text: str, kind: Any) -> Any:
    parts = text.split(":")
    if len(parts) > 3:
        raise CoatError(f"--targets {text} has more than three parts.", "FIELD:GROUP:TASK, such as mood:voice:mood")
    return kind(*parts)


def _named(models: Sequence[str]) -> dict[str, str]:
    """Places by the names that files and tables have them under."""
    from coat.files import short_names

    pairs = [text.partition("=")[::2] if "=" in text else ("", text) for text in models]
    places = [place for _, place in pairs]
    short = [name.replace("/", "-") for name in short_names(places)]
    names = [name or other for (name, _), other in zip(pairs, short, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CoatError(f"Two models are named {twice[0]}.", "Name one of them otherwise: NAME=PLACE")
    return dict(zip(names, places, strict=True))


def _ask(model: Any, model_path: str, manifest: Path, tasks: list[str], folder: Path, max_new_tokens: int) -> None:
    """The model's own answers to the targets' tasks."""
    from coat.checkpoints import resolve
    from coat.checkpoints.fingerprint import checkpoint_fingerprint
    from coat.evaluation.backends.transformers import TransformersBackend
    from coat.evaluation.run import run_tasks
    from coat.evaluation.sources import open_manifest_tasks

    opened = [each for each in open_manifest_tasks(manifest, max_new_tokens=max_new_tokens) if each.task.name in tasks]
    key = checkpoint_fingerprint(resolve(model_path))
    run_tasks(TransformersBackend(model, model_path=model_path, fingerprint=key), opened, folder)
