"""One stage of training: Eq. 4, its parts in the log, whole checkpoints."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from coat.checkpoints.devices import uses_bf16
from coat.checkpoints.weights import load_weights, save_weights
from coat.config.recipe import StageConfig, TrainingConfig
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.files import PARTIAL
from coat.losses import masked_loss, response_cross_entropy
from coat.thinking.batch import Batch
from coat.thinking.model import CoatOutput, ThinkingModel
from coat.training.monitors import collapse_metrics
from coat.training.processes import processes
from coat.training.steps import StepTrainer, Totals
from coat.training.stock import TrainingArguments
from coat.training.targets import expert_targets

log = logging.getLogger("coat")


class StageTrainer(StepTrainer):
    """Trains one stage.

    Args:
        model: The model, with LoRA and heads.
        experts: Every expert by name.
        weights: w_k of the active ones.
        keep_checkpoints: Number of checkpoints to keep.
        learning_rates: Learning rates of parts of the backbone, for those that have their own; see
            :meth:`ThinkingModel.part_of`.
        **options: See :class:`StepTrainer`.
    """

    def __init__(
        self,
        model: ThinkingModel,
        *,
        experts: dict[str, Expert],
        weights: dict[str, float],
        keep_checkpoints: int = 2,
        learning_rates: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        self.experts, self.weights, self.keep_checkpoints = experts, weights, keep_checkpoints
        self.learning_rates = dict(learning_rates or {})
        self._parts: dict[str, Tensor] = {}
        self._step_parts: dict[str, Tensor] = {}
        self._monitor: dict[str, float] = {}
        self._logged_at = 0
        self._heard = 0  # steps with audio since then
        super().__init__(model, **options)
        for expert in experts.values():
            expert.to(self.args.device)

    def create_optimizer(self, model: Any = None) -> Any:
        """The Trainer's, with groups of their own for parts that have their own learning rate."""
        optimizer = super().create_optimizer(model)
        if self.learning_rates:
            trained = self.accelerator.unwrap_model(self.model)
            parts = {id(weight): trained.part_of(name) for name, weight in trained.trainable().items()}
            split: list[dict[str, Any]] = []
            for group in optimizer.param_groups:
                for part in (None, *self.learning_rates):
                    inside = [w for w in group["params"] if _own(parts[id(w)], self.learning_rates) == part]
                    rate = group["lr"] if part is None else self.learning_rates[part]
                    split += [{**group, "params": inside, "lr": rate}] if inside else []
            optimizer.param_groups = split
        return optimizer

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """L_total of Eq. 4 for one batch, as its share of the step's loss."""
        totals: Totals = num_items_in_batch
        output: CoatOutput = model(inputs, list(self.weights), whole_path=True)
        parts = {"ce": response_cross_entropy(output.response_logits, output.response_labels) / totals.response_tokens}
        for name in self.weights:
            parts[name] = self.expert_loss(name, inputs, output) / totals.think_tokens
        loss = parts["ce"] + sum(weight * parts[name] for name, weight in self.weights.items())
        if output.idle is not None:
            loss = loss + output.idle
        for name, value in parts.items():
            self._step_parts[name] = self._step_parts.get(name, 0.0) + value.detach()
        if output.think_hidden is not None and self._logs_next():
            assert output.think_mask is not None
            self._monitor = collapse_metrics(output.think_hidden, output.think_mask)
        # Processes average their gradients; the totals above already count every process.
        loss = loss * self.args.world_size
        return (loss, output) if return_outputs else loss

    def _passes(self, model: nn.Module, batches: list[Batch], totals: Totals) -> Tensor:
        self._step_parts = {}
        loss = super()._passes(model, batches, totals)
        self._heard += totals.heard
        for name, value in self._step_parts.items():  # of a whole step: one that ran out of memory has begun anew
            self._parts[name] = self._parts.get(name, 0.0) + torch.nan_to_num(value, 0.0, 0.0, 0.0)
        return loss

    def expert_loss(self, name: str, batch: Batch, output: CoatOutput) -> Tensor:
        """An expert's loss, summed over real frames; zero without audio."""
        if output.think_hidden is None or output.think_mask is None:
            return output.response_logits.new_zeros(())
        assert output.audio_embeddings is not None
        assert output.audio_lengths is not None
        target = expert_targets(
            self.experts[name], batch, output.audio_embeddings, output.audio_lengths, self.model.builder
        )
        with torch.autocast(target.device.type, enabled=False):  # logits of a shared classifier need full precision
            return masked_loss(self.experts[name].loss, output.predictions[name].float(), target, output.think_mask)

    def _logs_next(self) -> bool:
        return (self.state.global_step + 1) % self.args.logging_steps == 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every loss since the last line, and the collapse metrics."""
        if "loss" in logs and self._parts:
            since = self.state.global_step - self._logged_at
            names = sorted(self._parts)
            sums = self.accelerator.reduce(torch.stack([self._parts[name] for name in names]), "sum")
            steps = [since if name == "ce" else max(1, self._heard) for name in names]
            means = sums / sums.new_tensor(steps)
            logs |= {f"loss/{name}": value for name, value in zip(names, means.tolist(), strict=True)}
            logs |= self._monitor
            logs |= {name: count for name, count in (("bad_steps", self.bad_steps), ("skipped_rows", self.skipped_rows))
                     if count}  # fmt: skip
            self._parts.clear()
            self._logged_at = self.state.global_step
            self._heard = 0
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Adapter and heads; every process takes part, for each may hold shards of them."""
        del _internal_call
        folder = Path(output_dir or self.args.output_dir)
        save_weights(self.accelerator.unwrap_model(self.model), folder, writes=self.args.should_save)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint), trainable=True)
        self._logged_at = int(Path(resume_from_checkpoint).name.rpartition("-")[2])

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / PARTIAL)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint aside and move it into place: a killed run never leaves half of one."""
        partial, folder = Path(self._get_output_dir(trial)), Path(self.args.output_dir)
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
        except (RuntimeError, SafetensorError) as error:  # what torch and safetensors make of a failed write
            raise OSError(errno.EIO, str(error)) from None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            for made in partial.glob("checkpoint-*"):
                shutil.rmtree(folder / made.name, ignore_errors=True)
                made.rename(folder / made.name)
            for old in list_checkpoints(folder)[: -self.keep_checkpoints]:
                shutil.rmtree(old)


def _own(part: str | None, rates: Mapping[str, float]) -> str | None:
    return part if part in rates else None


def unwritable(folder: Path, step: int, error: OSError) -> CoatError:
    """The error for a stage's folder that could not be written to, be it a checkpoint or a line of metrics."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    last = next(reversed(list_checkpoints(folder)), None)
    free = shutil.disk_usage(folder).free / 1e6
    return CoatError(
        f"Step {step} could not be written to {folder}: {error.strerror or error}. {free:.0f} MB are free there; "
        + (f"{last.name} is whole." if last else "there is no checkpoint yet."),
        "Make room and give the same command: it goes on from the last checkpoint.",
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a stage, oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def training_arguments(folder: Path, stage: StageConfig, training: TrainingConfig) -> TrainingArguments:
    """The Trainer's arguments for one stage of a recipe."""
    count = processes().num_processes
    if training.batch_size % count:
        raise CoatError(
            f"{count} processes cannot share training.batch_size {training.batch_size} evenly.",
            "Take a batch size that they divide.",
        )
    return OneDeviceArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=training.batch_size // count,
        learning_rate=stage.learning_rate,
        weight_decay=training.weight_decay,
        warmup_steps=round(training.warmup_ratio * stage.steps),
        lr_scheduler_type=training.schedule,
        max_grad_norm=training.max_grad_norm,
        bf16=uses_bf16(training.precision),
        use_cpu=not torch.accelerator.is_available(),
        logging_steps=training.logging_steps,
        logging_nan_inf_filter=True,
        save_steps=training.save_steps,
        save_total_limit=None,
        seed=training.seed,
        dataloader_num_workers=training.workers,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        report_to=training.report_to,
        disable_tqdm=True,
    )


class OneDeviceArguments(TrainingArguments):
    """One device a process. The Trainer would spread one process over every GPU, and multiply the batch by them."""

    def __post_init__(self) -> None:
        """Say that there are more."""
        super().__post_init__()
        there = super().n_gpu
        if there > 1:
            log.warning(
                "%d GPUs are here and one is used. For all of them: torchrun --nproc-per-node %d -m coat train ...",
                there,
                there,
            )

    @property
    def n_gpu(self) -> int:
        """At most one."""
        return min(1, super().n_gpu)
