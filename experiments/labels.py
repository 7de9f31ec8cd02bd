"""Write training manifests with so many labelled answers to the scarce tasks.

python -m experiments.labels 50 200 all --world runs/demo
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from coat.synthetic.labels import labelled_manifest, write_manifests


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
