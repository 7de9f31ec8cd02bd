"""``transformers.Trainer`` whose unit is the optimizer step.

A step's rows come from the loader as a list of batches of like length, which pass one after another. Losses are
divided by what the whole step holds, over all batches and processes, so that 1 x 16, 2 x 8 and 16 x 1 rows give
the same gradients, and one process the same as many. The unit is also what faults are met by: a step whose
gradient is not finite is left out and counted, one that does not fit into memory is done again in smaller parts.

Of the Trainer's methods that are not public, ``_clip_grad_norm`` is overridden here, and ``_save_checkpoint``,
``_get_output_dir`` and ``_load_from_checkpoint`` in ``trainer.py``: hence the upper bound on transformers.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor, nn
from torch.utils.data import DataLoader

from coat.data.batching import Draw, Shuffled, StepRows
from coat.errors import CoatError
from coat.thinking.batch import Batch
from coat.training.dataset import ManifestDataset, TrainingCollator
from coat.training.stock import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

log = logging.getLogger("coat")


@dataclass(frozen=True)
class Totals:
    """Totals of a step over all batches and processes.

    Attributes:
        response_tokens: Response tokens of the step, the divisor of cross-entropy.
        think_tokens: Think tokens of the step, the divisor of every expert's loss.
        passes: Passes of the process with most.
        heard: Whether any row of it holds audio: a step of text alone says nothing of experts.
    """

    response_tokens: int
    think_tokens: int
    passes: int
    heard: bool


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Schedulers signal a whole group of processes; workers end when the trainer has saved, and closes the loader."""
    del worker
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class StepTrainer(Trainer):
    """Trains on lists of :class:`Batch`, in this project's order of rows.

    Args:
        model: The model to train.
        dataset: Rows.
        lengths: Lengths of each row, in any unit.
        collator: Rows to the batches of a step.
        args: The Trainer's arguments; ``max_steps`` must be set.
        callbacks: Progress and metrics; the Trainer's own bar and printer are taken out.
        draw: The order of rows; shuffled if None.
        group_by_length: Put clips of like length together.
        max_bad_steps: Steps in a row whose gradient may be other than finite, or whose rows may all be left out.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module,
        *,
        dataset: ManifestDataset,
        lengths: Any,
        collator: TrainingCollator,
        args: TrainingArguments,
        callbacks: list[Any],
        draw: Draw | None = None,
        group_by_length: bool = True,
        max_bad_steps: int = 10,
    ) -> None:
        self._lengths, self._group, self._draw = lengths, group_by_length, draw
        self.max_bad_steps, self.bad_steps, self.bad_in_a_row = max_bad_steps, 0, 0
        self.skipped_rows, self.empty_in_a_row = 0, 0
        super().__init__(model=model, args=args, train_dataset=dataset, data_collator=collator, callbacks=callbacks)
        for unwanted in (PrinterCallback, ProgressCallback):
            self.remove_callback(unwanted)

    @property
    def shared(self) -> bool:
        """Whether an engine for several processes has wrapped the model: then every pass takes the same way."""
        return self.accelerator.distributed_type != DistributedType.NO

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All steps as one pass over the data, so that resuming is a matter of skipping."""
        args = self.args
        rows = StepRows(
            self._lengths,
            draw=self._draw or Shuffled(len(self.train_dataset), args.seed),
            steps=args.max_steps,
            batch_size=args.train_batch_size * args.world_size,
            seed=args.seed,
            group=self._group,
            rank=args.process_index,
            processes=args.world_size,
        )
        workers = args.dataloader_num_workers
        # Not prepared by accelerate: it would deal out whole steps to processes, which share each one here.
        return DataLoader(
            self.train_dataset,
            batch_sampler=rows,
            collate_fn=self.data_collator,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_signals_to_the_trainer,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[Batch] | CoatError], num_batches: int, device: torch.device
    ) -> tuple[list[list[Batch]], Any]:
        """The batches of one step, and what their losses are divided by."""
        del num_batches
        batches = next(epoch_iterator)
        if isinstance(batches, CoatError):
            raise batches
        for line in batches[0].skipped:
            log.warning("Left out: %s", line)
        own = [
            sum(batch.num_response_tokens for batch in batches),
            sum(batch.num_think_tokens for batch in batches),
            len(batches[0].skipped),
        ]
        counts = torch.tensor(own, device=device)
        passes = torch.tensor([len(batches)], device=device)
        summed = self.accelerator.reduce(counts, "sum").tolist()
        most = int(self.accelerator.gather(passes).max())
        self.skipped_rows += summed[2]
        self.empty_in_a_row = 0 if summed[0] else self.empty_in_a_row + 1
        if self.empty_in_a_row:
            self._note_empty(batches[0].skipped)
        return [batches], Totals(max(1, summed[0]), max(1, summed[1]), most, summed[1] > 0)

    def _note_empty(self, skipped: tuple[str, ...]) -> None:
        """A step all of whose rows, on every process, were left out."""
        log.warning("Step %d left out: none of its rows can be used.", self.state.global_step + 1)
        if self.empty_in_a_row >= self.max_bad_steps:
            raise CoatError(
                f"{self.empty_in_a_row} steps in a row had no row that can be used"
                + (f", such as {skipped[0]}" if skipped else "."),
                "Look at the data: coat data check. The last checkpoint is whole.",
            )

    def training_step(self, model: nn.Module, inputs: list[Batch], num_items_in_batch: Any = None) -> Tensor:
        """All passes of a step, forward and backward; its loss, detached, whose mean over processes is the step's."""
        model.train()
        batches = list(inputs)
        while True:
            try:
                with inputs_as_they_are(model, active=self.args.bf16 and not self.is_deepspeed_enabled):
                    return self._passes(model, batches, num_items_in_batch)
            except torch.OutOfMemoryError as error:
                batches = self._smaller(batches, error)
                model.zero_grad()  # half of a step may be in there

    def _passes(self, model: nn.Module, batches: list[Batch], totals: Totals) -> Tensor:
        # Where processes hold parts of a model for each other, all must pass equally often: the last batch passes
        # again, for nothing.
        idle = max(0, totals.passes - len(batches)) if self.shared else 0
        plan = [(batches[-1], 0.0)] * idle + [(batch, 1.0) for batch in batches]
        loss = torch.zeros((), device=self.args.device)
        for index, (batch, weight) in enumerate(plan):
            last = index == len(plan) - 1
            self.accelerator.sync_gradients = last
            with nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    part = self.compute_loss(model, batch.to(self.args.device), num_items_in_batch=totals)
                self.accelerator.backward(part if weight else part * 0)
            if weight:
                loss = loss + part.detach()
        return loss

    def _smaller(self, batches: list[Batch], error: Exception) -> list[Batch]:
        """The same rows in twice as many passes."""
        most = max(len(batch.input_ids) for batch in batches)
        if self.shared or most == 1:
            raise CoatError(
                f"Memory ran out{' on one row' if most == 1 else ''}: {str(error).splitlines()[0]}",
                "Set training.gradient_checkpointing, less training.micro_batch_size or micro_batch_tokens, or "
                "data.max_tokens; docs/scaling-out.md shows what takes memory.",
            ) from None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = max(1, most // 2)
        log.warning("Memory ran out with %d rows in a pass; going on with %d.", most, size)
        if isinstance(self.data_collator, TrainingCollator):
            self.data_collator.rows = size  # later steps come smaller, from workers too
        return [
            batch.rows(start, min(start + size, len(batch.input_ids)))
            for batch in batches
            for start in range(0, len(batch.input_ids), size)
        ]

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if self.empty_in_a_row:
            model.zero_grad()  # a step without rows changes nothing: neither momentum nor weight decay
            return norm
        if norm is None or bool(torch.isfinite(torch.as_tensor(norm))):
            self.bad_in_a_row = 0
            return norm
        # The same on every process, for gradients are. Without gradients the optimizer leaves all as it is.
        model.zero_grad()
        self.bad_steps += 1
        self.bad_in_a_row += 1
        log.warning("Step %d left out: its gradient is not finite.", self.state.global_step + 1)
        if self.bad_in_a_row >= self.max_bad_steps:
            raise CoatError(
                f"{self.bad_in_a_row} steps in a row had gradients that are not finite, up to step "
                f"{self.state.global_step + 1}.",
                "Lower the learning rate, or look at the data: coat data check. The last checkpoint is whole.",
            )
        return norm

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: the Trainer's formula knows no audio tower and no frozen parts."""
        del inputs
        return 0


@contextmanager
def inputs_as_they_are(model: nn.Module, *, active: bool) -> Iterator[None]:
    """LoRA layers do not widen their inputs to float32, the type of their factors: autocast would narrow them again.

    PEFT's own ``disable_input_dtype_casting`` fails on a model that has trainable token rows (0.21).

    Args:
        model: Holds PEFT's layers.
        active: Whether passes run under autocast.
    """
    widening = (each for each in model.modules() if getattr(each, "cast_input_dtype_enabled", False))
    layers: list[Any] = list(widening) if active else []
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True
