"""Training manifests with so many labelled answers to the scarce tasks.

    python -m coat.miniature.labels 50 200 all --world runs/demo

Every clip keeps one question of the other tasks. Labelled questions are repeated so that they are about as much of the
mixture whatever their number; each seed labels clips of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from coat.files import read_jsonl, write_jsonl
from coat.miniature.arms import SCARCE_TASKS
from coat.miniature.items import make_scarce

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


def main(argv: Sequence[str] | None = None) -> None:
    """Write what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="+", help="Labelled clips of a scarce task, or all.")
    parser.add_argument("--world", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    write_manifests(args.world / "corpus", args.counts, range(args.seeds))
    for count in args.counts:
        sys.stdout.write(f"{labelled_manifest(args.world / 'corpus', count)}\n")


if __name__ == "__main__":
    main()
