"""Probes as a page: what is read where, against its controls, and over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coat.probing.models import Reading
from coat.reports.page import Section, Table, write_report
from coat.reports.plots import COLOURS, encode, plt

WORDS = {"audio": "audio embeddings", "think": "think states", "pre_generation": "before the answer"}


def write_probe_page(
    found: Mapping[str, Sequence[Reading]], curves: Mapping[str, Sequence[Mapping[str, Any]]],
    chance: Mapping[str, float], folder: Path,
) -> Path:  # fmt: skip
    """Write ``probes.html``.

    Args:
        found: Results by model.
        curves: Over training, by model.
        chance: Share of the commonest label, by target.
        folder: Output folder.
    """
    sections = [probe_section(found, chance)]
    for name, lines in curves.items():
        figure = _curve(lines, chance)
        sections.append(
            Section(f"Over training: {name}", figures=[(figure, "A stage ends at each upright line. Dashed: chance.")])
        )
    path = folder / "probes.html"
    write_report(path, "Linear probes", "What the states hold, as far as linear probes can tell.", sections)
    return path


def probe_section(found: Mapping[str, Sequence[Reading]], chance: Mapping[str, float]) -> Section:
    """Accuracy of probes, as a part of a page.

    Args:
        found: Results by model.
        chance: Share of the commonest label, by target.
    """
    rows = []
    for name, readings in found.items():
        for each in readings:
            score = each.score
            rho = "" if each.rho is None else f"{each.rho:+.2f} ({each.p:.2g})"
            rows.append(
                [f"{name}, {each.target.replace('_', ' ')}", WORDS[each.where],
                 f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]",
                 f"{100 * each.shuffled.value:.1f}", f"{100 * chance[each.target]:.1f}", str(score.items), rho]
            )  # fmt: skip
    head = ["model, target", "states", "accuracy", "shuffled", "chance", "clips", "rho (p)"]
    return Section(
        "Accuracy of linear probes",
        "Accuracy of a logistic probe on clips of groups that it was not fitted on, with a 95 % interval over "
        "groups. Audio embeddings are the ceiling: all that the tower gives. Shuffled: the same probe, fitted on "
        "shuffled labels. Chance: the share of the commonest label. Rho: Spearman's correlation of the probe's "
        "confidence in the true label with the answer's being right, within the model.",
        Table(head, rows),
        [(_bars(found, chance), "Dashed: chance.")],
    )


def _bars(found: Mapping[str, Sequence[Reading]], chance: Mapping[str, float]) -> str:
    figure, grid = plt.subplots(1, len(chance), figsize=(3.4 * len(chance), 2.8), squeeze=False, layout="constrained")
    for axes, target in zip(grid[0], chance, strict=True):
        names = list(found)
        for index, where in enumerate(WORDS):
            for place, name in enumerate(names):
                each = next((r for r in found[name] if r.target == target and r.where == where), None)
                if each is None:
                    continue
                at = place + (index - 1) * 0.27
                axes.bar(at, each.score.value, 0.25, color=COLOURS[index], label=WORDS[where])
                axes.plot([at, at], [each.score.low, each.score.high], color="#333", lw=0.9)
        axes.axhline(chance[target], ls="--", lw=0.8, color="#888")
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
        axes.set_title(target.replace("_", " "))
        axes.set_ylim(0, 1.02)
    handles = {
        label: handle for axes in grid[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return encode(figure)


def _curve(lines: Sequence[Mapping[str, Any]], chance: Mapping[str, float]) -> str:
    figure, grid = plt.subplots(1, len(chance), figsize=(3.4 * len(chance), 2.6), squeeze=False, layout="constrained")
    for axes, target in zip(grid[0], chance, strict=True):
        for index, where in ((1, "think"), (2, "pre_generation")):
            mine = [line for line in lines if line["target"] == target and line["where"] == where]
            steps = [line["step"] for line in mine]
            values = np.array([line["score"]["value"] for line in mine])
            low, high = (np.array([line["score"][end] for line in mine]) for end in ("low", "high"))
            axes.plot(steps, values, marker="o", ms=3, color=COLOURS[index], label=WORDS[where])
            axes.fill_between(steps, low, high, color=COLOURS[index], alpha=0.15, lw=0)
        stages = list(dict.fromkeys(line["stage"] for line in lines))
        for stage in stages[:-1]:
            axes.axvline(max(line["step"] for line in lines if line["stage"] == stage), color="#bbb", lw=0.8)
        axes.axhline(chance[target], ls="--", lw=0.8, color="#888")
        axes.set_title(target.replace("_", " "))
        axes.set_xlabel("step")
        axes.set_ylim(0, 1.02)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return encode(figure)
