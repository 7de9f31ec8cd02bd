"""A run's scores, kept beside its answers; no model and no data are needed."""

from __future__ import annotations

import json
from pathlib import Path

from coat.evaluation.run import Answered, read_run
from coat.evaluation.scoring import Protocol, Scored, TaskScore, score_answers, score_task
from coat.evaluation.statistics import Score
from coat.files import write_whole


def score_run(folder: str | Path, protocol: Protocol = "strict") -> list[TaskScore]:
    """Score every task of a run, and write ``scores-PROTOCOL.json``.

    Raises:
        CoatError: The folder holds no evaluation.
    """
    _, tasks = read_run(folder)
    scores = [scored(task, protocol)[0] for task in tasks]
    text = json.dumps([score.plain() for score in scores], indent=1)
    write_whole(Path(folder) / f"scores-{protocol}.json", text)
    return scores


def scored(task: Answered, protocol: Protocol) -> tuple[TaskScore, list[Scored]]:
    """A task's scores, and each answer scored."""
    skipped = {why: len(ids) for why, ids in task.skipped.items()}
    if task.bad:
        skipped["could not be asked"] = len(task.bad)
    return score_task(task.task, task.items, task.answers, protocol, skipped)


def answers_of(task: Answered, protocol: Protocol) -> list[Scored]:
    """Each answer scored, without the task's scores and their intervals."""
    return score_answers(task.task, task.items, task.answers, protocol)[0]


def leading_scores(folder: str | Path, protocol: Protocol = "strict") -> dict[str, Score] | None:
    """The leading score of every task, as :func:`score_run` wrote them; None if it has not."""
    path = Path(folder) / f"scores-{protocol}.json"
    if not path.is_file():
        return None
    return {task["task"]: Score(**task["scores"][0]) for task in json.loads(path.read_text())}
