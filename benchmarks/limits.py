"""Peaks of this machine: a large matrix product and a large copy, measured in the run that quotes them.

    python benchmarks/limits.py

Other benchmarks import :func:`measure_limits` and print a measured time over the time that the arithmetic allows, by
FLOPs from sizes or as :func:`counting` counts them.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from torch.utils import flop_counter

from coat.benchmark.latency import now

REPEATS = 10


@dataclass(frozen=True)
class Limits:
    """Measured peaks of one device at one precision.

    Attributes:
        name: The device and the software that drives it.
        flops: FLOP/s of a square matrix product.
        bandwidth: Bytes/s of a copy, read and written bytes both counted.
    """

    name: str
    flops: float
    bandwidth: float

    def seconds(self, flops: float, moved: float = 0.0) -> float:
        """The least time that some work can take.

        Args:
            flops: Floating-point operations, a multiply and an add counted as two.
            moved: Bytes that must pass through memory at least once.
        """
        return max(flops / self.flops, moved / self.bandwidth)

    def __str__(self) -> str:
        return f"{self.name}: {self.flops / 1e12:.2f} TFLOP/s, {self.bandwidth / 1e9:.0f} GB/s"


def device_name() -> str:
    """The accelerator, or the processor's threads and cores, with the versions that matter."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"
    return f"{device}, torch {torch.__version__}, transformers {transformers.__version__}"


def measure_limits(device: torch.device | str, dtype: torch.dtype) -> Limits:
    """Medians of a few products and copies, on random numbers: zeros are multiplied faster."""
    on_gpu = torch.device(device).type == "cuda"
    size, numbers = (8192, 2**30) if on_gpu else (1536, 2**26)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.randn(numbers, device=device).to(dtype)
    target = torch.empty_like(source)
    multiply = _median(lambda: torch.matmul(left, right, out=product), on_gpu)
    copy = _median(lambda: target.copy_(source), on_gpu)
    moved = 2 * source.numel() * source.element_size()
    return Limits(f"{device_name()}, {str(dtype).removeprefix('torch.')}", 2 * size**3 / multiply, moved / copy)


def counting() -> flop_counter.FlopCounterMode:
    """PyTorch's counter of FLOPs, taught the fused attention of CPUs, which it counts as nothing."""
    aten = torch.ops.aten
    forward, backward = flop_counter.sdpa_flop_count, flop_counter.sdpa_backward_flop_count
    return flop_counter.FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: forward(*shapes[:3]),
            aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *shapes, **_: backward(*shapes[:4]),
        },
    )


def _median(work: Callable[[], object], on_gpu: bool) -> float:
    times = []
    for turn in range(REPEATS + 2):
        began = now()
        for _ in range(10 if on_gpu else 1):
            work()
        if turn > 1:
            times.append((now() - began) / (10 if on_gpu else 1))
    return statistics.median(times)


def main() -> None:
    """Print the peaks."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print("| device | TFLOP/s | GB/s |\n| --- | --- | --- |")
    for dtype in (torch.float32, torch.bfloat16):
        peaks = measure_limits(device, dtype)
        print(f"| {peaks.name} | {peaks.flops / 1e12:.2f} | {peaks.bandwidth / 1e9:.0f} |", flush=True)


if __name__ == "__main__":
    main()
