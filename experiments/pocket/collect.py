"""Collect what pocket has learned into one file for ``coat pocket build --hearing``.

python -m experiments.pocket.collect --out runs/pocket
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
import typer
from safetensors.torch import load_file

from coat.pocket.hearing import LANGUAGE_MODEL, PROJECTOR, TOWER, write

# PEFT's names, whatever a model of transformers puts before the part.
LORA = re.compile(rf".*?\.({TOWER}|{LANGUAGE_MODEL})\.(?:base_model\.model\.)?(.+)\.(lora_[AB])\.weight")
SAVED = re.compile(r".*?multi_modal_projector\.(?:modules_to_save\.)?(.+)")


def main(given: Sequence[str] | None = None) -> None:
    """Read both adapters, and write their changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="Where sequence and more are.")
    arguments = parser.parse_args(given)
    weights: dict[str, torch.Tensor] = {}
    scales = {}
    for folder, part in ((arguments.out / "sequence", TOWER), (arguments.out / "more" / "adapter", LANGUAGE_MODEL)):
        config = json.loads((folder / "adapter_config.json").read_text())
        scales[part] = config["lora_alpha"] / config["r"]
        # The projector is in both; that of the later training stays.
        for name, value in load_file(folder / "adapter_model.safetensors").items():
            if found := LORA.fullmatch(name):
                weights[".".join(found.groups())] = value
            elif found := SAVED.fullmatch(name):
                weights[f"{PROJECTOR}.{found[1]}.whole"] = value
            else:
                raise SystemExit(f"{folder} holds {name}, which is not understood.")
    file = arguments.out / "hearing.safetensors"
    write(file, weights, scales)
    typer.echo(f"{file}: {len(weights)} tensors, {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
