"""The fields that an export adds to ``processor_config.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError


@dataclass(frozen=True)
class ExportConfig:
    """Settings that a server needs besides the family's own files.

    Attributes:
        family: Its key in recipes.
        audio_token: The placeholder.
        assistant_header: The text that opens an assistant turn.
        max_seconds: The longest clip.
        thinking: The model's block.
    """

    family: str
    audio_token: str
    assistant_header: str
    max_seconds: float
    thinking: ThinkingConfig


def read_export_config(path: str) -> ExportConfig | None:
    """The configuration of an export, a folder or a hub id; None if it is no export.

    Raises:
        CoatError: The processor is ours, and its configuration is of another version of this package.
    """
    from transformers.utils import cached_file

    try:
        found = cached_file(path, "processor_config.json", _raise_exceptions_for_missing_entries=False)
    except OSError:
        return None
    raw = json.loads(Path(found).read_text()) if found else {}
    if raw.get("processor_class") != "CoatProcessor":
        return None
    try:
        fields = {name: raw[name] for name in ExportConfig.__dataclass_fields__}
        return ExportConfig(**{**fields, "thinking": ThinkingConfig(**raw["thinking"])})
    except (KeyError, TypeError, ValueError) as error:
        raise CoatError(
            f"{path}/processor_config.json does not say how the model thinks: {error}.",
            "It was written by another version of this package: export the run again with coat export.",
        ) from None


def adapter_base(path: str) -> str | None:
    """The checkpoint that an adapter without base weights goes on; None if the weights are whole.

    Raises:
        CoatError: The adapter does not say.
    """
    from transformers.utils import cached_file

    found = cached_file(path, "adapter_config.json", _raise_exceptions_for_missing_entries=False)
    if not found:
        return None
    base = json.loads(Path(found).read_text()).get("base_model_name_or_path")
    if not base:
        raise CoatError(f"{path} does not name the checkpoint that it was trained on.", "Export the run again.")
    return str(base)
