"""Figures for reports, as base64 PNG for a page that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np

from coat.audio import Clip
from coat.experts.base import Picture
from coat.experts.basic_pitch import NOTE_NAMES
from coat.experts.events import Event
from coat.probing.reconstructions import Reconstruction

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = ("#8b95a5", "#4c78a8", "#e0a030", "#2f9e6e", "#b04a5a", "#7a5ea8")
mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "figure.dpi": 130,
    }
)


def encode(figure: Any) -> str:
    """A figure as a ``data:`` URI; the figure is closed."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def plot_losses(metrics: Mapping[str, Sequence[Mapping[str, Any]]], titles: Mapping[str, str]) -> str:
    """Cross-entropy of every arm, and each expert's loss, over the steps of all stages."""
    names = sorted({key for lines in metrics.values() for line in lines for key in line if key.startswith("loss/")})
    names.sort(key=lambda name: name != "loss/ce")
    figure, grid = plt.subplots(1, len(names), figsize=(2.6 * len(names) + 0.6, 2.5), squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        for index, (arm, lines) in enumerate(metrics.items()):
            steps = _running_steps(lines)
            points = [(step, line[name]) for step, line in zip(steps, lines, strict=True) if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), color=COLOURS[1 + index], lw=1.3, label=titles[arm])
        axes.set_title("cross-entropy" if name == "loss/ce" else name.removeprefix("loss/").replace("_", " "))
        axes.set_xlabel("step")
        axes.set_yscale("log")
    grid[0][0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    return encode(figure)


def _running_steps(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    """Steps counted on over stages."""
    steps, before, stage = [], 0, None
    for index, line in enumerate(lines):
        if stage is not None and line["stage"] != stage:
            before += lines[index - 1]["step"]
        stage = line["stage"]
        steps.append(before + line["step"])
    return steps


def plot_reconstructions(made: Sequence[Reconstruction]) -> str:
    """A row for each head: the expert's picture, and the head's on the same scale."""
    figure, grid = plt.subplots(len(made), 2, figsize=(8.2, 1.75 * len(made)), squeeze=False)
    for row, item in zip(grid, made, strict=True):
        low, high = np.quantile(item.target.image, [0.01, 0.995])
        for axes, picture, title in zip(row, (item.target, item.prediction), ("expert", "think states"), strict=True):
            axes.imshow(
                picture.image, aspect="auto", origin="lower", vmin=low, vmax=max(high, low + 1e-6), cmap="magma",
                extent=(0, item.seconds, 0, len(picture.image)),
            )  # fmt: skip
            axes.set_title(f"{picture.title}: {title}", fontsize=8.5)
            _name_rows(axes, picture)
        row[1].text(1.02, 0.5, item.how_well, transform=row[1].transAxes, va="center")
    for axes in grid[-1]:
        axes.set_xlabel("seconds")
    figure.tight_layout()
    return encode(figure)


@dataclass(frozen=True)
class Strip:
    """A picture of a clip over its time.

    Attributes:
        title: Its title.
        picture: The picture.
        levels: The picture whose levels the colours span: a prediction is coloured as its target is.
    """

    title: str
    picture: Picture
    levels: Picture


def strips_of(made: Sequence[Reconstruction]) -> list[Strip]:
    """Each expert's picture, then the think states' own."""
    strips = []
    for item in made:
        for picture, whose in ((item.target, "expert"), (item.prediction, f"think states, {item.how_well}")):
            strips.append(Strip(f"{picture.title}: {whose}", picture, item.target))
    return strips


def plot_listening(clip: Clip, strips: Sequence[Strip]) -> Any:
    """The waveform, and below it on the same time axis a picture after another."""
    figure, grid = plt.subplots(
        1 + len(strips), 1, figsize=(9, 1.1 + 1.25 * len(strips)), sharex=True,
        height_ratios=[0.7, *[1] * len(strips)], layout="constrained", squeeze=False,
    )  # fmt: skip
    above, *below = grid[:, 0]
    above.plot(np.linspace(0, clip.seconds, len(clip.waveform)), clip.waveform, linewidth=0.4, color=COLOURS[1])
    above.set_yticks([])
    for axes, strip in zip(below, strips, strict=True):
        low, high = np.quantile(strip.levels.image, [0.01, 0.995])
        axes.imshow(
            strip.picture.image, aspect="auto", origin="lower", vmin=low, vmax=max(high, low + 1e-6), cmap="magma",
            extent=(0, clip.seconds, 0, len(strip.picture.image)),
        )  # fmt: skip
        axes.set_title(strip.title, fontsize=8.5, loc="left")
        _name_rows(axes, strip.picture)
    grid[-1, 0].set_xlabel("seconds")
    return figure


def plot_events(clip: Clip, events: Sequence[Event]) -> Any:
    """The waveform, and below it on the same time axis a bar for each event, as dark as it is sure."""
    names = sorted({(event.expert, event.label) for event in events}, key=_reading_order)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 1.6 + 0.2 * max(4, len(names))), sharex=True, height_ratios=[1, max(2, len(names) / 4)],
        layout="constrained",
    )  # fmt: skip
    above.plot(np.linspace(0, clip.seconds, len(clip.waveform)), clip.waveform, linewidth=0.4, color=COLOURS[1])
    above.set_yticks([])
    experts = sorted({expert for expert, _ in names})
    for event in events:
        colour = COLOURS[1 + experts.index(event.expert) % (len(COLOURS) - 1)]
        row = names.index((event.expert, event.label))
        below.barh(row, event.end - event.start, left=event.start, color=colour, alpha=0.25 + 0.75 * event.confidence)
    below.set_yticks(range(len(names)), [label for _, label in names], fontsize=7.5)
    below.set_xlim(0, clip.seconds)
    below.set_xlabel("seconds")
    return figure


def _reading_order(name: tuple[str, str]) -> tuple[str, int, str]:
    """Notes by pitch, everything else by name."""
    expert, label = name
    return expert, NOTE_NAMES.index(label) if label in NOTE_NAMES else 0, label


def plot_picture(picture: Picture, waveform: np.ndarray, seconds: float) -> Any:
    """A waveform, and below it on the same time axis what an expert hears in it."""
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 4.4), sharex=True, height_ratios=[1, 3], layout="constrained"
    )
    above.plot(np.linspace(0, seconds, len(waveform)), waveform, linewidth=0.4, color=COLOURS[1])
    above.set_yticks([])
    extent = (0, seconds, 0, len(picture.image))
    below.imshow(picture.image, aspect="auto", origin="lower", cmap="magma", extent=extent, interpolation="nearest")
    _name_rows(below, picture)
    below.set_ylabel("" if picture.labels else picture.rows)
    below.set_xlabel("seconds")
    above.set_title(picture.title)
    return figure


def _name_rows(axes: Any, picture: Picture) -> None:
    named = {row + 0.5: label for row, label in enumerate(picture.labels or []) if label}
    axes.set_yticks([*named], [*named.values()], fontsize=7)
