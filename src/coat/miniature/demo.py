"""The demo: the comparison on the small world, its table in the terminal and its report as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from coat.analysis.report import Section, Table, write_report
from coat.evaluation.statistics import Score
from coat.files import read_jsonl
from coat.miniature.arms import ARMS, SCARCE_TASKS, Settings, arm_recipe
from coat.miniature.comparison import World, compare, fit_eye, load_arm

TITLES = {name: arm.title for name, arm in ARMS.items()}
# What the report leads with; the other tasks follow in the table.
LEADING_TASKS = ("pitch_class", "mood", "instrument", "event", "choice", "transcription")
SHOWN_CLIPS = {"music": "a held-out instrument", "speech": "a held-out voice", "event": "a sound event"}


def run_demo(
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    settings: Settings | None = None,
    shipped: bool = True,
    console: Console | None = None,
) -> Path:
    """Run everything that is still missing, print the table, write the report.

    Args:
        folder: Where everything goes.
        seeds: Seeds of training; corpus and backbone are the same for all.
        settings: The settings of the comparison.
        shipped: Start from the shipped pre-trained backbone rather than pre-train one.
        console: Where to print.

    Returns:
        The report's path.
    """
    folder, settings, console = Path(folder), settings or Settings(), console or Console()
    say = lambda line: console.print(line, highlight=False, soft_wrap=True)  # noqa: E731
    results = compare(folder, settings, seeds=seeds, shipped=shipped, say=say)
    console.print(_terminal_table(results))
    console.print("Drawing the report")
    report = write_demo_report(folder, settings, results)
    say(f"Report: [bold]{report}[/bold]")
    run = World(folder).run("coat", seeds[0])
    facts = read_jsonl(folder / "corpus" / "clips.jsonl")
    note = next(fact for fact in facts if fact["split"] == "test" and "pitch_class" in fact)
    clip = folder / "corpus" / note["audio"]
    say(f'Ask it (a {note["pitch_class"]}):  coat chat {run} --audio {clip} "What note is this?"')
    return report


def write_demo_report(folder: Path, settings: Settings, results: Mapping[str, Any]) -> Path:
    """Draw every figure from what the runs left, and write ``report.html``."""
    from coat.analysis import plots

    world, first = World(folder), results["seeds"][0]
    scores = _scores(results, first)
    tasks = [task for task in LEADING_TASKS if task in scores["baseline"]]
    trained = [name for name, arm in ARMS.items() if arm.trained]
    losses = {name: read_jsonl(world.run(name, first) / "metrics.jsonl") for name in trained}
    probes = {name: by_seed[first] for name, by_seed in results["probes"].items() if by_seed}
    sections = [
        Section(
            "Scores on held-out clips",
            "Voices, instrument programs, event styles and sentences of these clips are in no training clip. "
            "Brackets are 95 % bootstrap intervals over questions"
            + (
                f"; values are means over {len(results['seeds'])} seeds with their standard deviation."
                if len(results["seeds"]) > 1
                else "; one seed, so differences within the brackets mean nothing."
            ),
            table=_score_table(results),
            figures=[(plots.plot_scores(scores, TITLES, tasks), f"Seed {first}; bars end at the 95 % interval.")],
        ),
        Section(
            "Losses",
            "Cross-entropy of every arm, and each expert's own loss before its weight, over both stages.",
            figures=[(plots.plot_losses(losses, TITLES), "A line a logging interval; the stages follow each other.")],
        ),
        Section(
            "What the think states kept",
            "Left, what a frozen expert heard in a held-out clip; right, what its head reads in the think states.",
            figures=_reconstruction_figures(world, first),
        ),
        Section(
            "Linear probes",
            "Accuracy of linear probes on the mean audio embedding (what the tower gives), in the mean think state, "
            "and in the last state before the answer; fitted on training clips, scored on held-out ones.",
            figures=[(plots.plot_probes(probes, TITLES), f"Seed {first}; 95 % bootstrap intervals.")],
        ),
        Section("Settings", _settings_text(settings, results), code=_recipe_text(world, settings, first)),
    ]
    path = folder / "report.html"
    write_report(path, "Continuous Audio Thinking on the small world", _lead(results), sections)
    return path


def _scores(results: Mapping[str, Any], seed: int) -> dict[str, dict[str, Score]]:
    return {
        arm: {task: Score(**score) for task, score in by_seed[seed].items()}
        for arm, by_seed in results["scores"].items()
    }


def _values(results: Mapping[str, Any], arm: str, task: str) -> np.ndarray:
    return np.array([results["scores"][arm][seed][task]["value"] for seed in results["seeds"]])


def _ordered_tasks(results: Mapping[str, Any]) -> list[str]:
    known = list(results["scores"]["baseline"][results["seeds"][0]])
    return [task for task in LEADING_TASKS if task in known] + [task for task in known if task not in LEADING_TASKS]


def _cell(results: Mapping[str, Any], arm: str, task: str) -> str:
    values = _values(results, arm, task)
    if len(values) > 1:
        return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
    score = Score(**results["scores"][arm][results["seeds"][0]][task])
    return f"{score.value:.3f} [{score.low:.2f}, {score.high:.2f}]"


def _best(results: Mapping[str, Any], task: str) -> list[str]:
    """The arms with the best mean; none where all are equal."""
    arms = list(results["scores"])
    score = Score(**results["scores"][arms[0]][results["seeds"][0]][task])
    means = np.array([_values(results, arm, task).mean() for arm in arms])
    winning = means == (means.max() if score.higher_is_better else means.min())
    return [] if winning.all() else [arm for arm, wins in zip(arms, winning, strict=True) if wins]


def _score_table(results: Mapping[str, Any]) -> Table:
    arms, rows, best = list(results["scores"]), [], set()
    for index, task in enumerate(_ordered_tasks(results)):
        score = Score(**results["scores"][arms[0]][results["seeds"][0]][task])
        few = " (few labels)" if task in SCARCE_TASKS else ""
        metric = {"wer": "WER"}.get(score.metric, score.metric)
        name = f"{task.replace('_', ' ')}, {metric}{few}, n = {score.items}"
        rows.append([name, *(_cell(results, arm, task) for arm in arms)])
        best |= {(index, 1 + arms.index(arm)) for arm in _best(results, task)}
    return Table(["task", *(TITLES[arm] for arm in arms)], rows, best)


def _terminal_table(results: Mapping[str, Any]) -> RichTable:
    """The same numbers, for eighty columns: two digits, and one spread beside each."""
    several = len(results["seeds"]) > 1
    spread = "standard deviation over seeds" if several else "half the 95 % interval"
    shown = RichTable(
        "task",
        *(TITLES[arm] for arm in results["scores"]),
        title="Held-out scores",
        caption=f"± {spread}; * few labels",
    )
    for task in _ordered_tasks(results):
        best = _best(results, task)
        first = Score(**results["scores"][next(iter(results["scores"]))][results["seeds"][0]][task])
        name = task.replace("_", " ") + (" WER" if first.metric == "wer" else "")
        name += " *" if task in SCARCE_TASKS else ""
        cells = []
        for arm in results["scores"]:
            values = _values(results, arm, task)
            score = Score(**results["scores"][arm][results["seeds"][0]][task])
            around = values.std(ddof=1) if several else (score.high - score.low) / 2
            cell = f"{values.mean():.2f} ±{around:.2f}"
            cells.append(f"[green]{cell}[/green]" if arm in best else cell)
        shown.add_row(name, *cells)
    return shown


def _lead(results: Mapping[str, Any]) -> str:
    def change(task: str) -> str:
        alone, thinking = (_values(results, arm, task).mean() for arm in ("sft", "coat"))
        return f"{task.replace('_', ' ')} {alone:.2f} with fine-tuning alone, {thinking:.2f} with CoAT"

    seeds = results["seeds"]
    over = f"Means over {len(seeds)} seeds" if len(seeds) > 1 else f"Seed {seeds[0]}"
    return (
        "A tiny Qwen2-Audio is trained four ways on the same synthesised clips, with the same data, steps and seed. "
        "Notes and moods are labelled on a few clips only; experts hear every clip. "
        f"{over}: {'; '.join(change(task) for task in SCARCE_TASKS)}."
    )


def _settings_text(settings: Settings, results: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in asdict(settings).items() if key != "size")
    clips = f"{settings.size.train} training, {settings.size.dev} development and {settings.size.test} test clips"
    return f"{clips}; {facts}; seeds {', '.join(map(str, results['seeds']))}. The resolved recipe of the CoAT arm:"


def _recipe_text(world: World, settings: Settings, seed: int) -> str:
    recipe = arm_recipe(
        ARMS["coat"], settings, backbone=world.backbone, manifest=world.manifest(seed), cache=world.cache, seed=seed
    )
    run = json.loads((world.run("coat", seed) / "run.json").read_text())
    weights = "\n".join(f"#   {name}: {weight:.4g}" for name, weight in run["calibrated_weights"].items())
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return f"{recipe.dump()}# calibrated weights\n{weights}\n# {versions}"


def _reconstruction_figures(world: World, seed: int) -> list[tuple[str, str]]:
    from coat.analysis import plots
    from coat.analysis.reconstructions import reconstruct
    from coat.audio import load_audio
    from coat.checkpoints.building import build_experts
    from coat.checkpoints.references import run_in
    from coat.data.conversation import Conversation

    model = load_arm(world, "coat", seed, heads=True)
    recipe = run_in(world.run("coat", seed)).recipe
    seen = recipe.experts | {"audio_reconstruction": {"decoder": str(fit_eye(world))}}
    experts = build_experts(recipe.model_copy(update={"experts": seen}), model)
    facts = [fact for fact in read_jsonl(world.corpus / "clips.jsonl") if fact["split"] == "test"]
    figures = []
    for kind, what in SHOWN_CLIPS.items():
        fact = next(fact for fact in facts if fact["kind"] == kind and "chord" not in fact)
        messages = [{"role": "user", "content": "<audio>Describe the audio."}]
        conversation = Conversation(messages, [load_audio(world.corpus / fact["audio"])], fact["id"])
        truth = ", ".join(
            f"{key} {fact[key]}" for key in ("text", "mood", "family", "pitch_class", "event") if key in fact
        )
        figures.append((plots.plot_reconstructions(reconstruct(model, experts, conversation)), f"{what}: {truth}"))
    return figures
