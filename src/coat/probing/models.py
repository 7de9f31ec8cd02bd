"""Probes over runs and over training, with their controls, and whether confidence goes with success (§4.4).

Labels are facts about clips, in JSON Lines: ``{"audio": "a.wav", "mood": "sad", "voice": "anna", "split": "train"}``.
A target is one of the fields; a group is another, such as the speaker: fitted on some groups, scored on others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coat.audio import load_audio
from coat.data.conversation import Conversation
from coat.data.reading import read_records
from coat.errors import CoatError
from coat.evaluation.statistics import Score
from coat.files import read_jsonl
from coat.probing.probes import Probed, States, collect_states, probe
from coat.thinking.model import ThinkingModel

QUESTION = "Describe the audio."
# Of groups, where clips have no split: scored on one in four.
TEST_SHARE = 0.25
WHERES = ("audio", "think", "pre_generation")


@dataclass(frozen=True)
class Target:
    """A probing target.

    Attributes:
        name: The field that holds the label.
        group: The field whose values must not be on both sides.
        task: The task whose answers are compared with the probe's confidence; none if empty.
    """

    name: str
    group: str = ""
    task: str = ""


@dataclass(frozen=True)
class Clips:
    """Labelled clips of one target, in two sides that share no group.

    Attributes:
        target: The probing target.
        paths: Paths of the clips to fit on, and of those to score on.
        labels: Labels of those clips.
        groups: Groups of those clips.
    """

    target: Target
    paths: tuple[list[Path], list[Path]]
    labels: tuple[list[str], list[str]]
    groups: tuple[list[str], list[str]]

    @property
    def chance(self) -> float:
        """The share of the commonest label among those that are scored."""
        _, counts = np.unique(self.labels[1], return_counts=True)
        return float(counts.max() / counts.sum())


@dataclass(frozen=True)
class Reading:
    """A probe on one kind of state.

    Attributes:
        target: Name of the probing target.
        where: Kind of state.
        score: Its accuracy.
        shuffled: Accuracy of the same probe, fitted on shuffled labels.
        rho: Spearman's correlation of its confidence with the answer's being right, within the model.
        p: p-value under no correlation.
    """

    target: str
    where: str
    score: Score
    shuffled: Score
    rho: float | None = None
    p: float | None = None


def read_clips(path: Path, target: Target, *, limit: int | None = None, seed: int = 0) -> Clips:
    """Clips that carry a target's label.

    Args:
        path: JSON Lines.
        target: The probing target.
        limit: At most so many a side, drawn by the seed.
        seed: Seed of what is drawn, and of sides where clips have no ``split``.

    Raises:
        CoatError: No clip carries the label, or all are in one group.
    """
    rows = []
    if not path.is_file():
        raise CoatError(f"There is no file {path}.", "coat data labels makes one.")
    for record in read_records(path):
        if record.problem or not isinstance(record.raw, dict) or "audio" not in record.raw:
            problem = record.problem or "a row must be an object with 'audio'"
            raise CoatError(f"{path}, {record.where}: {problem}.", "Mend it, or make the file with coat data labels.")
        if record.raw.get(target.name) not in (None, ""):
            rows.append(record.raw)
    if not rows:
        raise CoatError(f"No line of {path} has '{target.name}'.", "Name a field that holds labels.")
    rng = np.random.default_rng([seed, 23])
    group = lambda row: str(row.get(target.group, row["audio"]))  # noqa: E731
    if any("split" in row for row in rows):
        side = {"train": 0, "test": 1}
        split = [side.get(str(row.get("split"))) for row in rows]
    else:
        names = sorted({group(row) for row in rows})
        if len(names) < 2:
            raise CoatError(f"All clips with '{target.name}' are of one {target.group}.", "Probes need two groups.")
        held = set(rng.permutation(names)[: max(1, round(TEST_SHARE * len(names)))])
        split = [int(group(row) in held) for row in rows]
    sides: list[list[dict[str, Any]]] = []
    for number in (0, 1):
        chosen = [row for row, place in zip(rows, split, strict=True) if place == number]
        if limit is not None and len(chosen) > limit:
            chosen = [chosen[i] for i in sorted(rng.permutation(len(chosen))[:limit])]
        sides.append(chosen)
    if not all(sides):
        problem = f"Clips with '{target.name}' are all on one side of 'split'."
        raise CoatError(problem, "Some must be 'train', some 'test'.")
    return Clips(
        target,
        ([path.parent / row["audio"] for row in sides[0]], [path.parent / row["audio"] for row in sides[1]]),
        ([str(row[target.name]) for row in sides[0]], [str(row[target.name]) for row in sides[1]]),
        ([group(row) for row in sides[0]], [group(row) for row in sides[1]]),
    )


def states_of(model: ThinkingModel, paths: Sequence[Path], batch_size: int = 32) -> States:
    """States of clips after one question, loaded batch by batch."""
    parts = [
        collect_states(model, [_asked(path) for path in paths[start : start + batch_size]], batch_size=batch_size)
        for start in range(0, len(paths), batch_size)
    ]
    joined: dict[str, Any] = {
        where: None if getattr(parts[0], where) is None else np.concatenate([getattr(part, where) for part in parts])
        for where in WHERES
    }
    return States(**joined)


def _asked(path: Path) -> Conversation:
    return Conversation([{"role": "user", "content": f"<audio>{QUESTION}"}], [load_audio(path)], str(path))


def read_model(
    model: ThinkingModel, clips: Clips, *, wheres: Sequence[str] = WHERES, success: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Reading]:  # fmt: skip
    """Probe every kind of state of a model for one target.

    Args:
        model: In evaluation mode.
        clips: The clips of the target.
        wheres: Kinds of state.
        success: 1 where the model's own answer about a clip (by its path) is right, 0 where not.
        seed: Seed of shuffled labels.
    """
    states = [states_of(model, paths) for paths in clips.paths]
    shuffled = np.random.default_rng([seed, 29]).permutation(clips.labels[0]).tolist()
    readings = []
    for where in wheres:
        fit, held = (getattr(side, where) for side in states)
        if fit is None:
            continue
        options = {"train_groups": clips.groups[0], "test_groups": clips.groups[1]}
        found = probe(fit, clips.labels[0], held, clips.labels[1], **options)
        control = probe(fit, shuffled, held, clips.labels[1], **options)
        rho, p = correlate(found, clips, success or {})
        readings.append(Reading(clips.target.name, where, found.score, control.score, rho, p))
    return readings


def correlate(found: Probed, clips: Clips, success: Mapping[str, float]) -> tuple[float | None, float | None]:
    """Spearman's rho between a probe's confidence in the true label and the answer's being right (Table 3)."""
    from scipy.stats import spearmanr

    pairs = [
        (confidence, success[str(path)])
        for confidence, path in zip(found.confidence, clips.paths[1], strict=True)
        if str(path) in success
    ]
    if len(pairs) < 3 or len({right for _, right in pairs}) < 2:
        return None, None
    result = spearmanr(*zip(*pairs, strict=True))
    return float(result.statistic), float(result.pvalue)


