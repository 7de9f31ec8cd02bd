"""Collect what pocket has learned into one file for ``coat pocket build --hearing``.

    python -m experiments.pocket.collect sequence more/adapter --to first.safetensors
    python -m experiments.pocket.collect whole/adapter --onto first.safetensors --to hearing.safetensors

Adapters are given in the order in which they were trained, each on what those before it had left, merged. Low-rank
changes of one weight add up, so they are stacked; a part that was trained whole is as the last one left it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import typer
from safetensors.torch import load_file

from coat.pocket.hearing import LANGUAGE_MODEL, LORA_A, LORA_B, PROJECTOR, TOWER, WHOLE, read, write

# PEFT's names, whatever a model of transformers puts before the part.
LORA = re.compile(rf".*?\.({TOWER}|{LANGUAGE_MODEL})\.(?:base_model\.model\.)?(.+)\.({LORA_A}|{LORA_B})\.weight")
SAVED = re.compile(r".*?multi_modal_projector\.(?:modules_to_save\.)?(.+)")

Weights = dict[str, torch.Tensor]


def main(given: Sequence[str] | None = None) -> None:
    """Read the adapters, and write their changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", nargs="+", type=Path, help="Folders of PEFT's adapters, the first one first.")
    parser.add_argument("--onto", type=Path, help="What was collected before.")
    parser.add_argument("--to", type=Path, required=True, help="The file.")
    arguments = parser.parse_args(given)
    weights = read(arguments.onto) if arguments.onto else {}
    for folder in arguments.adapters:
        weights = stacked(weights, adapter(folder))
    write(arguments.to, weights)
    typer.echo(f"{arguments.to}: {len(weights)} tensors, {arguments.to.stat().st_size / 1e6:.1f} MB")


def adapter(folder: Path) -> Weights:
    """An adapter's weights under the names of a hearing's file, scaled so that a change is ``B @ A``."""
    config = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    weights: Weights = {}
    for name, value in load_file(folder / "adapter_model.safetensors").items():
        if found := LORA.fullmatch(name):
            weights[".".join(found.groups())] = value * scale if found[3] == LORA_B else value
        elif found := SAVED.fullmatch(name):
            weights[f"{PROJECTOR}.{found[1]}.{WHOLE}"] = value
        else:
            raise SystemExit(f"{folder} holds {name}, which is not understood.")
    return weights


def stacked(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> Weights:
    """Weights whose change is the sum of both; of a part that was trained whole, the second's."""
    both = dict(first)
    for name, value in second.items():
        kind = name.rpartition(".")[2]
        if name in both and kind in (LORA_A, LORA_B):
            value = torch.cat([both[name].to(value.dtype), value], dim=0 if kind == LORA_A else 1)
        both[name] = value
    return both


if __name__ == "__main__":
    main()
