"""``coat eval``: asking, scoring and judging; what compares and what lists are in files of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from coat.cli.options import Data, IgnoreFields, Protocol, Tasks, engine_options, one_of, split
from coat.errors import CoatError

if TYPE_CHECKING:
    from coat.evaluation.backends.base import Backend
    from coat.evaluation.run import Done
    from coat.evaluation.scoring import TaskScore

Run = Annotated[Path, typer.Argument(help="An evaluation's folder.")]
evaluate = typer.Typer(help="Ask a model, score its answers, compare runs.", no_args_is_help=True)


@evaluate.command("run")
def run(
    model: Annotated[str, typer.Argument(help="A run, export, checkpoint, hub id, address, or 'miniature'.")],
    tasks: Tasks = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the evaluation.")] = None,
    backend: Annotated[str, typer.Option("--backend", help="transformers, vllm or openai.")] = "transformers",
    think: Annotated[
        str,
        typer.Option("--think", help="on; off: leave the block out; or a number: audio tokens for each think token."),
    ] = "on",
    text_cot: Annotated[
        str, typer.Option("--text-cot", help="Think in text first: off, auto, prompt, or own (the family's mode).")
    ] = "off",
    audio: Annotated[str, typer.Option("--audio", help="real, silence or shuffled: what does it answer by?")] = "real",
    choice_orders: Annotated[int, typer.Option("--choice-orders", min=1, help="Rotations of options.")] = 1,
    profile: Annotated[str, typer.Option("--profile", help="Ask by the prompts of this family of models.")] = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Items a task, evenly chosen.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Questions at a time (transformers).")] = 32,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer to a manifest's question, in tokens.")
    ] = 256,
    served: Annotated[str | None, typer.Option("--model", help="Name of the model at an address.")] = None,
    weights: Annotated[str, typer.Option(help="What stands behind an address: answers are kept by it.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Questions at once, to an address.")] = 8,
    hears: Annotated[
        float | None, typer.Option(help="Seconds that a model behind an address takes in one clip.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option("--engine", help="Option of vllm.LLM, NAME=VALUE. Repeatable.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes, a GPU each or their share of the cores.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", help="Address of a Ray cluster, or 'local': a worker a GPU, or a machine.")
    ] = None,
    ignore_fields: IgnoreFields = "",
    protocol: Protocol = "strict",
) -> None:
    """Evaluate a model on tasks.

    Stopped and started again, it goes on where it was; questions that failed are asked again.

    coat eval run miniature --tasks all --data sample
    """
    if not tasks:
        raise CoatError("Missing option: --tasks.", "coat eval list shows tasks; or --tasks my-test.jsonl")
    one_of("--backend", backend, ("transformers", "vllm", "openai"))
    stride = int(think) if think.isdecimal() else None
    if not stride:
        one_of("--think", think, ("on", "off"))
    one_of("--text-cot", text_cot, ("off", "auto", "prompt", "own"))
    from coat.cli.quiet import quiet

    quiet()
    from coat.evaluation.backends.opening import BackendOptions, open_backend
    from coat.evaluation.backends.workers import open_workers
    from coat.evaluation.run import EvalSettings, audio_mode, run_tasks
    from coat.evaluation.sources import open_tasks
    from coat.training.progress import bar_for, make_progress

    folder = out or Path("runs") / "eval" / _name(model, think, text_cot, audio)
    options = BackendOptions(
        backend=backend,  # type: ignore[arg-type]
        think=think != "off",
        stride=stride,
        text_cot=text_cot,  # type: ignore[arg-type]
        profile=profile,
        batch_size=batch_size,
        model=served,
        key=os.environ.get("OPENAI_API_KEY", "none"),
        weights=weights,
        concurrency=concurrency,
        hears=hears,
        engine=engine_options(engine or []),
    )
    ignore = split([ignore_fields])
    opened = open_tasks(split(tasks), data, folder / "sample", max_new_tokens=max_new_tokens, ignore=ignore)
    with ExitStack() as stack:
        if ray is not None or (workers or 1) > 1:
            several = stack.enter_context(open_workers(model, options, count=workers, ray=ray))
            opened_backend, reasoning = cast("Backend", several), several.reasoning
        else:
            opened_backend, reasoning = open_backend(model, options)
        settings = EvalSettings(choice_orders, audio_mode(audio), reasoning, profile=profile, limit=limit)
        bar = stack.enter_context(make_progress())
        done = run_tasks(opened_backend, opened, folder, settings, progress=bar_for(bar))
    _tell(done)
    score(folder, protocol)
    if done.errors or done.bad:
        raise typer.Exit(1)


@evaluate.command("score")
def score(folder: Run, protocol: Protocol = "strict") -> None:
    """Score an evaluation again, by another protocol perhaps: no model is needed.

    coat eval score runs/eval/pitch
    """
    from rich.console import Console

    from coat.evaluation.results import score_run
    from coat.evaluation.scoring import check_protocol

    scores = score_run(folder, check_protocol(protocol))
    console = Console()
    console.print(_table(scores, f"{folder}, protocol {protocol}"))
    for each in scores:
        if each.missing:
            console.print(f"[red]{each.title}: {each.missing} without an answer; coat eval run goes on.[/red]")
        if each.unjudged:
            console.print(f"{each.title}: {each.unjudged} wait for a judge: coat eval judge {folder}", markup=False)


@evaluate.command("judge")
def judge(
    folder: Run,
    model: Annotated[str | None, typer.Option("--judge", help="The judge; the paper's if left out.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Base address of an OpenAI-compatible endpoint.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count calls and tokens; ask for nothing.")] = False,
    max_calls: Annotated[int | None, typer.Option(min=1, help="At most so many calls.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Verdicts at once.")] = 8,
    plain: Annotated[
        bool, typer.Option("--plain", help="Say no temperature and no limit: for models that refuse.")
    ] = False,
    protocol: Protocol = "strict",
) -> None:
    """Rate open answers with a judge model; its API key is read from OPENAI_API_KEY.

    Verdicts are kept: what was rated once is not paid for again.

    coat eval judge runs/eval/pitch
    """
    from coat.evaluation.judge import JUDGE, URL, JudgeSettings, judge_run
    from coat.training.progress import bar_for, make_progress

    key = os.environ.get("OPENAI_API_KEY", "")
    settings = JudgeSettings(model or JUDGE, url or URL, key, concurrency=concurrency, max_calls=max_calls)
    if plain:
        settings = replace(settings, temperature=None, max_tokens=None)
    with make_progress() as bar:
        advance = bar_for(bar)
        found = judge_run(
            folder, settings, dry_run=dry_run, progress=lambda now, total: advance("verdicts", now, total)
        )
    told = f"{found.wanted} answers to rate, {found.known} rated before"
    if dry_run:
        typer.echo(f"{told}; {found.calls} calls, about {found.tokens:,} tokens of prompts, to {settings.model}.")
        return
    typer.echo(f"{told}, {found.rated} now by {settings.model}, in {found.calls} calls.")
    for name, why in list(found.failed.items())[:10]:
        typer.echo(f"  failed: {name}: {why}", err=True)
    if found.left:
        typer.echo(f"{found.left} are left: the budget of {max_calls} calls is spent.", err=True)
    score(folder, protocol)
    if found.failed or found.left:
        raise typer.Exit(1)


def _table(scores: Sequence[TaskScore], title: str) -> Any:
    from rich.table import Table

    table = Table("task", "score [95 %]", "items", "notes", title=title)
    for each in scores:
        counts = {"unread": each.unread, "cut": each.cut, **each.left_out}
        notes = [f"{count} {why}" for why, count in counts.items() if count]
        if each.orders:
            agree, right = (f"{100 * each.orders[name]:.1f}" for name in ("consistency", "correctness"))
            notes.append(f"over {each.orders['orders']:.0f} orders {agree} consistent, {right} right")
        for place, metric in enumerate(each.scores):
            shown = rf"{100 * metric.value:.1f} \[{100 * metric.low:.1f}, {100 * metric.high:.1f}]"
            table.add_row(
                f"{each.title}, {metric.metric}" if place == 0 else f"  {metric.metric}",
                shown if metric.items else "none yet",
                str(metric.items) if place == 0 else "",
                "; ".join(notes) if place == 0 else "",
            )
    return table


def _tell(done: Done) -> None:
    typer.echo(f"{done.asked:,} questions, {done.answered:,} answered now: {done.folder}")
    for why, count in done.skipped.items():
        typer.echo(f"  {count} left out: {why}")
    for title, problems in (("failed", done.errors), ("cannot be asked", done.bad)):
        for name, why in list(problems.items())[:10]:
            typer.echo(f"  {title}: {name}: {why}", err=True)
        if len(problems) > 10:
            typer.echo(f"  and {len(problems) - 10} more", err=True)


def _name(model: str, think: str, text_cot: str, audio: str) -> str:
    """Default name of an evaluation."""
    name = model.rstrip("/").split("://")[-1].removesuffix("/v1").replace("/", "-").replace(":", "-").strip(".-")
    block = {"on": [], "off": ["no-block"]}.get(think, [f"stride-{think}"])
    parts = [name, *block] + [f"cot-{text_cot}"] * (text_cot != "off")
    return "-".join(parts + [audio] * (audio != "real"))
