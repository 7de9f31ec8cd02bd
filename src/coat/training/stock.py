"""Imports from transformers' Trainer, in one place, because its module imports PEFT."""

from __future__ import annotations

from coat.backbones.adapters import no_bitsandbytes

with no_bitsandbytes():
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

__all__ = ["PrinterCallback", "ProgressCallback", "Trainer", "TrainerCallback", "TrainingArguments"]
