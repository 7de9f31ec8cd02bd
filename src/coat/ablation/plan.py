"""Run the arms of a recipe, and compare them over seeds.

Every arm trains on the same rows in the same order with the same seeds and steps, and is asked the same questions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coat.ablation.arms import Arm, seeded
from coat.config.recipe import Recipe
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.evaluation.statistics import Score
from coat.files import write_whole

Progress = Callable[[str, int, int], None]
# Called with a job's name, its steps so far, all of them, and what it does besides.
Watch = Callable[[str, int, int, str], None]
# That have an interval: Student's of two is nine times their standard deviation, either way.
FEWEST_SEEDS = 3

if TYPE_CHECKING:
    from coat.thinking.model import ThinkingModel
    from coat.thinking.prompt import PromptBuilder


@dataclass(frozen=True)
class Plan:
    """The runs of an ablation and how they are evaluated.

    Attributes:
        folder: Everything goes there.
        arms: The arms.
        seeds: Seeds of training.
        tasks: Tasks, as :func:`coat.evaluation.sources.open_tasks` takes them.
        data: Path of the tasks' rows.
        limit: Items a task at most.
        max_new_tokens: Longest answer to a manifest's question, in tokens.
        batch_size: Questions at a time.
    """

    folder: Path
    arms: Sequence[Arm]
    seeds: Sequence[int]
    tasks: Sequence[str]
    data: str | None = None
    limit: int | None = None
    max_new_tokens: int = 64
    batch_size: int = 32

    def run_of(self, arm: Arm, seed: int) -> Path:
        """Folder of an arm and seed; the baseline has no seed."""
        return self.folder / (arm.name if arm.recipe is None else f"{arm.name}-seed{seed}")

    def jobs(self) -> list[tuple[Arm, int]]:
        """Every arm and seed that is not done."""
        jobs = [
            (arm, seed)
            for seed in self.seeds
            for arm in self.arms
            if arm.recipe is not None or seed == self.seeds[0]
        ]  # fmt: skip
        return [(arm, seed) for arm, seed in jobs if not self.scores_of(arm, seed).is_file()]

    def scores_of(self, arm: Arm, seed: int) -> Path:
        """Where an arm's scores are, once it is done."""
        return self.run_of(arm, seed) / "eval" / "scores-strict.json"


