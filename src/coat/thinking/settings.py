"""How an export thinks, as its processor's configuration says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from coat.thinking.block import Placement
from coat.thinking.pace import Pace


@dataclass(frozen=True)
class ExportSettings:
    """What a server must know besides the family's own files.

    Attributes:
        family: Its key in recipes.
        audio_token: The placeholder.
        assistant_header: The text that opens an assistant turn.
        placement: Where blocks stand.
        stride: See :class:`coat.thinking.pace.Pace`.
        max_seconds: The longest clip.
        max_tokens: As the stride.
        merge_db: The same.
    """

    family: str
    audio_token: str
    assistant_header: str
    placement: Placement
    stride: int
    max_seconds: float
    max_tokens: int | None = None
    merge_db: float = 0.0

    @property
    def pace(self) -> Pace:
        """How many audio tokens a think token stands for."""
        return Pace(self.stride, self.max_tokens, self.merge_db)


def export_settings(place: str) -> ExportSettings | None:
    """The settings of an export, a folder or a hub id; None if it is no export."""
    from transformers.utils import cached_file

    try:
        found = cached_file(place, "processor_config.json", _raise_exceptions_for_missing_entries=False)
    except OSError:
        return None
    raw = json.loads(Path(found).read_text()) if found else {}
    if raw.get("processor_class") != "CoatProcessor":
        return None
    return ExportSettings(**{name: raw[name] for name in ExportSettings.__dataclass_fields__ if name in raw})
