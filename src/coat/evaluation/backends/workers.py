"""Several processes that answer side by side, each with a model of its own: a GPU each, on one machine or on a cluster.

Each is given some batches of questions of like length at a time. Clips are decoded here and sent along: workers on
other machines need the model, and none of the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any, Protocol

from coat.audio import Clip
from coat.errors import CoatError
from coat.evaluation.backends.base import Request
from coat.evaluation.backends.opening import BackendOptions, open_backend
from coat.generation import Reply
from coat.generation.many import LOADERS
from coat.processes import pool, threads_of_each

# Parts that wait at each worker, so that none is idle while the next is decoded.
AHEAD = 2
# Batches in a part, where there are questions enough for all workers: in each, the last answers are waited for.
BATCHES = 4

Answers = list[tuple[int, Reply | Exception]]


@dataclass(frozen=True)
class About:
    """A backend, described; see :class:`coat.evaluation.backends.base.Backend`.

    Attributes:
        name: Its name.
        model_path: The model's path or name.
        fingerprint: Key of weights and settings.
        profile: The family whose prompts are used.
        reasoning: The sentence that asks for a chain of thought.
    """

    name: str
    model_path: str
    fingerprint: str
    profile: str
    reasoning: str


class Answerer:
    """A worker's model.

    Args:
        model_path: See :func:`coat.evaluation.backends.opening.open_backend`.
        options: Options of generation.
        threads: Threads of this process.
    """

    def __init__(self, model_path: str, options: BackendOptions, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.backend, self.reasoning = open_backend(model_path, options)

    def about(self) -> About:
        """The backend's description."""
        backend = self.backend
        return About(backend.name, backend.model_path, backend.fingerprint, backend.profile, self.reasoning)

    def answer(self, requests: Sequence[Request]) -> Answers:
        """Index and reply of each; errors come in a form that every process can read."""
        return [(index, _sendable(reply)) for index, reply in self.backend.answer(requests)]


class Workers(Protocol):
    """Where answerers are."""

    count: int

    def about(self) -> Future[About]:
        """The description that one of them gives."""

    def answer(self, requests: Sequence[Request]) -> Future[Answers]:
        """Replies of one of them, whichever is free."""

    def close(self) -> None:
        """End them."""


class LocalWorkers:
    """Processes of this machine: each has a GPU of its own, or its share of the cores.

    Args:
        model_path: See :func:`coat.evaluation.backends.opening.open_backend`.
        options: Options of generation.
        count: Number of processes.

    Raises:
        CoatError: There are fewer GPUs.
    """

    def __init__(self, model_path: str, options: BackendOptions, count: int) -> None:
        self.count = count
        from loky.backend import get_context

        devices = get_context().Queue()
        for device in _devices(count):
            devices.put(device)
        threads = threads_of_each(count)
        self._pool = pool(count, threads=threads, begin=_begin, given=(devices, model_path, options, threads))

    def about(self) -> Future[About]:
        """See :class:`Workers`."""
        return self._pool.submit(_about)

    def answer(self, requests: Sequence[Request]) -> Future[Answers]:
        """See :class:`Workers`."""
        return self._pool.submit(_answer, requests)

    def close(self) -> None:
        """See :class:`Workers`."""
        self._pool.shutdown(kill_workers=True)


class RayWorkers:
    """Actors of a Ray cluster, each with a GPU where the cluster has some.

    Args:
        model_path: A path that all machines have, or a hub id.
        options: Options of generation.
        address: The cluster's, or ``local`` for one of this machine.
        count: Number of actors; as many as there are GPUs, or machines where there are none, if None.
    """

    def __init__(self, model_path: str, options: BackendOptions, address: str, count: int | None) -> None:
        from coat.features.cluster import connected

        ray = connected(address)
        gpus, nodes = int(ray.cluster_resources().get("GPU", 0)), len(ray.nodes())
        self.count = count or gpus or nodes
        wants: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        make = ray.remote(Answerer).options(**wants).remote
        self._actors = [make(model_path, options, 1) for _ in range(self.count)]
        self._busy = [0] * self.count

    def about(self) -> Future[About]:
        """See :class:`Workers`."""
        return self._actors[0].about.remote().future()

    def answer(self, requests: Sequence[Request]) -> Future[Answers]:
        """See :class:`Workers`."""
        place = min(range(self.count), key=self._busy.__getitem__)
        self._busy[place] += 1
        future: Future[Answers] = self._actors[place].answer.remote(list(requests)).future()
        future.add_done_callback(lambda _: self._free(place))
        return future

    def _free(self, place: int) -> None:
        self._busy[place] -= 1

    def close(self) -> None:
        """See :class:`Workers`."""
        import ray

        for actor in self._actors:
            ray.kill(actor)


