"""The processes that train together: one, or those of ``torchrun`` and ``accelerate launch``."""

from __future__ import annotations

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
