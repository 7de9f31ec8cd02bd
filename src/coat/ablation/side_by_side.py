"""Jobs of an ablation in processes side by side, and how far each has come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import redirect_stderr, redirect_stdout
from itertools import chain
from pathlib import Path
from typing import Any

from coat.ablation.arms import Arm
from coat.ablation.plan import Plan, Watch, run_job
from coat.checkpoints.references import is_finished
from coat.config.recipe import Recipe
from coat.processes import cores, pool, threads_of_each

LOOK_SECONDS = 1.0


def share_of_cores(jobs: int) -> int:
    """Number of processes for so many jobs on this machine: one a core, or one alone where an accelerator is shared."""
    import torch

    return 1 if torch.accelerator.is_available() else max(1, min(jobs, cores()))


def run_side_by_side(
    plan: Plan, jobs: Sequence[tuple[Arm, int]], base: Recipe, workers: int, watch: Watch = lambda *_: None
) -> Iterator[str]:
    """Run jobs in processes, each with its share of the cores; what they print goes to ``logs/`` in the plan's folder.

    Args:
        plan: The plan.
        jobs: Its arms and seeds.
        base: The full method's recipe.
        workers: Number of processes.
        watch: Called every second for each job that runs.

    Yields:
        Each job's folder, once it is done.
    """
    threads = threads_of_each(workers)
    (plan.folder / "logs").mkdir(parents=True, exist_ok=True)
    with pool(workers, threads=threads) as several:
        longest_first = sorted(jobs, key=lambda job: -work_of(job[0]))  # none is left alone at the end
        running = {several.submit(_logged, plan, arm, seed, base, threads): (arm, seed) for arm, seed in longest_first}
        while running:
            done, _ = wait(running, LOOK_SECONDS, FIRST_COMPLETED)
            for future in done:
                arm, seed = running.pop(future)
                folder = future.result()
                steps = max(1, steps_of(arm))  # a job without steps has a full bar too
                watch(name_of(arm, seed), steps, steps, "done")
                yield folder
            for future, (arm, seed) in running.items():
                run = plan.run_of(arm, seed)
                if not future.running():
                    continue
                if arm.recipe is None or is_finished(run):
                    watch(name_of(arm, seed), steps_of(arm), steps_of(arm), "answers questions")
                else:
                    watch(name_of(arm, seed), steps_done(run, arm), steps_of(arm), "")


def name_of(arm: Arm, seed: int) -> str:
    """A job by its arm's title and seed."""
    return arm.title if arm.recipe is None else f"{arm.title}, seed {seed}"


def steps_of(arm: Arm) -> int:
    """Steps of all stages; none of an arm that is not trained."""
    return sum(stage.steps for stage in arm.recipe.stages) if arm.recipe else 0


def work_of(arm: Arm) -> float:
    """Training of an arm against that of others, roughly: steps, which the block and every head make longer."""
    if arm.recipe is None:
        return 0.0
    block = 0.5 if arm.recipe.thinking.enabled else 0.0
    return sum(stage.steps * (1 + block + 0.2 * len(stage.experts)) for stage in arm.recipe.stages)


def steps_done(run: Path, arm: Arm) -> int:
    """Steps that a run has logged; its file is another process's, which may be within a line, and is only read."""
    path = run / "metrics.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    if arm.recipe is None or not whole:
        return 0
    last: dict[str, Any] = json.loads(whole[-1])
    before = 0
    for stage in arm.recipe.stages:
        if stage.name == last.get("stage"):
            return before + int(last["step"])
        before += stage.steps
    return 0


def compute_features(full: Recipe, plan: Plan, progress: Callable[[str, int, int], None]) -> None:
    """Compute once what processes side by side would each begin with.

    Args:
        full: The full method's recipe.
        plan: The plan, whose seeds may have rows of their own.
        progress: Called with clips: what, how many now, and in all.
    """
    if not full.data.cache:
        return
    from coat.checkpoints.building import frozen_dtype
    from coat.data.index import open_manifest
    from coat.features.store import FeatureJob, audio_of, prepare

    store = FeatureJob.of(full, dtype=frozen_dtype(full)).open()
    manifests = dict.fromkeys(path for seed in plan.seeds for path in full.seeded(seed).data.manifests())
    prepare(store, audio_of(chain.from_iterable(open_manifest(path) for path in manifests)), progress=progress)


def _logged(plan: Plan, arm: Arm, seed: int, base: Recipe, threads: int) -> str:
    path = plan.folder / "logs" / f"{plan.run_of(arm, seed).name}.log"
    with path.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):

        def say(line: str) -> None:
            log.write(f"{line}\n")

        return run_job(plan, arm, seed, base, threads, say=say)
