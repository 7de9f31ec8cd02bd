"""The same features by many machines: units of work through Ray Data.

Each worker loads its sources once, and writes whole shards to storage that all machines share. A worker that
dies is replaced and its unit done again, under the same name: nothing is lost, nothing is there twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from coat.errors import CoatError
from coat.features.store import FeatureJob, FeatureStore, Progress, Unit


class UnitWorker:
    """The work of one Ray actor.

    Args:
        job: The features to compute.
        units: All of them; each actor has the list, and is told places in it.
    """

    def __init__(self, job: FeatureJob, units: Sequence[Unit]) -> None:
        self.store, self.units = job.open(), units

    def __call__(self, row: Mapping[str, Any]) -> dict[str, int]:
        """Compute a unit."""
        return {"unit": int(row["unit"]), "clips": self.store.run(self.units[int(row["unit"])])}


def compute_on_ray(
    store: FeatureStore,
    job: FeatureJob,
    units: Sequence[Unit],
    address: str,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Run units on a Ray cluster.

    Args:
        store: The same job's feature store in this process; it finds the shards afterwards.
        job: The features to compute.
        units: From :meth:`FeatureStore.plan`.
        address: Address of the cluster, ``auto`` for the one this machine belongs to, or ``local`` for one of its own.
        workers: Actors; one for each GPU of the cluster, or for each core where there is none.
        progress: See :func:`coat.features.store.prepare`.

    Raises:
        CoatError: Ray is not installed, or there is no cluster.
    """
    ray = connected(address)
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    count = min(workers or gpus or int(resources.get("CPU", 1)), len(units))
    if not count:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False
    # A block a unit: what is lost with a worker is what it was at.
    data = ray.data.from_items([{"unit": index} for index in range(len(units))], override_num_blocks=len(units))
    done = data.map(
        UnitWorker,
        fn_constructor_args=(job, list(units)),
        concurrency=count,
        num_gpus=1 if gpus else 0,
        num_cpus=0 if gpus else 1,
    )
    total = sum(len(unit.sounds) for unit in units)
    for row in done.iter_rows():
        if progress:
            progress("features", row["clips"], total)
    store.refresh()


def connected(address: str) -> Any:
    """Ray, connected to a cluster, or to the one that this process is connected to.

    Raises:
        CoatError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise CoatError(
            "Ray is not installed.", "pip install 'coat-audio[scale]', here and on every machine of the cluster."
        ) from None
    if ray.is_initialized():
        return ray
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise CoatError(
            f"There is no Ray cluster at {address}: {error}", "Start one (ray start --head), or take --ray local."
        ) from None
    return ray
