"""Answer a manifest and score it by task. Predictions are written as they come; a stopped run goes on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from coat.data.manifest import Row
from coat.evaluation.metrics import Score, accuracy, wer
from coat.files import read_jsonl
from coat.generation import generate_many
from coat.thinking.model import CoatModel

# Tasks scored by word errors; all others by exact match after normalisation.
WER_TASKS = ("transcription",)


def answer_rows(
    model: CoatModel,
    rows: Sequence[Row],
    path: Path,
    *,
    batch_size: int = 32,
    max_new_tokens: int = 32,
    progress: Callable[[int], None] | None = None,
) -> dict[str, str]:
    """Answer every row, skipping those that the predictions file already holds.

    Args:
        model: In evaluation mode.
        rows: To answer; their own answers are left out of the prompt.
        path: ``predictions.jsonl``, appended to.
        batch_size: Rows at a time.
        max_new_tokens: Where an answer is cut at the latest.
        progress: Called with the number of rows just answered.

    Returns:
        The answer to each row id.
    """
    answers: dict[str, str] = {done["id"]: done["answer"] for done in read_jsonl(path)}
    missing = [row for row in rows if row.id not in answers]
    if progress:
        progress(len(rows) - len(missing))
    limit = model.backbone.hearing.max_seconds
    loaders = [lambda row=row: row.conversation(answered=False, max_seconds=limit) for row in missing]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for index, answer in generate_many(
            model, loaders, [row.seconds for row in missing], batch_size=batch_size, max_new_tokens=max_new_tokens
        ):
            row = missing[index]
            answers[row.id] = answer
            line = {"id": row.id, "task": row.task, "reference": row.answer, "answer": answer}
            file.write(json.dumps(line) + "\n")
            if progress:
                progress(1)
    return answers


def score_rows(rows: Sequence[Row], answers: dict[str, str]) -> dict[str, Score]:
    """A score for each task."""
    by_task: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    return {
        task: (wer if task in WER_TASKS else accuracy)(
            [row.answer for row in members], [answers[row.id] for row in members]
        )
        for task, members in sorted(by_task.items())
    }
