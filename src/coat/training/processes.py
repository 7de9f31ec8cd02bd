"""The processes that train together: one, or those of ``torchrun`` and ``accelerate launch``."""

from __future__ import annotations

import atexit
import sys
from datetime import timedelta

import torch
from accelerate import DistributedType, PartialState

# One process indexes millions of rows or fills a cache while the others wait: longer than the usual ten minutes.
PATIENCE = timedelta(hours=6)


def processes() -> PartialState:
    """Who this process is among how many; joins them at the first call."""
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def shared(state: PartialState) -> bool:
    """Whether an engine for several processes wraps the model, be it for one alone."""
    return bool(state.distributed_type != DistributedType.NO)


def leave_at_exit() -> None:
    """Leave the others before the interpreter is taken apart, at a point where all of them are done.

    A group that is still there then may abort its process, and so a run that has ended well. A process that ends by
    an error does not wait for others that may wait for it.
    """
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized() and getattr(sys, "last_value", None) is None:
        torch.distributed.destroy_process_group()
