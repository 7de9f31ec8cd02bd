"""Hub5'00 (eval2000) as the LDC publishes it: LDC2002S09's sound, LDC2002T43's transcripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from coat.errors import CoatError

SIDES = {"A": 0, "B": 1}
_LINE = re.compile(r"^([\d.]+)\s+([\d.]+)\s+([AB])\d*:\s*(.*)$")


def read_eval2000(folder: Path) -> list[dict[str, Any]]:
    """Turns of the forty conversations, each a stretch of one channel.

    Args:
        folder: Holds ``*.sph`` and ``*.txt`` anywhere below it.

    Raises:
        CoatError: It does not, or a conversation lacks its sound.
    """
    sounds = {path.stem: path for path in folder.rglob("*.sph")}
    texts = {path.stem: path for path in folder.rglob("*.txt") if path.stem in sounds}
    if not sounds or len(texts) != len(sounds):
        without = sorted(sounds.keys() - texts.keys())
        raise CoatError(
            f"{folder} holds {len(sounds)} conversations (*.sph) and transcripts of {len(texts)}"
            + (f"; none of {without[0]}." if without else "."),
            "hub5e_00/english/*.sph of LDC2002S09 and reference/english/*.txt of LDC2002T43 belong there.",
        )
    records = []
    for name, path in sorted(texts.items()):
        for number, line in enumerate(path.read_text(errors="replace").splitlines()):
            match = _LINE.match(line.strip())
            if match is None:
                continue
            start, end, side, words = match.groups()
            records.append(
                {
                    "id": f"{name}-{side}-{number}",
                    "audio": {"path": str(sounds[name]), "start": float(start), "end": float(end),
                              "channel": SIDES[side]},
                    "text": words,
                    "speaker": f"{name}-{side}",
                    "subset": "switchboard" if name.startswith("sw") else "callhome",
                }
            )  # fmt: skip
    return records
