"""Evaluate a model from Python, on the tasks and with the scores of ``coat eval run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coat.checkpoints.fingerprint import checkpoint_fingerprint
from coat.errors import CoatError
from coat.extras import need

if TYPE_CHECKING:
    from coat.checkpoints import Checkpoint
    from coat.evaluation.scoring import Protocol, TaskScore
    from coat.thinking.model import ThinkingModel


def evaluate_model(
    model: ThinkingModel,
    source: Checkpoint | None,
    tasks: Sequence[str | Path],
    output_dir: str | Path,
    *,
    data: str | None,
    limit: int | None,
    max_new_tokens: int,
    batch_size: int,
    protocol: Protocol,
) -> dict[str, TaskScore]:
    """See :meth:`coat.api.model.CoatModel.evaluate`."""
    need("eval")
    from coat.evaluation.backends.transformers import TransformersBackend
    from coat.evaluation.results import score_run
    from coat.evaluation.run import EvalSettings, run_tasks
    from coat.evaluation.scoring import check_protocol
    from coat.evaluation.sources import open_tasks
    from coat.training.progress import bar_for, make_progress

    if source is None:
        raise CoatError("This model has no source to tell its answers by.", "Load it with CoatModel.from_pretrained.")
    folder, protocol = Path(output_dir), check_protocol(protocol)
    backend = TransformersBackend(
        model, model_path=str(source.path), fingerprint=checkpoint_fingerprint(source), batch_size=batch_size
    )
    opened = open_tasks([str(task) for task in tasks], data, folder / "sample", max_new_tokens=max_new_tokens)
    with make_progress() as bar:
        done = run_tasks(backend, opened, folder, EvalSettings(limit=limit), progress=bar_for(bar))
    failed = done.errors | done.bad
    if failed:
        name, why = next(iter(failed.items()))
        raise CoatError(f"{len(failed)} questions failed, such as {name}: {why}", "Mend them and call it again.")
    return {score.task: score for score in score_run(folder, protocol)}
