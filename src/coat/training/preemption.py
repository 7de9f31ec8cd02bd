"""Schedulers take machines away with a signal some time before: save, and leave."""

from __future__ import annotations

import signal
import threading
from typing import Any

import torch

from coat.errors import CoatError
from coat.training.processes import leave_at_exit, processes
from coat.training.stock import TrainerCallback

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class PreemptedError(CoatError):
    """A run was asked to stop, and has saved."""

    exit_code = 128 + signal.SIGTERM


class Preemption(TrainerCallback):
    """Saves and stops at the end of the step during which a signal came, to this process or another."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}

    def _hear(self, *_: Any) -> None:
        self.asked = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop if any process was asked to."""
        if args.world_size > 1:
            heard = torch.tensor([int(self.asked)], device=args.device)
            torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
            self.asked = bool(heard)
        if self.asked:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def leave_if_asked(self, step: int) -> None:
        """Leave a run that has stopped early.

        Raises:
            PreemptedError: It has.
        """
        if not self.asked:
            return
        leave_at_exit()
        if processes().is_main_process:
            raise PreemptedError(f"Asked to stop: saved at step {step}.", "The same command goes on from there.")
        raise SystemExit(PreemptedError.exit_code)
