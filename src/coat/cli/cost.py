"""``coat cost``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coat.errors import CoatError

if TYPE_CHECKING:
    from coat.backbones.base import Backbone
    from coat.thinking.model import ThinkingModel

RANDOM = "random:"


def cost(
    model: Annotated[
        str,
        typer.Argument(
            help="A run, export or checkpoint; or a family with random weights, such as random:qwen2_audio (tiny) or "
            "random:qwen2_audio:real (in its published size)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the measurement.")],
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Answers without the block; the same weights if left out.")
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="Tasks or manifests to draw questions from; noise if left out.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="As for coat eval run.")] = None,
    backend: Annotated[str, typer.Option("--backend", help="transformers or vllm.")] = "transformers",
    samples: Annotated[int, typer.Option(min=1, help="Questions a range and seed.")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    cot_tokens: Annotated[int, typer.Option(min=0, help="Tokens that a chain of thought may take besides.")] = 1024,
    longest: Annotated[float, typer.Option(help="Leave out ranges that begin at this many seconds or later.")] = 120.0,
    engine: Annotated[list[str] | None, typer.Option("--engine", help="Option of vllm.LLM, NAME=VALUE.")] = None,
) -> None:
    """Measure latency by the length of audio: baseline, text chain of thought, and the block at strides 1, 2 and 4.

    Batches of one, no prefix cache. Ends in a table, summary.csv, timings.jsonl and cost.html; stopped, it goes on.

    coat cost runs/pitch --tasks my-test.jsonl --out runs/cost
    """
    from coat.cli.options import engine_options, one_of, split
    from coat.cli.quiet import quiet

    one_of("--backend", backend, ("transformers", "vllm"))
    quiet()
    from rich.console import Console
    from rich.table import Table

    from coat.benchmark.inference import (
        RANGES,
        CostSettings,
        arms_of,
        measure,
        noise_questions,
        summarise,
        task_questions,
        work_of,
        write_csv,
    )
    from coat.evaluation.sources import open_tasks
    from coat.reports.cost import row, write_cost_page
    from coat.training.progress import bar_for, make_progress

    out.mkdir(parents=True, exist_ok=True)
    ranges = tuple(each for each in RANGES if each[0] < longest)
    settings = CostSettings(samples, seeds, ranges, max_new_tokens, cot_tokens)
    stopwatch, backbone, reasoning = _opened(model, baseline, backend, out, engine_options(engine or []))
    hears = backbone.audio_spec.max_seconds if backbone.max_clips is None else None
    if tasks:
        questions = task_questions(open_tasks(split(tasks), data, out / "sample"), settings, hears)
    else:
        questions = noise_questions(settings, hears, float("inf") if hears else backbone.audio_spec.max_seconds)
    with make_progress() as bar:
        advance = bar_for(bar)
        lines = measure(
            stopwatch, arms_of(settings, reasoning), questions, settings, out / "timings.jsonl",
            one_arm_at_a_time=backend == "vllm", progress=lambda now, total: advance("answers", now, total),
        )  # fmt: skip
    cells = summarise(lines, settings)
    write_csv(cells, out / "summary.csv")
    short = ("first", "ratio", "decode", "in all", "ratio", "tokens", "prefix")
    table = Table("ms; to baseline", *short, title=f"{model}, {backend}")
    table.columns[0].no_wrap = True
    for place, cell in enumerate(cells):
        span, arm, *numbers = row(cell)
        if not place or cells[place - 1].low != cell.low:
            table.add_section()
            table.add_row(f"[bold]{span}[/bold]")
        table.add_row(f"  {arm}", *(number.split(" ±")[0] for number in numbers))
    console = Console()
    console.print(table)
    work, name = _work(backbone, ranges)
    about = _about(model, baseline, backend, settings, tasks)
    spans = dict.fromkeys((cell.low, cell.high) for cell in cells)
    own = [work_of(backbone, (low + high) / 2) for low, high in spans]
    write_cost_page(out / "cost.html", f"The price of an answer: {model}", cells, own, work, name, about)
    console.print(f"{out / 'cost.html'}, {out / 'summary.csv'}", highlight=False, soft_wrap=True)


def _opened(
    model_path: str, baseline: str | None, backend: str, out: Path, engine: dict[str, Any]
) -> tuple[Any, Backbone, str]:  # fmt: skip
    """The model under test, a backbone that knows its sizes, and the sentence that asks for a chain of thought."""
    from coat.benchmark.latency import LocalStopwatch, VllmStopwatch
    from coat.reasoning import PROMPT, reasoning_prompt

    if backend == "vllm":
        from coat.backbones import load_backbone
        from coat.checkpoints import ExportRef, resolve

        ref = resolve(model_path)
        if not isinstance(ref, ExportRef):
            raise CoatError(f"{model_path} is no export.", "coat export RUN --out DIR makes one.")
        outline = load_backbone(ref.family, ref.path, weights=False)
        return VllmStopwatch(ref.path, out / "strides", **engine), outline, PROMPT
    model = _model(model_path)
    plain = _model(baseline) if baseline else model
    if not baseline and plain.backbone.think_prompt and not model_path.startswith(RANDOM):
        typer.echo("The chain of thought is asked for by a prompt; the family's own mode needs --baseline.", err=True)
    elif baseline and plain.backbone.think_prompt:
        plain.backbone.load_think_mode(baseline)
    return LocalStopwatch(model, plain), model.backbone, reasoning_prompt(plain.backbone)


def _model(model_path: str) -> ThinkingModel:
    import torch

    from coat.checkpoints import load_model
    from coat.checkpoints.devices import default_device
    from coat.testing.checkpoints import REAL_SIZES, random_backbone
    from coat.thinking.model import ThinkingModel

    if not model_path.startswith(RANDOM):
        model = load_model(model_path)
        model.merge_adapter()
        return model
    family, _, size = model_path.removeprefix(RANDOM).partition(":")
    if size not in ("", "real"):
        raise CoatError(f"{model_path}: random weights come tiny, or ':real'.", f"{RANDOM}{family}:real")
    if not size:
        return ThinkingModel(random_backbone(family)).eval()
    real = random_backbone(family, sizes=REAL_SIZES[family], dtype=torch.bfloat16, device=default_device())
    return ThinkingModel(real).eval()


def _work(backbone: Backbone, ranges: Any) -> tuple[list[Any], str]:
    """FLOPs and cache of the family's published checkpoint, whichever checkpoint was measured."""
    from coat.benchmark.inference import work_of
    from coat.testing.checkpoints import REAL_SIZES, random_backbone

    real = random_backbone(backbone.family, sizes=REAL_SIZES[backbone.family], device="meta")
    longest = float("inf") if real.max_clips is None else real.audio_spec.max_seconds
    lengths = [high for _, high in ranges if high <= longest]
    return [work_of(real, length) for length in lengths], f"{backbone.hub_id}, bf16, a question of 40 tokens"


def _about(model: str, baseline: str | None, backend: str, settings: Any, tasks: Any) -> str:
    import platform
    from importlib.metadata import version

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return (
        f"model {model}; baseline {baseline or 'the same weights, without the block'}; {backend}; {device}\n"
        f"questions {', '.join(tasks) if tasks else 'about noise'}; {settings}\n"
        f"coat-audio {version('coat-audio')}, torch {torch.__version__}, transformers {version('transformers')}, "
        f"Python {platform.python_version()}"
    )
