"""Upstream modules' outputs on weights and sounds that a seed gives: what ports are compared with.

``references/NAME.npz`` holds names and shapes of the upstream module's weights, and its features of the sounds below.
Made by :mod:`tests.experts.parity` with a checkout of the upstream repository; nothing of that is committed.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "references"
SECONDS = (0.4, 1.3, 2.037)


def seeded_state(shapes, seed=0):
    """Weights by name alone: of a size at which signals neither vanish nor explode."""
    state = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
        value = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            value = torch.zeros(shape, dtype=torch.long)
        elif name == "bn0.running_mean":  # of decibels, as a trained one is
            value = 10 * value - 40
        elif name == "bn0.running_var":
            value = 400 * (1 + value.abs())
        elif name.endswith("running_var") or "alibi_scale" in name:
            value = 0.5 + value.abs()
        elif len(shape) >= 2 and "extra_tokens" not in name:
            value = value * (2 / max(1, np.prod(shape[1:]))) ** 0.5
        elif name.endswith("weight"):
            value = 1 + 0.1 * value
        else:
            value = 0.1 * value
        state[name] = value
    return state


def sounds(rate):
    """Noise of three lengths, a chirp, silence, and a quiet click: ``(samples,)`` float32 each."""
    made = []
    for index, seconds in enumerate(SECONDS):
        made.append(np.random.default_rng(index).normal(0, 0.1, round(seconds * rate)))
    time = np.arange(round(1.5 * rate)) / rate
    made.append(0.3 * np.sin(2 * np.pi * (100 + 1500 * time) * time))
    made.append(np.zeros(rate))
    click = np.random.default_rng(9).normal(0, 1e-3, rate)
    click[rate // 2] = 0.9
    made.append(click)
    return [torch.from_numpy(wave.astype(np.float32)) for wave in made]


def write(name, upstream, shapes, outputs):
    """Keep what upstream gave."""
    FOLDER.mkdir(exist_ok=True)
    arrays = {f"features_{index}": value.numpy().astype(np.float32) for index, value in enumerate(outputs)}
    meta = json.dumps({"upstream": upstream, "shapes": {k: list(v) for k, v in shapes.items()}})
    np.savez_compressed(FOLDER / f"{name}.npz", meta=np.array(meta), **arrays)


def read(name):
    """Upstream's commit, its seeded weights, and its features of every sound."""
    with np.load(FOLDER / f"{name}.npz") as file:
        meta = json.loads(str(file["meta"]))
        count = sum(key.startswith("features_") for key in file.files)
        outputs = [torch.from_numpy(file[f"features_{index}"]) for index in range(count)]
    return meta["upstream"], seeded_state(meta["shapes"]), outputs
