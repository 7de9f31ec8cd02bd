"""``coat doctor``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is there or missing.

    Attributes:
        what: Name of the work.
        state: State of the component.
        remedy: The command that adds it; empty if nothing is missing.
        needed_for: Features that do not work without it.
    """

    what: str
    state: str
    remedy: str = ""
    needed_for: str = ""


def doctor() -> None:
    """Show what is installed, what is missing, and the command that adds it.

    coat doctor
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("", "what", "state", "needed for", "to add it")
    for finding in examine():
        mark = "[yellow]-[/yellow]" if finding.remedy else "[green]ok[/green]"
        table.add_row(mark, finding.what, finding.state, finding.needed_for, finding.remedy)
    Console().print(table)


def examine() -> list[Finding]:
    """Look at Python, packages, system programs, weights and hardware."""
    return [
        Finding("Python", sys.version.split()[0]),
        *(_package(name, module, extra, use) for name, module, extra, use in _PACKAGES),
        *(_program(name, use) for name, use in (("espeak-ng", "the small world"), ("fluidsynth", "the small world"))),
        _soundfont(),
        _pitch_weights(),
        _miniature(),
        _hardware(),
    ]


_PACKAGES = (
    ("torch", "torch", "", ""),
    ("transformers", "transformers", "", ""),
    ("peft", "peft", "", ""),
    ("accelerate", "accelerate", "", ""),
    ("mido", "mido", "miniature", "the small world"),
    ("onnx", "onnx", "pitch", "the basic-pitch expert"),
    ("fastapi", "fastapi", "serve", "coat serve, embedded"),
    ("uvicorn", "uvicorn", "serve", "coat serve, embedded"),
    ("openai", "openai", "eval", "judges, and coat eval of an address"),
    ("gradio", "gradio", "view", "coat view"),
    ("prometheus-client", "prometheus_client", "serve", "coat serve, embedded"),
    ("vllm", "vllm", "", "coat serve with vLLM (Linux and a GPU)"),
)


def _package(name: str, module: str, extra: str, use: str) -> Finding:
    from importlib.metadata import version

    if importlib.util.find_spec(module) is None:
        return Finding(name, "missing", f"pip install 'coat-audio[{extra}]'" if extra else f"pip install {name}", use)
    return Finding(name, version(name), needed_for=use)


def _program(name: str, use: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, path or "missing", "" if path else f"apt-get install {name}", use)


def _soundfont() -> Finding:
    from coat.errors import CoatError
    from coat.synthetic.music import find_soundfont

    try:
        return Finding("soundfont", str(find_soundfont()), needed_for="the small world")
    except CoatError:
        return Finding("soundfont", "missing", "apt-get install timgm6mb-soundfont", "the small world")


def _pitch_weights() -> Finding:
    if importlib.util.find_spec("basic_pitch") is None:
        remedy = "pip install --no-deps basic-pitch==0.4.0"
        return Finding("basic-pitch weights", "missing", remedy, "the basic-pitch expert")
    return Finding("basic-pitch weights", "in the installed package", needed_for="the basic-pitch expert")


def _miniature() -> Finding:
    from coat.errors import CoatError

    try:
        from coat.checkpoints.references import miniature_folder

        return Finding("miniature", str(miniature_folder()), needed_for="coat chat --miniature")
    except (CoatError, ImportError):
        return Finding("miniature", "missing", "make miniature", "coat chat --miniature")


def _hardware() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("device", "unknown without torch")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("device", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return Finding("device", f"CPU, {os.cpu_count()} cores (a 7B model needs a GPU of 24 GiB or more to train)")
