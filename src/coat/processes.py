"""Processes that work for this one, and do not outlive it.

They are loky's: each begins with an interpreter of its own. A fork of a process that has threads can wait for ever for
a lock that one of them held; and a script that calls this library needs no ``if __name__ == "__main__"`` for it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from loky import ProcessPoolExecutor

Given = TypeVar("Given")
Made = TypeVar("Made")

LOOK_SECONDS, GRACE_SECONDS = 1.0, 120.0


def cores() -> int:
    """Number of cores that this process may use: without those that a scheduler or a container keeps from it."""
    from loky import cpu_count

    return int(cpu_count())


def threads_of_each(count: int) -> int:
    """Threads of each of several processes side by side: its share of the cores, and no more than OMP_NUM_THREADS.

    Args:
        count: Number of processes.
    """
    share = max(1, cores() // max(1, count))
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(share, max(1, int(asked))) if asked.isdigit() else share


def pool(
    count: int, *, threads: int | None = None, begin: Callable[..., None] | None = None, given: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """Processes for long jobs, as ``concurrent.futures`` has them.

    Where this process is killed, each is asked to stop as by a scheduler (SIGTERM: a training saves first), and ends.

    Args:
        count: Number of processes.
        threads: Threads of each; PyTorch's own choice if None.
        begin: Called in each process before its first job.
        given: Arguments of ``begin``.
    """
    from loky import ProcessPoolExecutor

    class Pool(ProcessPoolExecutor):
        def submit(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
            return super().submit(_job, os.getpid(), function, *args, **options)

    env = None if threads is None else {"OMP_NUM_THREADS": str(threads)}
    return Pool(count, initializer=_begin, initargs=(os.getpid(), begin, given), env=env)


def each(function: Callable[[Given], Made], items: Sequence[Given], *, workers: int, chunk: int = 1) -> Iterator[Made]:
    """``map(function, items)`` by several processes, in order; in this one where there is work for one alone.

    Args:
        function: A function that a module has, so that other processes find it.
        items: Its arguments.
        workers: Number of processes.
        chunk: Items that are sent at a time.

    Example:
        >>> list(each(len, ["a", "bc"], workers=2, chunk=8))
        [1, 2]
    """
    workers = min(workers, -(-len(items) // chunk))
    if workers <= 1:
        yield from map(function, items)
        return
    several = pool(workers, threads=1, begin=_leave_interrupts)
    try:
        yield from several.map(function, items, chunksize=chunk)
    except BaseException:
        several.shutdown(kill_workers=True)
        raise
    several.shutdown()


def _begin(parent: int, begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if begin:
        begin(*given)


def _job(parent: int, function: Callable[..., Made], *args: Any, **options: Any) -> Made:
    """Do it, and end there if nobody waits for it any more: what stands in the queue is not begun."""
    try:
        return function(*args, **options)
    finally:
        if os.getppid() != parent:
            os._exit(1)


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the one that started this one ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with(parent: int) -> None:
    """End once the process that started this one is gone, which is when another has adopted it."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)