def successes(run: Path, task: str, paths: Sequence[Path]) -> dict[str, float]:
    """Whether a model's answers to a task are right, by the path of the clip.

    Args:
        run: An evaluation's folder.
        task: Name of the task.
        paths: Paths of clips.
    """
    from coat.evaluation.items import Sound
    from coat.evaluation.results import scored
    from coat.evaluation.run import read_run

    by_key = {Sound.of_file(path).measure()[1]: str(path) for path in paths}
    found: dict[str, float] = {}
    for each in read_run(run)[1]:
        if each.task.name == task:
            for answer in scored(each, "strict")[1]:
                if answer.order == 0 and answer.item.clips and answer.item.clips[0] in by_key:
                    found[by_key[answer.item.clips[0]]] = float(answer.credit)
    return found


def checkpoints_of(run: Path) -> list[tuple[str, int, Path]]:
    """Stage, steps done in all and folder of every checkpoint that a run keeps, in order."""
    found, before = [], 0
    for stage in sorted((run / "stages").glob("*"), key=lambda path: int(path.name.split("-")[0])):
        steps = sorted((int(path.name.rpartition("-")[2]), path) for path in stage.glob("checkpoint-*"))
        found += [(stage.name.partition("-")[2], before + step, path) for step, path in steps]
        before += steps[-1][0] if steps else 0
    return found


def over_training(
    run: Path, clips: Sequence[Clips], *, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Probes on the think states at every checkpoint that a run keeps (Fig. 3).

    Args:
        run: Train it with a small ``save_steps`` and a large ``keep_checkpoints``.
        clips: Targets.
        progress: Called with checkpoints just read, and in all.

    Returns:
        A line a checkpoint and target: stage, step, target and score.

    Raises:
        CoatError: The run keeps no checkpoints.
    """
    from coat.checkpoints import load_model
    from coat.checkpoints.weights import load_weights

    kept = checkpoints_of(run)
    if not kept:
        raise CoatError(f"{run} keeps no checkpoints.", "Train with training.keep_checkpoints and training.save_steps.")
    model = load_model(run)
    lines: list[dict[str, Any]] = []
    for stage, step, folder in kept:
        load_weights(model, folder)
        model.eval()
        for each in clips:
            readings = read_model(model, each, wheres=("think", "pre_generation"))
            lines += [{"stage": stage, "step": step, **_plain(reading)} for reading in readings]
        if progress:
            progress(1, len(kept))
    return lines


def _plain(reading: Reading) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(reading)


def plain_lines(readings: Sequence[Reading]) -> str:
    """As JSON Lines."""
    return "".join(json.dumps(_plain(reading)) + "\n" for reading in readings)


def read_lines(path: Path) -> list[Reading]:
    """Read the lines that :func:`plain_lines` wrote."""
    return [
        Reading(**{**line, "score": Score(**line["score"]), "shuffled": Score(**line["shuffled"])})
        for line in read_jsonl(path)
    ]