def run_job(
    plan: Plan,
    arm: Arm,
    seed: int,
    base: Recipe,
    threads: int | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> str:
    """Train an arm with a seed and ask it; what is done already is left as it is.

    Args:
        plan: The plan.
        arm: The arm.
        seed: Seed of training.
        base: The full method's recipe, whose backbone is the baseline's.
        threads: That this process may use.
        say: Called with each line for the user.
        progress: Called with questions that are answered: what, how many now, and in all.

    Returns:
        The arm's folder.
    """
    import torch

    from coat.backbones import backbone_class
    from coat.checkpoints import Checkpoint, load_model, resolve
    from coat.checkpoints.building import frozen_dtype
    from coat.checkpoints.fingerprint import checkpoint_fingerprint
    from coat.checkpoints.references import run_in
    from coat.hub import locate
    from coat.training.run import train

    if threads:
        torch.set_num_threads(threads)
    folder = plan.run_of(arm, seed)
    if arm.recipe is None:
        ref: Checkpoint = resolve(locate(base.backbone.path or backbone_class(base.backbone.family).hub_id))
        model = load_model(ref, dtype=frozen_dtype(base))
    else:
        train(seeded(arm.recipe, seed), folder, say=say)
        ref = run_in(folder)
        model = load_model(ref, answers_only=True)
    ask(plan, model, checkpoint_fingerprint(ref), folder / "eval", progress=progress)
    return str(folder)


def ask(
    plan: Plan,
    model: ThinkingModel,
    weights: str,
    folder: Path,
    *,
    thinking: ThinkingConfig | None = None,
    builder: PromptBuilder | None = None,
    progress: Progress | None = None,
) -> None:
    """Ask a model a plan's questions, and score its answers; what is answered already is left as it is.

    Args:
        plan: The plan.
        model: In evaluation mode.
        weights: Their fingerprint.
        folder: Folder of the answers.
        thinking: See :class:`coat.evaluation.backends.transformers.TransformersBackend`.
        builder: See :class:`coat.evaluation.backends.transformers.TransformersBackend`.
        progress: As for :func:`run_job`.

    Raises:
        CoatError: A question failed, or a row cannot be asked.
    """
    from coat.evaluation.asking import ask_and_score
    from coat.evaluation.backends.transformers import TransformersBackend

    backend = TransformersBackend(
        model,
        model_path=str(folder),
        fingerprint=weights,
        thinking=thinking,
        builder=builder,
        batch_size=plan.batch_size,
    )
    ask_and_score(
        backend,
        plan.tasks,
        folder,
        sample=plan.folder / "sample",
        data=plan.data,
        limit=plan.limit,
        max_new_tokens=plan.max_new_tokens,
        progress=progress,
    )


def run_plan(
    plan: Plan,
    base: Recipe,
    *,
    workers: int = 1,
    ray: str | None = None,
    progress: Callable[[str], None] | None = None,
    watch: Watch = lambda *_: None,
) -> None:
    """Run every job that is not done: one after another, in processes side by side, or on a Ray cluster.

    Args:
        plan: The plan.
        base: The full method's recipe.
        workers: Processes; each takes its share of the cores.
        ray: Address of a cluster, ``local`` for one of its own.
        progress: Called with the folder of a job that is done.
        watch: Called every second for each job that runs in a process beside others.
    """
    from coat.ablation.side_by_side import run_side_by_side

    say = progress or (lambda _: None)
    jobs = plan.jobs()
    if ray is None and workers <= 1:
        for arm, seed in jobs:
            say(run_job(plan, arm, seed, base))
        return
    if ray is not None:
        threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
        done = _on_ray(plan, jobs, base, ray, threads)
    else:
        done = run_side_by_side(plan, jobs, base, workers, watch)
    for folder in done:
        say(folder)


def _on_ray(plan: Plan, jobs: Sequence[tuple[Arm, int]], base: Recipe, address: str, threads: int) -> Iterator[str]:
    try:
        import ray
    except ImportError:
        raise CoatError("Ray is not installed.", "pip install 'coat-audio[scale]'") from None
    import torch

    if not ray.is_initialized():
        ray.init(address=None if address == "local" else address, log_to_driver=False)
    wants = {"num_gpus": 1} if torch.cuda.is_available() else {"num_cpus": threads}
    remote = ray.remote(**wants)(run_job)
    running = [remote.remote(plan, arm, seed, base, threads) for arm, seed in jobs]
    while running:
        done, running = ray.wait(running)
        yield ray.get(done[0])


@dataclass(frozen=True)
class Change:
    """An arm against another on a task, seed by seed.

    Attributes:
        value: Mean difference over seeds.
        low: Lower end of its 95 % interval over seeds (Student's t); not known of fewer than three, for two that agree
            by chance would make it nothing.
        high: Upper end of the interval.
        wins: Seeds in which it is better.
        each: Difference of each seed.
    """

    value: float
    low: float
    high: float
    wins: int
    each: tuple[float, ...]

    @property
    def seeds(self) -> int:
        """Number of seeds compared."""
        return len(self.each)


@dataclass(frozen=True)
class Ablation:
    """Results of an ablation.

    Attributes:
        arms: Names and titles, in order.
        against: Reference arm of each arm.
        seeds: Seeds of training.
        scores: ``{arm: {task: [a score a seed]}}``.
    """

    arms: Mapping[str, str]
    against: Mapping[str, str]
    seeds: Sequence[int]
    scores: Mapping[str, Mapping[str, Sequence[Score]]]

    @property
    def tasks(self) -> list[str]:
        """In order."""
        return list(next(iter(self.scores.values())))

    def values(self, arm: str, task: str) -> np.ndarray:
        """Values by seed; the baseline's is the same for all."""
        found = np.array([score.value for score in self.scores[arm][task]])
        return np.repeat(found, len(self.seeds)) if len(found) == 1 else found

    def mean(self, arm: str, metric: str) -> np.ndarray:
        """By seed, the mean over tasks of one metric's direction: errors (``wer``), or what is right."""
        first = next(iter(self.scores.values()))
        tasks = [task for task in self.tasks if (first[task][0].metric == "wer") == (metric == "wer")]
        return np.mean([self.values(arm, task) for task in tasks], axis=0) if tasks else np.array([])

    def change(self, arm: str, task: str, other: str | None = None) -> Change:
        """An arm against what it is compared with."""
        first = self.values(other or self.against[arm], task)
        better = self.scores[arm][task][0].higher_is_better
        return paired(first, self.values(arm, task), higher_is_better=better)


def paired(first: np.ndarray, second: np.ndarray, *, higher_is_better: bool = True) -> Change:
    """The difference of two arms over seeds, with Student's interval."""
    from scipy.stats import t

    moved = second - first
    wins = int(((moved > 0) if higher_is_better else (moved < 0)).sum())
    mean, half = float(moved.mean()), float("nan")
    if len(moved) >= FEWEST_SEEDS:
        half = float(t.ppf(0.975, len(moved) - 1)) * float(moved.std(ddof=1)) / len(moved) ** 0.5
    return Change(mean, mean - half, mean + half, wins, tuple(moved.tolist()))


def collect(plan: Plan) -> Ablation:
    """Every score of a plan that is done; kept as ``ablation.json``.

    Raises:
        CoatError: A job is not done.
    """
    left = plan.jobs()
    if left:
        raise CoatError(
            f"{len(left)} runs are not done, such as {left[0][0].title}, seed {left[0][1]}.", "Run it again."
        )
    files = {
        arm.name: [plan.scores_of(arm, seed) for seed in (plan.seeds if arm.recipe is not None else plan.seeds[:1])]
        for arm in plan.arms
    }
    titles = {arm.name: arm.title for arm in plan.arms}
    return gather(plan.folder, files, titles, {arm.name: arm.against for arm in plan.arms}, plan.seeds)


def gather(
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    titles: Mapping[str, str],
    against: Mapping[str, str],
    seeds: Sequence[int],
) -> Ablation:
    """Scores of arms out of their files; kept as ``ablation.json``.

    Args:
        folder: Folder to keep them in.
        files: A ``scores-strict.json`` a seed, by arm.
        titles: Titles of arms, for tables.
        against: Reference arm of each arm.
        seeds: Seeds of training.
    """
    scores: dict[str, dict[str, list[Score]]] = {}
    for arm, paths in files.items():
        for path in paths:
            for task in json.loads(path.read_text()):
                scores.setdefault(arm, {}).setdefault(task["task"], []).append(Score(**task["scores"][0]))
    found = Ablation(dict(titles), dict(against), list(seeds), scores)
    plain = {
        "arms": found.arms,
        "against": found.against,
        "seeds": found.seeds,
        "scores": {arm: {task: [asdict(s) for s in each] for task, each in by.items()} for arm, by in scores.items()},
    }
    write_whole(folder / "ablation.json", json.dumps(plain, indent=1))
    return found


def read_ablation(folder: Path) -> Ablation:
    """Read the file that :func:`collect` wrote.

    Raises:
        CoatError: There is none.
    """
    path = folder / "ablation.json"
    if not path.is_file():
        raise CoatError(f"{folder} holds no ablation.", "coat ablate RECIPE --tasks ... --out FOLDER makes one.")
    raw = json.loads(path.read_text())
    scores = {
        arm: {task: [Score(**score) for score in each] for task, each in by_task.items()}
        for arm, by_task in raw["scores"].items()
    }
    return Ablation(raw["arms"], raw["against"], raw["seeds"], scores)
