"""Ask a backend a list of tasks to the end, and score its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coat.errors import CoatError
from coat.evaluation.results import score_run
from coat.evaluation.run import EvalSettings, run_tasks
from coat.evaluation.scoring import Protocol, TaskScore
from coat.evaluation.sources import open_tasks

if TYPE_CHECKING:
    from coat.evaluation.backends.base import Backend
    from coat.evaluation.run import Progress


def ask_and_score(
    backend: Backend,
    tasks: Sequence[str],
    folder: Path,
    *,
    sample: Path,
    data: str | None = None,
    limit: int | None = None,
    max_new_tokens: int = 256,
    protocol: Protocol = "strict",
    progress: Progress | None = None,
) -> list[TaskScore]:
    """Ask and score; what is answered already is left as it is.

    Args:
        backend: Answers.
        tasks: Tasks, as :func:`coat.evaluation.sources.open_tasks` takes them.
        folder: Folder of the answers and scores.
        sample: Folder for the rows that ``data="sample"`` makes.
        data: A folder with a folder for each task, ``sample``, or the hub if None.
        limit: Most items of a task.
        max_new_tokens: Most tokens of an answer to a manifest's question.
        protocol: The scores' protocol.
        progress: Called as :func:`coat.evaluation.run.run_tasks` calls it.

    Raises:
        CoatError: A question failed, or a row cannot be asked; what was answered stays.
    """
    opened = open_tasks(list(tasks), data, sample, max_new_tokens=max_new_tokens)
    done = run_tasks(backend, opened, folder, EvalSettings(limit=limit), progress=progress)
    if failed := done.errors | done.bad:
        name, why = next(iter(failed.items()))
        raise CoatError(
            f"{len(failed)} questions failed in {folder}, such as {name}: {why}",
            "Mend them and start again: the others' answers are kept.",
        )
    return score_run(folder, protocol)
