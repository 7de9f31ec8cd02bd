"""Bring pocket's tower and projector to say letters: each projected state becomes the embedding of the letter spoken.

    python -m experiments.pocket.align --out runs/pocket

The language model reads letters already, so it learns to hear from few hours of speech. The target of each audio token
is the letter that the synthesiser spoke then, the first of a word apart (" t" and "t" are different tokens), or a
blank; letters share a word's time evenly. Cross-entropy on the cosine with the letters' embeddings; LoRA on the tower,
the projector whole. Writes ``align`` (PEFT's adapter) and ``aligned`` (the checkpoint with it merged).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import string
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

from coat.backbones import load_backbone
from coat.backbones.base import Backbone
from coat.files import write_whole
from experiments.pocket.voices import SAMPLING_RATE

LETTERS = string.ascii_lowercase + "'"
RANK = 16
BATCH, EPOCHS, WARM_UP = 16, 1, 50
LEARNING_RATE, PROJECTOR_RATE = 1e-3, 2e-3
# Clips of one batch are of about one length: sorted within pools of this many batches.
POOL = 20
LABEL_SMOOTHING, NORM_WEIGHT = 0.02, 0.1
TOWER = r".*audio_tower.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"


class Letters(nn.Module):
    """Score projected states by their cosine with the embeddings of letters.

    Args:
        backbone: Its tokenizer has a token for every letter, alone and after a space.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        ids = [self._token(backbone, " " + letter) for letter in LETTERS]
        ids += [self._token(backbone, letter) for letter in LETTERS]
        table = backbone.model.get_input_embeddings().weight.detach().float()
        self.embeddings = table[ids]
        self.norm = float(table.norm(dim=1).mean())
        self.blank = nn.Parameter(table.mean(0))
        self.scale = nn.Parameter(torch.tensor(12.0))

    @staticmethod
    def _token(backbone: Backbone, text: str) -> int:
        (token,) = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        return token

    def forward(self, states: Tensor) -> Tensor:
        """Logits of blank and letters, ``(N, d)`` to ``(N, 1 + letters)``."""
        rows = torch.cat([self.blank[None], self.embeddings])
        return self.scale * F.normalize(states, dim=-1) @ F.normalize(rows, dim=-1).T

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy; states are as long as the language model's own embeddings are."""
        unlike = (states.norm(dim=-1) / self.norm - 1).square().mean()
        return F.cross_entropy(self(states), targets, label_smoothing=LABEL_SMOOTHING) + NORM_WEIGHT * unlike


def targets(words: list[list[Any]], num_tokens: int, backbone: Backbone, speed: float = 1.0) -> np.ndarray:
    """The class of each audio token, ``(num_tokens,)``: 0 for the blank.

    Args:
        words: Text, begin and end of each, in seconds.
        num_tokens: Audio tokens of the clip.
        backbone: Says at what time a token is.
        speed: Speed of playing; 1 as it was spoken.
    """
    spec = backbone.audio_spec
    classes = np.zeros(num_tokens, dtype=np.int64)
    for text, begin, end in words:
        begin, end = begin / speed, end / speed
        first = max(0, math.ceil((begin - spec.first_token_seconds) * spec.token_rate))
        last = max(first + 1, math.ceil((end - spec.first_token_seconds) * spec.token_rate))
        for token in range(first, min(last, num_tokens)):
            share = (token / spec.token_rate + spec.first_token_seconds - begin) / (end - begin)
            place = min(max(int(share * len(text)), 0), len(text) - 1)
            classes[token] = 1 + LETTERS.index(text[place]) + (len(LETTERS) if place else 0)
    return classes


def augment(samples: np.ndarray, rng: random.Random, noise: np.random.Generator) -> tuple[np.ndarray, float]:
    """A clip at another speed, through a telephone, in noise, louder or softer; and the speed."""
    speed = rng.uniform(0.85, 1.15) if rng.random() < 0.7 else 1.0
    if speed != 1.0:
        samples = soxr.resample(samples, SAMPLING_RATE, SAMPLING_RATE / speed)
    if rng.random() < 0.4:
        samples = soxr.resample(soxr.resample(samples, SAMPLING_RATE, 8000), 8000, SAMPLING_RATE)
    if rng.random() < 0.5:
        added = noise.standard_normal(len(samples)).astype(np.float32)
        if rng.random() < 0.5:
            added = np.convolve(added, np.ones(8) / 8, "same").astype(np.float32)
        level = np.sqrt(np.square(samples).mean() / np.square(added).mean())
        samples = samples + added * level * 10 ** (-rng.uniform(8, 35) / 20)
    return np.clip(samples * rng.uniform(0.4, 1.3), -1, 1).astype(np.float32), speed


def batches(clips: list[dict[str, Any]], rng: random.Random) -> Iterator[list[dict[str, Any]]]:
    """Every clip once, in batches of about one length."""
    order = clips[:]
    rng.shuffle(order)
    for start in range(0, len(order), BATCH * POOL):
        pool = sorted(order[start : start + BATCH * POOL], key=lambda clip: clip["words"][-1][2])
        groups = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
        rng.shuffle(groups)
        yield from groups


def main(given: Sequence[str] | None = None) -> None:
    """Train, and write adapter and checkpoint."""
    from peft import LoraConfig, get_peft_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="The folder that lessons wrote.")
    parser.add_argument("--backbone", default="pocket", help="The checkpoint to begin with: the untrained assembly.")
    arguments = parser.parse_args(given)
    torch.manual_seed(0)
    rng, noise = random.Random(0), np.random.default_rng(0)
    backbone = load_backbone("qwen2_audio", arguments.backbone)
    letters = Letters(backbone)
    lora = LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=TOWER, modules_to_save=["multi_modal_projector"], bias="none"
    )
    adapted = get_peft_model(backbone.model.float(), lora)
    adapted.eval()  # no dropout
    clips = [json.loads(line) for line in (arguments.out / "align.jsonl").read_text().splitlines()]
    total = EPOCHS * math.ceil(len(clips) / BATCH)
    tower = [p for name, p in adapted.named_parameters() if p.requires_grad and "audio_tower" in name]
    projector = [p for name, p in adapted.named_parameters() if p.requires_grad and "audio_tower" not in name]
    parameters = [*tower, *projector, *letters.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": tower, "lr": LEARNING_RATE},
            {"params": [*projector, *letters.parameters()], "lr": PROJECTOR_RATE},
        ],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / total))
    )
    begun, step = time.monotonic(), 0
    for _ in range(EPOCHS):
        for batch in batches(clips, rng):
            played = [augment(soundfile.read(clip["path"], dtype="float32")[0], rng, noise) for clip in batch]
            states = backbone.encode(backbone.audio_features([samples for samples, _ in played]))
            wanted = [
                targets(clip["words"], len(own), backbone, speed)
                for clip, own, (_, speed) in zip(batch, states, played, strict=True)
            ]
            loss = letters.loss(torch.cat(backbone.project_all(states)), torch.from_numpy(np.concatenate(wanted)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            if step % 20 == 0:
                typer.echo(f"{step}/{total} loss {loss.item():.3f}, {time.monotonic() - begun:.0f} s")
            step += 1
    adapted.save_pretrained(str(arguments.out / "align"))
    backbone.model = adapted.merge_and_unload().half()
    backbone.save_pretrained(str(arguments.out / "aligned"))
    write_whole(arguments.out / "aligned" / "README.md", "Pocket after experiments/pocket/align.py.\n")


if __name__ == "__main__":
    main()
