"""Runs beside each other: what they were, how far they are, what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coat.checkpoints.references import is_finished
from coat.errors import CoatError
from coat.files import read_jsonl, short_names


@dataclass(frozen=True)
class Run:
    """Summary of a run's folder.

    Attributes:
        folder: Folder of the run.
        recipe: As plain data.
        stage: The one it is in, or the last.
        step: Step within the stage.
        steps: That the stage has.
        finished: Whether it is done.
        losses: The latest of each kind.
        held_out: The least held-out cross-entropy and its step, if any was measured.
    """

    folder: Path
    recipe: dict[str, Any]
    stage: str
    step: int
    steps: int
    finished: bool
    losses: dict[str, float]
    held_out: tuple[float, int] | None


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        CoatError: It holds no run.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise CoatError(f"There is no run in {folder}.", "Name a folder that coat train has made.")
    recipe = yaml.safe_load(path.read_text())
    lines = read_jsonl(folder / "metrics.jsonl")
    last = lines[-1] if lines else {"stage": recipe["stages"][0]["name"], "step": 0}
    steps = next(stage["steps"] for stage in recipe["stages"] if stage["name"] == last["stage"])
    latest: dict[str, float] = {}
    for line in lines:
        latest |= {key.removeprefix("loss/"): line[key] for key in line if key == "loss" or key.startswith("loss/")}
    measured = [(line["ce"], line["step"]) for line in read_jsonl(folder / "held_out.jsonl")]
    return Run(
        folder,
        recipe,
        last["stage"],
        last["step"],
        steps,
        is_finished(folder),
        latest,
        min(measured) if measured else None,
    )


def find_runs(place: Path) -> list[Run]:
    """Every run in a folder, or the one that it is, newest last."""
    found = [place] if (place / "recipe.yaml").is_file() else [path.parent for path in place.glob("*/recipe.yaml")]
    return [read_run(folder) for folder in sorted(found, key=lambda folder: (folder / "recipe.yaml").stat().st_mtime)]


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Fields of the recipes in which runs differ: ``a.b`` and each run's value."""
    flat = [_flat(run.recipe) for run in runs]
    keys = dict.fromkeys(key for fields in flat for key in fields)
    table = {key: [str(fields.get(key, "")) for fields in flat] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = {item.get("name", index): item for index, item in enumerate(value)}.items()
    else:
        return {prefix: value}
    return {k: v for name, item in items for k, v in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()}


def plot_runs(runs: Sequence[Run], path: Path) -> None:
    """Every loss of every run over its steps, as a PNG."""
    import base64

    from coat.reports.plots import plot_losses

    folders = [str(run.folder) for run in runs]
    titles = dict(zip(folders, short_names(folders), strict=True))
    metrics = {str(run.folder): read_jsonl(run.folder / "metrics.jsonl") for run in runs}
    if not any(metrics.values()):
        raise CoatError("These runs have no metrics yet.", "Wait for the first line of metrics.jsonl.")
    data = plot_losses({name: lines for name, lines in metrics.items() if lines}, titles)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(base64.b64decode(data.partition(",")[2]))
    partial.replace(path)
