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
    from coat.evaluation.asking import ask_and_score
    from coat.evaluation.backends.transformers import TransformersBackend
    from coat.evaluation.scoring import check_protocol
    from coat.training.progress import bar_for, make_progress

    if source is None:
        raise CoatError("This model has no source to tell its answers by.", "Load it with CoatModel.from_pretrained.")
    folder, protocol = Path(output_dir), check_protocol(protocol)
    backend = TransformersBackend(
        model, model_path=str(source.path), fingerprint=checkpoint_fingerprint(source), batch_size=batch_size
    )
    with make_progress() as bar:
        scores = ask_and_score(
            backend,
            [str(task) for task in tasks],
            folder,
            sample=folder / "sample",
            data=data,
            limit=limit,
            max_new_tokens=max_new_tokens,
            protocol=protocol,
            progress=bar_for(bar),
        )
    return {score.task: score for score in scores}
