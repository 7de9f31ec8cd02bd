"""A run of lmms-eval with this package's model, tasks and task folders: ``coat eval lmms``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from coat.errors import CoatError
from coat.lmms.tasks import PREFIX, offered, write_task_files


def evaluate(
    model: str,
    tasks: Sequence[str],
    folder: Path,
    *,
    data: Path | None = None,
    include: Sequence[Path] = (),
    limit: int | None = None,
    batch_size: int = 32,
    simple: bool = False,
    model_args: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run lmms-eval's own tasks, and this package's as ``coat_NAME``.

    Args:
        model: The value of ``pretrained``; see :class:`coat.lmms.model.CoatChat`.
        tasks: Names, lmms-eval's or ours.
        folder: Folder for the task files.
        data: Folder of the tasks' Parquet files; the hub if None.
        include: Further folders of task files.
        limit: At most so many documents a task.
        batch_size: Questions at a time.
        simple: Take the simple interface, as lmms-eval's ``--force_simple`` does.
        model_args: Further arguments of the model.

    Returns:
        lmms-eval's results.

    Raises:
        CoatError: lmms-eval is not installed here.
    """
    try:
        from lmms_eval.evaluator import simple_evaluate
        from lmms_eval.tasks import TaskManager
    except ImportError as error:
        raise CoatError(
            f"lmms-eval cannot be imported here: {error}", "docs/evaluation.md says how to install it."
        ) from None
    ours = [
        name.removeprefix(PREFIX)
        for name in tasks
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) in offered()
    ]
    folders = [str(path) for path in include]
    if ours:
        write_task_files(folder, ours, data)
        folders.append(str(folder))
    # Its environment variable for task folders is read after the tasks are: they are given to its manager instead.
    manager = TaskManager(include_path=folders or None, model_name="coat")
    results = simple_evaluate(
        model="coat",
        model_args=",".join(f"{name}={value}" for name, value in {"pretrained": model, **(model_args or {})}.items()),
        tasks=list(tasks),
        task_manager=manager,
        batch_size=batch_size,
        limit=limit,
        force_simple=simple,
        log_samples=False,
        cli_args=SimpleNamespace(output_path=None, process_with_media=True),
    )
    return dict((results or {}).get("results", {}))
