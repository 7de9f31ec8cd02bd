"""The cost of answers as tables and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coat.benchmark.inference import COAT, Cell, Work
from coat.reports.page import Section, Table, write_report
from coat.reports.plots import COLOURS, encode, plt


def write_cost_page(
    path: Path, title: str, cells: Sequence[Cell], own: Sequence[Work], work: Sequence[Work], works_of: str, about: str
) -> None:  # fmt: skip
    """Write the page of a measurement.

    Args:
        path: Path of the HTML file.
        title: Title of the measurement.
        cells: From :func:`coat.benchmark.inference.summarise`.
        own: The prediction from the measured model's sizes, at the middle of each range.
        work: The prediction from the sizes of the family's published checkpoint, by length.
        works_of: Name of the checkpoint that the sizes come from.
        about: Circumstances of the measurement.
    """
    sections = [
        Section(
            "Measured",
            "One question at a time, nothing kept between questions. Means over seeds of means over questions, ± the "
            "standard deviation over seeds; seeds draw other durations, so ratios to the baseline are medians over "
            "answers to the same question. The prefix is the block: tokens of the prompt, never decoded.",
            table=Table(HEAD, [row(cell) for cell in cells]),
            figures=[(_curves(cells), "Left to right: to the first token, decoding, in all. Bars: over seeds.")],
        ),
        Section("How it was measured", code=about),
    ]
    if work:
        sections.insert(
            1,
            Section(
                f"What sizes say: {works_of}",
                "FLOPs by the model's sizes, a multiply and an add being two; attention is causal. The cache holds "
                "keys and values in bf16. A GPU that is not filled by a prefill takes less than this says.",
                table=Table(WORK_HEAD, [work_row(each) for each in work]),
            ),
        )
    sections.insert(
        1,
        Section(
            "Sizes against the clock",
            "Work before the first token with the block over without: by the sizes of the model that was measured, and "
            "by the clock. They part where something other than arithmetic takes the time.",
            table=Table(["audio", "by sizes", "by the clock"], _against(cells, own)),
        ),
    )
    lead = "What an answer costs by the length of its audio: as the model is, with a chain of thought, with the block."
    write_report(path, title, lead, sections)


HEAD = ["audio", "arm", "first token, ms", "of baseline", "decode, ms", "in all, ms", "of baseline", "tokens", "prefix"]
WORK_HEAD = ["audio", "audio tokens", "block", "before first token", "with block", "ratio", "cache", "with block",
             "a later token"]  # fmt: skip


def row(cell: Cell) -> list[str]:
    """A range and arm, as text."""

    def both(name: str, digits: str, scale: float = 1.0) -> str:
        spread = f" ± {scale * cell.std[name]:{digits}}" if cell.std else ""
        return f"{scale * cell.mean[name]:{digits}}{spread}"

    prefix = both("think_tokens", ".0f") if cell.mean["think_tokens"] else "–"  # noqa: RUF001  # as in Table E
    return [
        f"{cell.low:g} to {cell.high:g} s", cell.arm, both("first", ".1f", 1000), f"{cell.against['first']:.2f}",
        both("decode", ".1f", 1000), both("total", ".1f", 1000), f"{cell.against['total']:.2f}",
        both("new_tokens", ".1f"), prefix,
    ]  # fmt: skip


def work_row(work: Work) -> list[str]:
    """One length, as text."""
    plain, block = work.tower + work.prefill, work.tower + work.prefill_block
    return [
        f"{work.seconds:g} s", f"{work.audio_tokens:,}", f"{work.block_tokens:,}", _flops(plain), _flops(block),
        f"{work.more:.2f}", _bytes(work.cache), _bytes(work.cache_block), f"{work.step_block / work.step:.3f}",
    ]  # fmt: skip


def _against(cells: Sequence[Cell], own: Sequence[Work]) -> list[list[str]]:
    clock = [cell for cell in cells if cell.arm == COAT]
    return [
        [f"{cell.low:g} to {cell.high:g} s", f"{work.more:.2f}", f"{cell.against['first']:.2f}"]
        for cell, work in zip(clock, own, strict=True)
    ]


def _flops(value: float) -> str:
    return f"{value / 1e12:.2f} TFLOP" if value > 1e11 else f"{value / 1e9:.2f} GFLOP"


def _bytes(value: int) -> str:
    return f"{value / 1e6:,.1f} MB"


def _curves(cells: Sequence[Cell]) -> str:
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    figure, grid = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axes, (name, title) in zip(
        grid, (("first", "to the first token"), ("decode", "decoding"), ("total", "in all")), strict=True
    ):
        for index, arm in enumerate(arms):
            mine = [cell for cell in cells if cell.arm == arm]
            x = [(cell.low + cell.high) / 2 for cell in mine]
            y = [1000 * cell.mean[name] for cell in mine]
            spread = [1000 * cell.std.get(name, 0.0) for cell in mine]
            colour = COLOURS[index % len(COLOURS)]
            axes.errorbar(x, y, spread, marker="o", ms=3, lw=1.2, capsize=2, color=colour, label=arm)
        axes.set_title(title)
        axes.set_xlabel("seconds of audio")
        axes.set_ylabel("ms")
        axes.set_yscale("log")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(arms), frameon=False)
    return encode(figure)
