"""``accelerate launch ... -m tests.training.accelerated train RECIPE --out RUN``: ``coat``, on CPUs alone.

accelerate shards models on accelerators only. Nothing else about its FSDP asks for one: here processes on CPUs are
allowed it too, so that the shipped configurations are run as they are. Says which engine the first step ran on, and
whether the process had left its group at its end.
"""

import atexit
import os
import sys

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from coat.cli import main
from coat.training.trainer import StageTrainer

make_state = AcceleratorState.__init__
take_step = StageTrainer.training_step


def allow_shards(self, *args, **options):
    make_state(self, *args, **options)
    if options.get("fsdp_plugin") is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = options["fsdp_plugin"]


def named_step(self, *args, **options):
    if self.state.global_step == 0:
        sharded = sum(type(p).__name__ == "DTensor" for p in self.model.parameters())
        sys.stdout.write(f"ENGINE {type(self.model_wrapped).__name__} {sharded}\n")
    return take_step(self, *args, **options)


def say_left():
    sys.stdout.flush()
    os.write(1, f"IN A GROUP {torch.distributed.is_initialized()}\n".encode())  # whole: two processes write to one pipe


def run():
    atexit.register(say_left)  # the first to be registered is the last to be called
    AcceleratorState.__init__ = allow_shards
    StageTrainer.training_step = named_step
    main()


if __name__ == "__main__":
    run()
