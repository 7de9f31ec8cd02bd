"""Training manifests with so many labelled answers to the scarce tasks.

Every clip keeps one question of the other tasks. Labelled questions are repeated so that they are about as much of the
mixture whatever their number; each seed labels clips of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coat.files import read_jsonl, write_jsonl
from coat.synthetic.items import SCARCE_TASKS, make_scarce

# Labelled rows of a scarce task in the mixture, about.
LABELLED_ROWS = 600


def labelled_manifest(corpus: Path, count: str, seed: str | int = "{seed}") -> Path:
    """Where the manifest of a number of labels and a seed is; for a recipe, of whatever seed it is trained with."""
    return corpus / f"train-labels-{count}-seed{seed}.jsonl"


def write_manifests(corpus: Path, counts: Sequence[str], seeds: Sequence[int]) -> None:
    """A training manifest for each number of labels and seed, beside the clips; those that are there are kept.

    Args:
        corpus: With ``train.jsonl``.
        counts: Labelled clips for each scarce task, or ``all``.
        seeds: Seeds of the choice of clips.
    """
    rows = read_jsonl(corpus / "train.jsonl")
    for count in counts:
        most = max(sum(row["task"] == task for row in rows) for task in SCARCE_TASKS)
        clips = most if count == "all" else int(count)
        repeats = max(1, round(LABELLED_ROWS / clips))
        for seed in seeds:
            path = labelled_manifest(corpus, count, seed)
            if not path.is_file():
                write_jsonl(path, make_scarce(rows, SCARCE_TASKS, clips, repeats=repeats, seed=seed))
