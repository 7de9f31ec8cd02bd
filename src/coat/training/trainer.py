"""One stage of training on ``transformers.Trainer``: Eq. 4, normalised over the whole effective batch."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from coat.config.recipe import StageConfig, TrainingConfig
from coat.data.batching import LengthGroupedBatches
from coat.experts.base import Expert
from coat.losses import masked_sum, response_cross_entropy
from coat.thinking.batch import Batch
from coat.thinking.model import CoatModel, CoatOutput
from coat.training.checkpoint import load_weights, save_weights
from coat.training.dataset import ManifestDataset, TrainingCollator
from coat.training.monitors import collapse_metrics
from coat.training.targets import expert_targets


@dataclass(frozen=True)
class Totals:
    """What the losses of one optimizer step are divided by, over all micro-batches and processes."""

    response_tokens: int
    think_tokens: int


class BatchTrainer(Trainer):
    """``transformers.Trainer`` on :class:`Batch` objects, in this project's order of rows.

    Args:
        model: What to train.
        dataset: Rows.
        lengths: Seconds of audio in each row.
        collator: Rows to batches.
        args: The Trainer's arguments; ``max_steps`` must be set.
        callbacks: Progress and metrics; the Trainer's own bar and printer are taken out.
        group_by_length: Put clips of like length together.
    """

    # Losses are divided by the effective batch's own totals; the Trainer must not divide again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module,
        *,
        dataset: ManifestDataset,
        lengths: Tensor,
        collator: TrainingCollator,
        args: TrainingArguments,
        callbacks: list[Any],
        group_by_length: bool = True,
    ) -> None:
        self._lengths, self._group = lengths, group_by_length
        super().__init__(model=model, args=args, train_dataset=dataset, data_collator=collator, callbacks=callbacks)
        for unwanted in (PrinterCallback, ProgressCallback):
            self.remove_callback(unwanted)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All steps as one pass over the data, so that resuming is a matter of skipping batches."""
        batches = LengthGroupedBatches(
            self._lengths.tolist(),
            steps=self.args.max_steps,
            batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            micro_batch_size=self.args.train_batch_size,
            seed=self.args.seed,
            group=self._group,
        )
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_num_workers > 0,
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Any]:
        """The micro-batches of one optimizer step, and what their losses are divided by."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        counts = torch.tensor(
            [sum(b.num_response_tokens for b in batches), sum(b.num_think_tokens for b in batches)], device=device
        )
        totals = self.accelerator.reduce(counts, "sum")
        return batches, Totals(*(max(1, int(total)) for total in totals))

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: the Trainer's formula knows no audio tower and no frozen parts."""
        del inputs
        return 0

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)


class StageTrainer(BatchTrainer):
    """Trains one stage.

    Args:
        model: The model, with LoRA and heads.
        experts: Every expert by name.
        weights: w_k of the active ones.
        keep_checkpoints: How many to keep.
        **options: See :class:`BatchTrainer`.
    """

    def __init__(
        self,
        model: CoatModel,
        *,
        experts: dict[str, Expert],
        weights: dict[str, float],
        keep_checkpoints: int = 2,
        **options: Any,
    ) -> None:
        self.experts, self.weights, self.keep_checkpoints = experts, weights, keep_checkpoints
        self._parts: dict[str, float] = defaultdict(float)
        self._monitor: dict[str, float] = {}
        self._logged_at = 0
        super().__init__(model, **options)
        for expert in experts.values():
            expert.to(self.args.device)

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """L_total of Eq. 4 for one micro-batch, as its share of the effective batch's loss."""
        totals: Totals = num_items_in_batch
        output: CoatOutput = model(inputs, list(self.weights))
        parts = {"ce": response_cross_entropy(output.response_logits, output.response_labels) / totals.response_tokens}
        for name in self.weights:
            parts[name] = self._expert_loss(name, inputs, output) / totals.think_tokens
        loss = parts["ce"] + sum(weight * parts[name] for name, weight in self.weights.items())
        for name, value in parts.items():
            self._parts[name] += float(value.detach())
        if output.think_hidden is not None and self._logs_next():
            assert output.think_mask is not None
            self._monitor = collapse_metrics(output.think_hidden, output.think_mask)
        # Processes average their gradients; the totals above already count every process.
        loss = loss * self.args.world_size
        return (loss, output) if return_outputs else loss

    def _expert_loss(self, name: str, batch: Batch, output: CoatOutput) -> Tensor:
        if output.think_hidden is None or output.think_mask is None:
            return output.response_logits.new_zeros(())
        assert output.audio_embeddings is not None
        assert output.audio_lengths is not None
        target = expert_targets(
            self.experts[name], batch, output.audio_embeddings, output.audio_lengths, self.model.builder
        )
        with torch.autocast(target.device.type, enabled=False):  # logits of a shared classifier need full precision
            frame_losses = self.experts[name].loss(output.predictions[name].float(), target, output.think_mask)
        return masked_sum(frame_losses, output.think_mask)

    def _logs_next(self) -> bool:
        return (self.state.global_step + 1) % self.args.logging_steps == 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every loss since the last line, and the collapse metrics."""
        if "loss" in logs and self._parts:
            since = self.state.global_step - self._logged_at
            logs |= {f"loss/{name}": total / since for name, total in self._parts.items()}
            logs |= self._monitor
            self._parts.clear()
            self._logged_at = self.state.global_step
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        save_weights(self.accelerator.unwrap_model(self.model), Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint), trainable=True)
        self._logged_at = int(Path(resume_from_checkpoint).name.rpartition("-")[2])

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / ".partial")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint aside and move it into place: a killed run never leaves half of one."""
        partial, folder = Path(self._get_output_dir(trial)), Path(self.args.output_dir)
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            for made in partial.glob("checkpoint-*"):
                shutil.rmtree(folder / made.name, ignore_errors=True)
                made.rename(folder / made.name)
            for old in list_checkpoints(folder)[: -self.keep_checkpoints]:
                shutil.rmtree(old)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a stage, oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def uses_bf16(precision: str) -> bool:
    """Whether frozen weights are held, and products computed, in bf16."""
    return precision == "bf16" or (precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported())


def training_arguments(folder: Path, stage: StageConfig, training: TrainingConfig) -> TrainingArguments:
    """The Trainer's arguments for one stage of a recipe."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    per_step = training.micro_batch_size * processes
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.batch_size // per_step,
        learning_rate=stage.learning_rate,
        weight_decay=training.weight_decay,
        warmup_steps=round(training.warmup_ratio * stage.steps),
        lr_scheduler_type=training.schedule,
        max_grad_norm=training.max_grad_norm,
        bf16=uses_bf16(training.precision),
        use_cpu=not torch.accelerator.is_available(),
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,
        save_steps=training.save_every,
        save_total_limit=None,
        seed=training.seed,
        dataloader_num_workers=training.workers,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
    )
