"""Output of a run: progress with an estimate, metrics as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from coat.files import read_jsonl, write_jsonl
from coat.training.stock import TrainerCallback


def make_progress() -> Progress:
    """The bar that every long job shows: what, how far, elapsed and remaining time."""
    return Progress(
        TextColumn("{task.description}", justify="left"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )


def bar_for(progress: Progress) -> Callable[[str, int, int], None]:
    """A function that advances one bar for each name it is called with: (name, just done, in all; 0 if unknown)."""
    tasks: dict[str, TaskID] = {}

    def advance(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total or None, note="")
        progress.advance(tasks[name], done)

    return advance


def watch_for(progress: Progress) -> Callable[[str, int, int, str], None]:
    """A function that sets one bar for each name it is called with: (name, done so far, in all, note)."""
    tasks: dict[str, TaskID] = {}

    def watch(name: str, done: int, total: int, note: str) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total or None, note="")
        progress.update(tasks[name], completed=done, total=total or None, note=note)

    return watch


class ProgressBar(TrainerCallback):
    """A bar for one stage."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.progress: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar at the step where the run starts or resumes."""
        if state.is_world_process_zero:
            self.progress = make_progress()
            self.progress.start()
            self.task = self.progress.add_task(self.title, total=state.max_steps, completed=state.global_step, note="")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance."""
        if self.progress:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Show the loss."""
        if self.progress and logs and "loss" in logs:
            self.progress.update(self.task, note=f"loss {logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        if self.progress:
            self.progress.stop()


class MetricsFile(TrainerCallback):
    """Appends every line of metrics to ``metrics.jsonl``; a resumed stage first drops lines it will write again."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drop lines of this stage past the step that it resumes from."""
        if state.is_world_process_zero and self.path.is_file():
            lines = read_jsonl(self.path)
            kept = (line for line in lines if line["stage"] != self.stage or line["step"] <= state.global_step)
            write_jsonl(self.path, kept)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write one line."""
        if state.is_world_process_zero and logs and "loss" in logs:
            with self.path.open("a") as file:
                file.write(json.dumps({"stage": self.stage, "step": state.global_step, **logs}) + "\n")
