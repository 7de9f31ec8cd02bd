"""Losses on rows that are not trained on, while training: the best weights are kept, and a stage may end early."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from coat.checkpoints.weights import load_weights, save_weights
from coat.data.batching import micro_batches
from coat.data.index import Manifest
from coat.files import read_jsonl, write_jsonl, write_whole
from coat.losses import response_cross_entropy
from coat.thinking.batch import Batch
from coat.training.stock import TrainerCallback

if TYPE_CHECKING:
    from coat.training.trainer import StageTrainer

ROWS_AT_ONCE = 64
BEST = "best"


@torch.no_grad()
def held_out_losses(trainer: StageTrainer, rows: Manifest) -> dict[str, float]:
    """Cross-entropy of an answer's token and every active expert's loss of a frame, over all rows.

    Args:
        trainer: The trainer of the stage; its processes share the rows.
        rows: Held-out rows.
    """
    args, collator = trainer.args, trainer.data_collator
    trainer.model.eval()
    names = ["ce", *trainer.weights]
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    own = list(range(args.process_index, len(rows), args.world_size))
    order = sorted(own, key=lambda place: float(rows.seconds[place]))
    chunks = micro_batches(range(len(order)), rows=ROWS_AT_ONCE, tokens=None)
    batches = (batch for places in chunks for batch in collator.batches([rows[order[place]] for place in places]))
    for batch, counted in _evenly(trainer, batches):
        moved = batch.to(args.device)
        with trainer.compute_loss_context_manager():
            output = trainer.model(moved, list(trainer.weights))
            if not counted:
                continue
            sums["ce"] += float(response_cross_entropy(output.response_logits, output.response_labels))
            counts["ce"] += batch.num_response_tokens
            for name in trainer.weights:
                sums[name] += float(trainer.expert_loss(name, moved, output))
                counts[name] += batch.num_think_tokens
    trainer.model.train()
    both = torch.tensor([[sums[name] for name in names], [float(counts[name]) for name in names]], device=args.device)
    totals, many = trainer.accelerator.reduce(both, "sum").tolist()
    return {name: total / max(count, 1.0) for name, total, count in zip(names, totals, many, strict=True)}


def _evenly(trainer: StageTrainer, batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Batches, and whether they count.

    Processes that hold parts of one model pass equally often: those without a batch pass one that holds nothing.
    """
    if not trainer.shared:
        yield from ((batch, True) for batch in batches)
        return
    idle = trainer.data_collator.batches([])
    while True:
        batch = next(batches, None)
        left = torch.tensor([int(batch is not None)], device=trainer.args.device)
        if not int(trainer.accelerator.reduce(left, "sum")):
            return
        yield (batch, True) if batch is not None else (idle[0], False)


class EvalCallback(TrainerCallback):
    """Measures every so many steps, in ``held_out.jsonl``; keeps the weights with the least cross-entropy.

    Args:
        rows: Held-out rows.
        place: The stage's folder.
        lines: The run's ``held_out.jsonl``.
        stage: The stage's name.
        every: Steps between measurements.
        patience: Measurements without a better one, after which the stage ends; None never ends it.
    """

    def __init__(
        self, rows: Manifest, place: Path, lines: Path, stage: str, *, every: int, patience: int | None
    ) -> None:
        self.rows, self.place, self.lines, self.stage = rows, place, lines, stage
        self.every, self.patience = every, patience
        self.trainer: StageTrainer | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drop what a resumed stage will measure again."""
        if state.is_world_process_zero and self.lines.is_file():
            kept = (
                line
                for line in read_jsonl(self.lines)
                if line["stage"] != self.stage or line["step"] <= state.global_step
            )
            write_jsonl(self.lines, kept)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure, keep, and stop where nothing gets better."""
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        assert self.trainer is not None
        losses = held_out_losses(self.trainer, self.rows)
        line = {"stage": self.stage, "step": state.global_step, **losses}
        if state.is_world_process_zero:
            with self.lines.open("a") as file:
                file.write(json.dumps(line) + "\n")
        self.trainer.accelerator.wait_for_everyone()
        if self._since(state.global_step) == 0:
            model = self.trainer.accelerator.unwrap_model(self.trainer.model)
            save_weights(model, self.place / BEST, writes=state.is_world_process_zero)
            if state.is_world_process_zero:
                write_whole(self.place / BEST / "step.json", json.dumps(line))
        self.trainer.accelerator.wait_for_everyone()
        if self.patience is not None and self._since(state.global_step) >= self.patience:
            control.should_training_stop = True
            control.should_save = True

    def _since(self, step: int) -> int:
        """Measurements since the best, up to a step."""
        own = [line["ce"] for line in read_jsonl(self.lines) if line["stage"] == self.stage and line["step"] <= step]
        return len(own) - 1 - min(range(len(own)), key=own.__getitem__)


def take_best(model: Any, place: Path) -> int | None:
    """Load a stage's best weights, if there are any; the step they are of."""
    if not (place / BEST / "step.json").is_file():
        return None
    load_weights(model, place / BEST, trainable=True)
    return int(json.loads((place / BEST / "step.json").read_text())["step"])