def open_workers(
    model_path: str, options: BackendOptions, *, count: int | None = None, ray: str | None = None
) -> WorkersBackend:
    """Open a model in several processes.

    Args:
        model_path: See :func:`coat.evaluation.backends.opening.open_backend`.
        options: Options of generation.
        count: Processes; on a cluster as many as it has GPUs, or machines, if None.
        ray: Address of a Ray cluster, ``local`` for one of this machine; processes of this machine if None.

    Raises:
        CoatError: The model cannot be opened, or by transformers alone, or there are not enough GPUs.
    """
    if options.backend != "transformers" or model_path.startswith(("http://", "https://")):
        raise CoatError(
            "Workers are for --backend transformers.",
            "vLLM has its own: --engine data_parallel_size=4. An address takes --concurrency.",
        )
    if ray is not None:
        return WorkersBackend(RayWorkers(model_path, options, ray, count), options.batch_size)
    return WorkersBackend(LocalWorkers(model_path, options, count or 1), options.batch_size)


class WorkersBackend:
    """Answers by several workers; see :class:`coat.evaluation.backends.base.Backend`.

    Args:
        workers: They open the same model.
        batch_size: Questions at a time.

    Raises:
        CoatError: The model cannot be opened.
    """

    def __init__(self, workers: Workers, batch_size: int) -> None:
        self.workers, self.batch_size = workers, batch_size
        try:
            about = workers.about().result()
        except BaseException:
            workers.close()
            raise
        self.name, self.model_path, self.fingerprint = about.name, about.model_path, about.fingerprint
        self.profile, self.reasoning = about.profile, about.reasoning

    def __enter__(self) -> WorkersBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.workers.close()

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Exception]]:
        """See :class:`coat.evaluation.backends.base.Backend`."""
        running: dict[Future[Answers], list[int]] = {}
        with ThreadPoolExecutor(LOADERS) as pool:
            for part in _parts(requests, self.batch_size, self.workers.count):
                loaded = list(pool.map(lambda index: _loaded(requests[index]), part))
                good = [index for index, found in zip(part, loaded, strict=True) if isinstance(found, Request)]
                yield from ((i, found) for i, found in zip(part, loaded, strict=True) if isinstance(found, Exception))
                if good:
                    held = [found for found in loaded if isinstance(found, Request)]
                    running[self.workers.answer(held)] = good
                while len(running) >= AHEAD * self.workers.count:
                    yield from _finished(running)
            while running:
                yield from _finished(running)


def _finished(running: dict[Future[Answers], list[int]]) -> Iterator[tuple[int, Reply | Exception]]:
    """Replies of the parts that are done; waits for one."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        indices = running.pop(future)
        yield from ((indices[place], reply) for place, reply in future.result())


def _parts(requests: Sequence[Request], batch_size: int, workers: int) -> Iterator[list[int]]:
    """Places of requests of like length, the longest first: whole batches, a few parts at least for each worker."""
    order = sorted(range(len(requests)), key=lambda place: -requests[place].seconds)
    batches = min(BATCHES, max(1, len(requests) // (batch_size * workers * (AHEAD + 1))))
    size = batches * batch_size
    yield from (order[start : start + size] for start in range(0, len(order), size))


def _loaded(request: Request) -> Request | Exception:
    """The request with its clips decoded, or what is wrong with them."""
    try:
        return replace(request, load=partial(_given, request.load()))
    except Exception as error:  # of one request; the caller names it
        return error


def _given(clips: list[Clip]) -> list[Clip]:
    return clips


def _sendable(reply: Reply | Exception) -> Reply | Exception:
    if isinstance(reply, Reply | CoatError):
        return reply
    return CoatError(f"{type(reply).__name__}: {reply}")


def _devices(count: int) -> list[str | None]:
    """A GPU for each process by its place in CUDA_VISIBLE_DEVICES; None where there are none.

    Raises:
        CoatError: There are fewer.
    """
    import torch

    if not torch.cuda.is_available():
        return [None] * count
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    seen = named.split(",") if named else [str(place) for place in range(torch.cuda.device_count())]
    if count > len(seen):
        raise CoatError(f"{count} workers want a GPU each, and there are {len(seen)}.", f"--workers {len(seen)}")
    return list(seen[:count])


# Of a worker's process: how its model is opened, and the model once it is.
_opening: partial[Answerer] | None = None
_mine: Answerer | None = None


def _begin(devices: Queue[str | None], model_path: str, options: BackendOptions, threads: int) -> None:
    global _opening
    device = devices.get()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    _opening = partial(Answerer, model_path, options, threads)


def _answerer() -> Answerer:
    """Opened with the first question, so that an error in it arrives as one."""
    global _mine
    if _mine is None:
        assert _opening is not None
        _mine = _opening()
    return _mine


def _about() -> About:
    return _answerer().about()


def _answer(requests: Sequence[Request]) -> Answers:
    return _answerer().answer(requests)
