"""What a linear probe reads off each layer of an audio tower: the pitch class of a note.

    python -m experiments.pocket.layers whisper=runs/pocket/parts pocket runs/pocket/ladder-50/full-seed0

The notes are those of :mod:`experiments.pocket.notes`: probes are fitted on training notes, and scored on the
development split's, of another soundfont. Layer 0 is what enters the first layer; ``projector`` is what the language
model is given, and ``think`` the think states, where there are any.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor

from coat.audio import Clip, load_audio
from coat.checkpoints import load_model
from coat.data.conversation import Conversation, user_message
from coat.files import read_jsonl
from coat.probing.probes import collect_states, probe
from coat.synthetic.items import PROMPTS
from coat.thinking.model import ThinkingModel
from experiments.pocket.notes import PITCH

FITTED_ON = (50, 200)


def main(given: Sequence[str] | None = None) -> None:
    """Print a table: a row a layer, a column for each model and number of notes that a probe is fitted on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Runs, exports, checkpoints or pocket; NAME=PLACE names one.")
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="Of experiments.pocket.notes.")
    arguments = parser.parse_args(given)
    fitted, scored = (notes_of(arguments.out / f"notes-{name}.jsonl") for name in ("train-200-seed0", "dev"))
    answers, references = [answer for _, answer in fitted], [answer for _, answer in scored]
    names, table = [], defaultdict(list)
    for asked in arguments.models:
        name, _, place = asked.rpartition("=")
        names += [f"{name or Path(place).name}, {count}" for count in FITTED_ON]
        model = load_model(place, device="cpu", dtype="float32")
        ours, theirs = (states(model, [clip for clip, _ in notes]) for notes in (fitted, scored))
        for layer, vectors in ours.items():
            for count in FITTED_ON:
                found = probe(vectors[:count], answers[:count], theirs[layer], references)
                table[layer].append(f"{100 * found.score.value:.1f}")
    typer.echo("| layer | " + " | ".join(names) + " |\n|" + " --- |" * (1 + len(names)))
    for layer, row in table.items():
        typer.echo(f"| {layer} | " + " | ".join(row) + " |")


def notes_of(manifest: Path) -> list[tuple[Clip, str]]:
    """The notes of a manifest and their pitch classes, each note once."""
    answers = {row["audios"][0]: row["messages"][-1]["content"] for row in read_jsonl(manifest) if row["task"] == PITCH}
    return [(load_audio(path), answer) for path, answer in answers.items()]


@torch.inference_mode()
def states(model: ThinkingModel, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Means over time by layer, ``(N, size)`` each.

    Args:
        model: A model whose tower has ``layers``, as Whisper's and those that were made of it have.
        clips: Clips of notes.
    """
    layers: Any = model.backbone.audio_tower.layers
    seen: list[Tensor] = []

    def enters(_: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0])

    def leaves(_: torch.nn.Module, __: tuple[Tensor, ...], made: Tensor | tuple[Tensor, ...]) -> None:
        seen.append(made[0] if isinstance(made, tuple) else made)

    hooks = [layers[0].register_forward_pre_hook(enters), *(layer.register_forward_hook(leaves) for layer in layers)]
    met: dict[str, list[np.ndarray]] = defaultdict(list)
    for clip in clips:
        seen.clear()
        rate = model.backbone.audio_spec.sampling_rate
        model.backbone.tower_states(model.backbone.audio_features([clip.at(rate)]))
        for place, state in enumerate(seen):
            met[str(place)].append(state.reshape(-1, state.shape[-1]).mean(0).numpy())
    for hook in hooks:
        hook.remove()
    asked = [Conversation([user_message(PROMPTS[PITCH][0], 1)], [clip]) for clip in clips]
    later = collect_states(model, asked)
    found = {layer: np.stack(vectors) for layer, vectors in met.items()} | {"projector": later.audio}
    return found if later.think is None else found | {"think": later.think}


if __name__ == "__main__":
    main()
