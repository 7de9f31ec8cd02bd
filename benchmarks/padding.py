"""Padding in training steps: what packing rows into one sequence could save at most.

    python benchmarks/padding.py

Lengths alone, no model: rows are drawn, grouped into steps and split into passes by the code that training uses. A row
has a block at the paper's pace, and 20 to 60 tokens of text.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coat.data.batching import Shuffled, StepRows, micro_batches

ROWS, STEPS, BATCH, TOKEN_RATE = 20_000, 1_000, 16, 25
SECONDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "2 to 4 s, as the small world's": lambda rng: rng.uniform(2, 4, ROWS),
    "0.5 to 30 s, as many of each octave": lambda rng: np.exp(rng.uniform(np.log(0.5), np.log(30), ROWS)),
    "half of 10 s, half 1 to 16 s (AudioSet and LibriSpeech)": lambda rng: np.where(
        rng.random(ROWS) < 0.5, 10.0, rng.uniform(1, 16, ROWS)
    ),
}


def main() -> None:
    """Print a table."""
    ways = {
        "in random order": {"group": False},
        "like lengths in a step": {},
        "the same, in passes of 4 rows": {"rows": 4},
    }
    print(f"| clips | {' | '.join(ways)} |\n| --- | --- | --- | --- |")
    for name, draw in SECONDS.items():
        rng = np.random.default_rng(0)
        seconds = draw(rng)
        tokens = np.round(2 * TOKEN_RATE * seconds + rng.uniform(20, 60, ROWS)).astype(int)
        cells = [f"{padding(seconds, tokens, **way):.1%}" for way in ways.values()]
        print(f"| {name} | {' | '.join(cells)} |")


def padding(seconds: np.ndarray, tokens: np.ndarray, *, group: bool = True, rows: int = BATCH) -> float:
    """The share of all positions that passes compute which holds no token."""
    steps = StepRows(seconds, draw=Shuffled(ROWS, 0), steps=STEPS, batch_size=BATCH, seed=0, group=group)
    real = computed = 0
    for step in steps:
        lengths = tokens[step]
        for places in micro_batches(lengths.tolist(), rows=rows, tokens=None):
            real += int(lengths[places].sum())
            computed += len(places) * int(lengths[places].max())
    return 1 - real / computed


if __name__ == "__main__":
    main()
