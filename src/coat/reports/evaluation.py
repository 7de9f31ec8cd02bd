"""An evaluation as one page: scores with intervals, classes confused, the worst answers with their sounds."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coat.audio.libsndfile import encode_sound
from coat.data.conversation import texts_of
from coat.errors import CoatError
from coat.evaluation.compare import Compared
from coat.evaluation.items import Item
from coat.evaluation.results import scored
from coat.evaluation.run import Answered, read_run
from coat.evaluation.scoring import Protocol, Scored, TaskScore
from coat.evaluation.sources import is_manifest, open_manifest_tasks, open_task
from coat.evaluation.statistics import LOWER_IS_BETTER, Score
from coat.files import short_names
from coat.reports.page import Player, Section, Table, write_report
from coat.reports.plots import COLOURS, encode, plt
from coat.versions import MISSING

WORST, PLAYED_SECONDS, PLAYED_RATE = 12, 30.0, 16_000
SHORT = 300


def write_eval_page(
    folders: Sequence[Path],
    path: Path,
    *,
    protocol: Protocol = "strict",
    compared: Sequence[tuple[str, str, Sequence[Compared]]] = (),
    worst: int = WORST,
) -> None:
    """Write the page of one or several evaluations.

    Args:
        folders: Folders of evaluations; the first is the one that others are read against.
        path: Path of the HTML file.
        protocol: By which answers are scored.
        compared: Names of two runs and how they compare.
        worst: Wrong answers shown for each task of the last run, with their sounds.
    """
    names = short_names(folders)
    runs = [read_run(folder) for folder in folders]
    results = {
        name: {task.task.name: (*scored(task, protocol), task) for task in tasks}
        for name, (_, tasks) in zip(names, runs, strict=True)
    }
    order = list(dict.fromkeys(task for by_task in results.values() for task in by_task))
    sections = [_scores(results, order, protocol)]
    sections += [_comparison(first, second, found) for first, second, found in compared]
    sections.append(_counts(results, order))
    last = names[-1]
    for name in order:
        if name in results[last]:
            sections += _task_sections(*results[last][name], last, worst)
    sections.append(Section("How it was asked", code=_about(names, [about for about, _ in runs])))
    tasks = f"{len(order)} task{'s' if len(order) > 1 else ''}"
    lead = (
        f"{', '.join(names)} on {tasks}, scored by the protocol '{protocol}'. Brackets are 95 % intervals: Wilson's "
        "for shares of right answers, the bootstrap's for others, both over clips or speakers rather than answers."
    )
    write_report(path, "An evaluation", lead, sections)


def cell(score: Score) -> str:
    """A score out of a hundred with its interval."""
    if not score.items:
        return "none"
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


Results = Mapping[str, Mapping[str, tuple[TaskScore, list[Scored], Answered]]]


def _scores(results: Results, order: Sequence[str], protocol: str) -> Section:
    rows: list[list[str]] = []
    best, bars = set(), []
    for task in order:
        found = {name: by_task[task][0] for name, by_task in results.items() if task in by_task}
        some = next(iter(found.values()))
        for place, metric in enumerate(score.metric for score in some.scores):
            values = {name: score.scores[place] for name, score in found.items() if len(score.scores) > place}
            arrow = "" if some.scores[place].higher_is_better else ", lower is better"
            cells = [cell(values[name]) if name in values else "" for name in results]
            if len(values) > 1:
                means = {name: score.value for name, score in values.items()}
                wins = max(means, key=means.__getitem__) if not arrow else min(means, key=means.__getitem__)
                if len(set(means.values())) > 1:
                    best.add((len(rows), 1 + list(results).index(wins)))
            rows.append([f"{some.title} ({metric}{arrow})", *cells])
        bars.append((some.title, {name: score.leading for name, score in found.items()}))
    figure = _bars(bars, list(results))
    return Section(
        "Scores", "Out of a hundred.", table=Table(["task", *results], rows, best),
        figures=[(figure, f"Leading scores with their intervals; protocol {protocol}. Word errors: lower is better.")],
    )  # fmt: skip


def _bars(bars: Sequence[tuple[str, Mapping[str, Score]]], names: Sequence[str]) -> str:
    figure, axes = plt.subplots(figsize=(7.5, 0.6 + (0.16 + 0.2 * len(names)) * len(bars)))
    height = 0.8 / len(names)
    for place, (_, scores) in enumerate(bars):
        for index, name in enumerate(names):
            if name not in scores or not scores[name].items:
                continue
            score, at = scores[name], -place - (index - (len(names) - 1) / 2) * height
            axes.barh(at, 100 * score.value, height * 0.9, color=COLOURS[index % len(COLOURS)],
                      label=name if place == 0 else None)  # fmt: skip
            axes.plot([100 * score.low, 100 * score.high], [at, at], color="#333", lw=0.9)
    axes.set_yticks([-place for place in range(len(bars))], [title for title, _ in bars])
    axes.set_xlim(0, 102)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=len(names), loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return encode(figure)


def _comparison(first: str, second: str, found: Sequence[Compared]) -> Section:
    rows: list[list[str]] = []
    best = set()
    for each in found:
        for place, change in enumerate(each.differences):
            p = f"{change.p:.3g}" + (f" ({each.corrected:.3g})" if place == 0 else "")
            better = (change.value > 0) == (change.metric not in LOWER_IS_BETTER)
            if place == 0 and better and each.corrected < 0.05:
                best.add((len(rows), 1))
            gained = sum(flip.gained for flip in each.flips)
            flips = f"{gained} gained, {len(each.flips) - gained} lost" if each.flips and place == 0 else ""
            interval = f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
            rows.append([f"{each.title} ({change.metric})", interval, p, str(change.items), flips])
        if each.left_out:
            rows.append([f"{each.title}: left out", each.left_out, "", "", ""])
    return Section(
        f"{second} against {first}",
        "Differences on the items that both answered, with 95 % intervals by paired bootstrap; p by McNemar's exact "
        "test for independent answers that are right or wrong, else by the bootstrap; in brackets by Holm over tasks.",
        table=Table(["task", "difference", "p (Holm)", "items", "flips"], rows, best),
    )


def _counts(results: Results, order: Sequence[str]) -> Section:
    rows = []
    for name, by_task in results.items():
        for task in order:
            if task not in by_task:
                continue
            score = by_task[task][0]
            left = ", ".join(f"{count} {why}" for why, count in score.left_out.items())
            orders = score.orders
            over = f"{100 * orders['consistency']:.1f} / {100 * orders['correctness']:.1f}" if orders else ""
            if not (score.unread or score.cut or score.missing or score.unjudged or over or left):
                continue
            rows.append(
                [f"{score.title}, {name}", str(score.leading.items), _share(score.unread, score.leading.items),
                 _share(score.cut, score.leading.items), str(score.missing or ""), str(score.unjudged or ""), over,
                 left]
            )  # fmt: skip
    return Section(
        "What was counted",
        "Tasks with something to say. Unread: nothing could be made out of the answer. Cut: it reached the most "
        "tokens. Orders: over rotations of the options, how often two agree (consistency) and how often they are "
        "right (correctness).",
        table=Table(["task", "scored", "unread", "cut", "no answer", "unjudged", "orders", "left out"], rows)
        if rows
        else None,
    )


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.1f} %)" if count and of else ""


def _task_sections(score: TaskScore, answers: list[Scored], task: Answered, run: str, worst: int) -> list[Section]:
    figures = []
    if score.confusion:
        figures.append((_confusion(score.confusion), "Rows: the right class. Columns: what was read. Shares of a row."))
    rows = [
        [f"{fact}: {value}", cell(part), str(part.items)]
        for fact, values in score.by_fact.items()
        for value, part in values.items()
    ]
    table = Table(["part", score.leading.metric, "items"], rows) if rows else None
    sections = []
    if figures or table:
        sections.append(Section(f"{score.title}, {run}", table=table, figures=figures))
    wrong = _worst(task, answers)[:worst]
    if wrong:
        sounds = _sounds(task, [each.item for each in wrong])
        players = [
            Player(sounds.get(each.item.id, ""), f"{each.item.id}: {_asked(task, each)}", _said(each)) for each in wrong
        ]
        total = len(_worst(task, answers))
        sections.append(
            Section(f"{score.title}, {run}: worst answers", f"{len(wrong)} of {total} that are wrong.", players=players)
        )
    return sections


def _worst(task: Answered, answers: Sequence[Scored]) -> list[Scored]:
    first = [each for each in answers if each.order == 0]
    if task.task.kind == "transcript":
        return sorted((each for each in first if each.credit), key=lambda each: -each.badness)
    wrong = [each for each in first if each.credit < 1]
    return sorted(wrong, key=lambda each: (each.read, each.credit))


def _asked(task: Answered, each: Scored) -> str:
    messages = each.item.conversation(task.task)
    return "".join(texts_of(messages[-1])).strip()[:SHORT]


def _said(each: Scored) -> str:
    text = each.answer.text.strip() or "(nothing)"
    cut = "" if each.answer.finished else " (cut)"
    verdict = f"\njudge: {each.answer.verdict.strip()[:SHORT]}" if each.answer.verdict else ""
    return f"right: {each.item.reference[:SHORT]}\nsaid: {text[:SHORT]}{cut}{verdict}"


def _sounds(task: Answered, items: Sequence[Item]) -> dict[str, str]:
    """The clips of some items inside the page, where the data is still there."""
    try:
        if is_manifest(task.place):
            every = open_manifest_tasks(Path(task.place), ignore=task.ignore)
            (opened,) = [each for each in every if each.task.name == task.task.name]
        elif Path(task.place).is_dir():
            opened = open_task(task.task, task.place)
        else:
            return {}
    except (CoatError, ValueError):
        return {}
    wanted = {item.id for item in items}
    found = {}
    for item in opened.items:
        if item.id in wanted and item.sounds:
            try:
                found[item.id] = _embedded(item)
            except CoatError:
                continue
    return found


def _embedded(item: Item) -> str:
    clip = item.sounds[0].load()
    wave = clip.at(PLAYED_RATE)[: round(PLAYED_SECONDS * PLAYED_RATE)]
    data = encode_sound(wave, PLAYED_RATE, container="OGG", subtype="VORBIS")
    return "data:audio/ogg;base64," + base64.b64encode(data).decode()


def _confusion(table: Mapping[str, Mapping[str, int]]) -> str:
    names = list(table)
    columns = names + [name for name in ("other", "nothing read") if any(name in row for row in table.values())]
    counts = np.array([[table[right].get(said, 0) for said in columns] for right in names], dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 0.42 * len(columns) + 1.6
    figure, axes = plt.subplots(figsize=(size, 0.36 * len(names) + 1.2))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for row, column in np.argwhere(counts > 0):
        colour = "white" if shares[row, column] > 0.55 else "#333"
        axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=7)
    axes.spines[:].set_visible(False)
    return encode(figure)


def _about(names: Sequence[str], abouts: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for name, about in zip(names, abouts, strict=True):
        lines.append(f"{name}: {about['model']} by {about['backend']}, weights {about['fingerprint']}")
        lines.append("  " + ", ".join(f"{key} {value!r}" for key, value in about["settings"].items()))
        lines.append("  " + ", ".join(f"{key} {value}" for key, value in about["versions"].items() if value != MISSING))
    return "\n".join(lines)
