"""Where weights go and what they are held in."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def default_device() -> torch.device:
    """The accelerator, whatever its kind, or the CPU."""
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")


def uses_bf16(precision: str) -> bool:
    """Whether frozen weights are held, and products computed, in bfloat16.

    Args:
        precision: ``bf16``, ``fp32``, or ``auto``: bfloat16 on accelerators that compute in it.
    """
    if precision != "auto":
        return precision == "bf16"
    device = default_device()
    return device.type in ("cuda", "xpu", "npu") and (device.type != "cuda" or torch.cuda.is_bf16_supported())


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A dtype by name; ``auto`` is bfloat16 on accelerators that compute in it, else float32.

    Raises:
        ValueError: No such name.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if uses_bf16("auto") else torch.float32
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)} or a torch.dtype, got {dtype!r}")
    return DTYPES[dtype]
