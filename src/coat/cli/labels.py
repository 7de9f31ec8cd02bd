"""``coat data labels``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def labels(
    name: Annotated[str, typer.Argument(help="iemocap, or muchomusic.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of labels.jsonl and test.jsonl.")],
    place: Annotated[str, typer.Option("--from", help="Where the files are; of muchomusic, the hub if left out.")] = "",
) -> None:
    """Write labels of the paper's probe targets: emotion, instrument family, dominant pitch. See coat probe.

    coat data labels iemocap --from IEMOCAP_full_release --out labels/iemocap
    """
    from rich.console import Console

    from coat.cli.quiet import quiet

    quiet()
    from coat.probing.labels import write_labels
    from coat.training.progress import bar_for, make_progress

    with make_progress() as bar:
        advance = bar_for(bar)
        path, counts = write_labels(name, place, out, progress=lambda now, total: advance("clips", now, total))
    said = ", ".join(f"{count} with {field}" for field, count in counts.items())
    Console().print(f"{path}: {said}.", highlight=False, soft_wrap=True)
