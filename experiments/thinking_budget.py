"""How many think tokens does an answer need, and which?

    python -m experiments.thinking_budget --runs runs/ladder --trained runs/arms --out runs/budget

Runs that were trained with a think token for every audio token are asked with fewer: at most so many a clip, which
gives long clips a longer stride. Beside them, runs that were trained with fewer, and runs whose rows drew a stride each
(``thinking.mixed``), asked at every stride.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coat.ablation.arms import FULL, SFT
from coat.ablation.plan import Plan, ask
from coat.ablation.results import Ablation, gather
from coat.checkpoints import load_model
from coat.checkpoints.fingerprint import checkpoint_fingerprint
from coat.checkpoints.references import run_in
from coat.files import read_jsonl, write_whole
from coat.reports.ablation import change_table, score_table
from coat.reports.page import Section, Table, markdown, transposed, write_report
from coat.reports.plots import COLOURS, encode, plt
from coat.training.progress import bar_for, make_progress


@dataclass(frozen=True)
class Way:
    """One way to think with runs of an arm.

    Attributes:
        name: Name of its folder.
        title: Title in tables.
        changes: Fields of the thinking configuration.
        arm: The arm whose runs are asked.
    """

    name: str
    title: str
    changes: Mapping[str, object]
    arm: str = FULL


WAYS = (
    Way("no-block", "no block", {"enabled": False}),
    *(Way(f"most-{n}", f"at most {n}", {"max_tokens": n}) for n in (4, 16, 32)),
)
MIXED = (
    Way("mixed-none", "strides mixed, no block", {"enabled": False, "mixed": None}, "mixed"),
    *(Way(f"mixed-{n}", f"strides mixed, stride {n}", {"stride": n}, "mixed") for n in (4, 2, 1)),
)
SHOWN = ("pitch_class", "mood", "transcription", "instrument")
# Arms of `coat ablate` that were trained with fewer.
TRAINED = {"stride-2": "trained at stride 2", "stride-4": "trained at stride 4"}


def ways_of(trained: Path | None, seeds: range) -> tuple[Way, ...]:
    """The ways to ask in: of mixed strides where such runs are there."""
    there = trained and all((trained / f"{MIXED[0].arm}-seed{seed}").is_dir() for seed in seeds)
    return WAYS + MIXED if there else WAYS


def ask_all(runs: Path, trained: Path | None, out: Path, tasks: list[str], seeds: range, *, limit: int) -> None:
    """Every run, asked in every way; what is done is left as it is."""
    plan, ways = Plan(out, [], seeds, tasks, limit=limit, max_new_tokens=32), ways_of(trained, seeds)
    left = [(seed, way) for seed in seeds for way in ways if not _scores(out, way.name, seed).is_file()]
    with make_progress() as bar:
        advance, total = bar_for(bar), len(ways) * len(seeds)
        advance("ways and seeds", total - len(left), total)
        for seed, arm in sorted({(seed, way.arm) for seed, way in left}):
            folder = (runs if arm == FULL or trained is None else trained) / f"{arm}-seed{seed}"
            model, weights = load_model(folder), checkpoint_fingerprint(run_in(folder))
            for way in (way for at, way in left if (at, way.arm) == (seed, arm)):
                thinking = replace(model.thinking, **way.changes)  # type: ignore[arg-type]
                ask(plan, model, weights, _scores(out, way.name, seed).parent, thinking=thinking)
                advance("ways and seeds", 1, total)


def _scores(out: Path, name: str, seed: int) -> Path:
    return out / f"{name}-seed{seed}" / "scores-strict.json"


def collect(runs: Path, trained: Path | None, out: Path, seeds: range) -> tuple[Ablation, dict[str, float]]:
    """Scores by way, and the think tokens of a question about audio, on average."""
    files = {SFT: [runs / f"{SFT}-seed{seed}" / "eval" / "scores-strict.json" for seed in seeds]}
    files[FULL] = [runs / f"{FULL}-seed{seed}" / "eval" / "scores-strict.json" for seed in seeds]
    titles = {SFT: "fine-tuning alone", FULL: "CoAT, one each"}
    for way in ways_of(trained, seeds):
        files[way.name], titles[way.name] = [_scores(out, way.name, seed) for seed in seeds], way.title
    for arm, title in TRAINED.items():
        found = [trained / f"{arm}-seed{seed}" / "eval" / "scores-strict.json" for seed in seeds] if trained else []
        if found and all(path.is_file() for path in found):
            files[arm], titles[arm] = found, title
    lengths = {name: float(np.mean([think_tokens(path.parent) for path in paths])) for name, paths in files.items()}
    against = dict.fromkeys(files, FULL) | {FULL: SFT}
    return gather(out, files, titles, against, list(seeds)), lengths


def think_tokens(folder: Path) -> float:
    """Think tokens of a question about audio, the ends of blocks left out."""
    lines = read_jsonl(folder / "predictions.jsonl")
    counts = [line["think_tokens"] - 2 for line in lines if line["think_tokens"]]
    return float(np.mean(counts)) if counts else 0.0


def plot_budget(found: Ablation, lengths: Mapping[str, float], tasks: list[str]) -> str:
    """Scores over the mean number of think tokens."""
    figure, grid = plt.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3), layout="constrained")
    asked = [*(way.name for way in WAYS), FULL]
    for axes, task in zip(np.atleast_1d(grid), tasks, strict=True):
        up = found.scores[FULL][task][0].higher_is_better
        mean = {
            arm: float(np.mean(found.values(arm, task)) if up else 1 - np.mean(found.values(arm, task)))
            for arm in found.arms
        }
        places = [lengths[arm] for arm in asked], [mean[arm] for arm in asked]
        axes.plot(*places, "o-", ms=3, color=COLOURS[3], label="asked with at most N think tokens")
        mixed = [way.name for way in MIXED if way.name in mean]
        if mixed:
            places = [lengths[name] for name in mixed], [mean[name] for name in mixed]
            axes.plot(*places, "s-", ms=3, color=COLOURS[0], label="strides mixed in training")
        given = [arm for arm in TRAINED if arm in mean]
        if given:
            places = [lengths[arm] for arm in given], [mean[arm] for arm in given]
            axes.plot(*places, "D", color=COLOURS[2], label="trained so")
        axes.axhline(mean[SFT], ls=":", color=COLOURS[1], label="fine-tuning alone")
        axes.set_title(task.replace("_", " ") + ("" if up else " (1 - WER)"))
        axes.set_xlabel("think tokens a question")
        axes.set_ylim(0, 1.02)
    np.atleast_1d(grid)[0].legend(frameon=False, fontsize=7)
    return encode(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Ask what is missing, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--trained", type=Path, help="Folder of coat ablate --arms stride,mixed.")
    parser.add_argument("--tasks", nargs="*", default=["runs/demo/corpus/test.jsonl"])
    parser.add_argument("--out", type=Path, default=Path("runs/budget"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=150)
    args = parser.parse_args(argv)
    seeds = range(args.seeds)
    ask_all(args.runs, args.trained, args.out, args.tasks, seeds, limit=args.limit)
    found, lengths = collect(args.runs, args.trained, args.out, seeds)
    scores = transposed(score_table(found))
    scores = Table(
        [scores.head[0], "think tokens", *scores.head[1:]],
        [[row[0], f"{length:.1f}", *row[1:]] for row, length in zip(scores.rows, lengths.values(), strict=True)],
    )
    changes = transposed(change_table(found))
    picture = plot_budget(found, lengths, [task for task in SHOWN if task in found.tasks])
    write_whole(args.out / "budget.md", f"{markdown(scores)}\n{markdown(changes)}")
    write_whole(args.out / "lengths.json", json.dumps(lengths, indent=1))
    sections = [
        Section("Scores", "Out of a hundred.", scores, [(picture, "Means over seeds.")]),
        Section("Against a think token for every audio token", "Student's 95 % interval over seeds.", changes),
    ]
    write_report(
        args.out / "budget.html", "How many think tokens?", "Runs of the small world, asked with fewer.", sections
    )


if __name__ == "__main__":
    main()
