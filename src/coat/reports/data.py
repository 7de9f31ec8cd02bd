"""A checked data set as a page: counts, histograms, and players for what was found."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np

from coat.data.checks import ERROR, KINDS, Checked
from coat.reports.page import Player, Section, Table, write_report
from coat.reports.plots import COLOURS, encode, plt

SHOWN, PLAYED = 50, 8


def write_data_page(checked: Checked, path: Path) -> None:
    """Write the page of a check.

    Args:
        checked: Findings of the check.
        path: Path of the HTML file.
    """
    hours = sum(checked.seconds) / 3600
    found = checked.by_kind()
    warnings = len(checked.findings) - checked.errors
    heard = f", {hours:.2f} hours" if checked.heard else ", audio not decoded"
    lead = (
        f"{checked.rows:,} rows, {checked.clips:,} clips{heard}. {checked.errors:,} errors, {warnings:,} warnings. "
        "Errors make a row unusable; warnings are for your ears."
    )
    summary = Table(
        ["finding", "how many", "what it means"],
        [[kind, f"{len(items):,}", f"{KINDS[kind][0]}: {KINDS[kind][1]}"] for kind, items in found.items()],
    )
    sections = [Section("Findings", "" if found else "Nothing is wrong.", table=summary if found else None)]
    sections.append(Section("What is in it", figures=_figures(checked)))
    for kind, items in found.items():
        shown = [[item.row, item.text] for item in items[:SHOWN]]
        more = f" The first {SHOWN} of {len(items):,}." if len(items) > SHOWN else ""
        players = [Player(quote(str(Path(item.audio).resolve())), item.row) for item in items if item.audio][:PLAYED]
        grave = "error" if KINDS[kind][0] == ERROR else "warning"
        table = Table(["row", "what"], shown)
        title = f"{kind.capitalize()} ({grave})"
        sections.append(Section(title, f"{KINDS[kind][1]}.{more}", table, players=players))
    write_report(path, f"{checked.path.name}: a data check", lead, sections)


def _figures(checked: Checked) -> list[tuple[str, str]]:
    figures = []
    if checked.seconds:
        figures.append((_histogram(np.array(checked.seconds), "seconds"), "Durations of clips."))
    if checked.rates:
        names = [f"{rate / 1000:g} kHz" for rate in sorted(checked.rates)]
        figures.append((_bars(names, [checked.rates[rate] for rate in sorted(checked.rates)]), "Sampling rates."))
    if checked.answer_words:
        figures.append((_histogram(np.array(checked.answer_words), "words in the answer"), "Lengths of answers."))
    common = checked.tasks.most_common(20)
    if common:
        figures.append((_bars([name for name, _ in common], [count for _, count in common]), "Rows by task."))
    if checked.letters:
        places = range(max(checked.letters) + 1)
        counts = [checked.letters[place] for place in places]
        figures.append((_bars([chr(65 + place) for place in places], counts), "Where the right option stands."))
    return figures


def _histogram(values: np.ndarray, label: str) -> str:
    figure, axes = plt.subplots(figsize=(5.2, 2.2))
    axes.hist(values, bins=min(60, max(10, len(set(values.tolist())))), color=COLOURS[1])
    axes.set_xlabel(label)
    axes.set_ylabel("how many")
    return encode(figure)


def _bars(names: list[str], counts: list[int]) -> str:
    figure, axes = plt.subplots(figsize=(5.2, 0.5 + 0.26 * len(names)))
    axes.barh(names[::-1], counts[::-1], color=COLOURS[1])
    axes.set_xlabel("how many")
    return encode(figure)
