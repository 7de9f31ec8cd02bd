"""Run the arms of a recipe.

Every arm trains on the same rows in the same order with the same seeds and steps, and is asked the same questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coat.ablation.arms import Arm
from coat.config.recipe import Recipe
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.processes import threads_of_each

Progress = Callable[[str, int, int], None]
# Called with a job's name, its steps so far, all of them, and what it does besides.
Watch = Callable[[str, int, int, str], None]

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

    def all_jobs(self) -> list[tuple[Arm, int]]:
        """Every arm and seed; the baseline is one job."""
        return [
            (arm, seed)
            for seed in self.seeds
            for arm in self.arms
            if arm.recipe is not None or seed == self.seeds[0]
        ]  # fmt: skip

    def jobs(self) -> list[tuple[Arm, int]]:
        """Every arm and seed that is not done."""
        return [(arm, seed) for arm, seed in self.all_jobs() if not self.scores_of(arm, seed).is_file()]

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
        train(arm.recipe.seeded(seed), folder, say=say)
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

    Raises:
        CoatError: The plan's folder holds runs of other recipes or answers to other questions, or a job failed.
    """
    from coat.ablation.claim import claim
    from coat.ablation.side_by_side import run_side_by_side

    claim(plan)
    say = progress or (lambda _: None)
    jobs = plan.jobs()
    if ray is None and workers <= 1:
        for arm, seed in jobs:
            say(run_job(plan, arm, seed, base))
        return
    if ray is not None:
        threads = threads_of_each(workers)
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
