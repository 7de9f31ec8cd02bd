"""Bring pocket's tower and projector to say letters: each projected state becomes the embedding of the letter spoken.

    python -m experiments.pocket.align --out runs/pocket

The language model reads letters already, so it learns to hear from few hours of speech. States are scored by their
cosine with the embeddings of the letters (the first of a word apart: " t" and "t" are different tokens) and of a blank.
Two passes, with LoRA on the tower and the projector whole:

- ``times``: the target of each audio token is the letter that the synthesiser spoke then; letters share a word's time
  evenly. Cross-entropy.
- ``sequence``: the letters in their order, at times of their own choice (CTC), which needs no times, so human voices
  take part. From an untrained projector CTC does not set in; from the first pass it does.

Each pass writes a folder of its name (PEFT's adapter, and blank and scale), and one that is there is not made again.
Then ``aligned`` is written, the checkpoint with the adapter merged.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import string
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
import typer
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from coat.backbones import load_backbone
from coat.backbones.base import Backbone
from coat.evaluation.words import word_errors
from coat.files import write_whole
from experiments.pocket.lessons import source_of
from experiments.pocket.voices import SAMPLING_RATE, spelled

LETTERS = string.ascii_lowercase + "'"
RANK = 16
BATCH, WARM_UP = 16, 50
EPOCHS = {"times": 1, "sequence": 1}
LEARNING_RATE, PROJECTOR_RATE = 1e-3, 2e-3
# Clips of one batch are of about one length: sorted within pools of this many batches.
POOL = 20
LABEL_SMOOTHING, NORM_WEIGHT = 0.02, 0.1
LEARNT = "letters.safetensors"
TOWER = r".*audio_tower.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"

Clip = dict[str, Any]


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

    def unlike(self, states: Tensor) -> Tensor:
        """Penalty of states that are not as long as the language model's own embeddings are."""
        return NORM_WEIGHT * (states.norm(dim=-1) / self.norm - 1).square().mean()

    def read(self, states: Tensor) -> str:
        """The likeliest letter of each token, repetitions and blanks left out, as words."""
        classes = self(states).argmax(-1).unique_consecutive().tolist()
        said = (" " * (c <= len(LETTERS)) + (" " + LETTERS + LETTERS)[c] for c in classes if c)
        return "".join(said).strip()


def targets(words: list[list[Any]], num_tokens: int, backbone: Backbone, speed: float = 1.0) -> list[int]:
    """The class of each of ``num_tokens`` audio tokens: 0 for the blank.

    Args:
        words: Text, begin and end of each, in seconds.
        num_tokens: Audio tokens of the clip.
        backbone: Says at what time a token is.
        speed: Speed of playing; 1 as it was spoken.
    """
    spec = backbone.audio_spec
    classes = [0] * num_tokens
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


def spell(words: Sequence[str]) -> list[int]:
    """The classes of words' letters, in order."""
    first, later = 1, 1 + len(LETTERS)
    return [(later if place else first) + LETTERS.index(one) for word in words for place, one in enumerate(word)]


def by_times(letters: Letters, states: list[Tensor], wanted: list[list[int]]) -> Tensor:
    """Cross-entropy of every token with its class."""
    classes = torch.tensor([one for own in wanted for one in own])
    return F.cross_entropy(letters(torch.cat(states)), classes, label_smoothing=LABEL_SMOOTHING)


def by_sequence(letters: Letters, states: list[Tensor], wanted: list[list[int]]) -> Tensor:
    """CTC of classes in their order, for each class; a clip with fewer tokens than it needs counts nothing."""
    return F.ctc_loss(
        nn.utils.rnn.pad_sequence([letters(own).log_softmax(-1) for own in states]),
        torch.tensor([one for own in wanted for one in own]),
        torch.tensor([len(own) for own in states]),
        torch.tensor([len(own) for own in wanted]),
        zero_infinity=True,
    )


PASSES: dict[str, Callable[..., Tensor]] = {"times": by_times, "sequence": by_sequence}


def with_times(out: Path) -> list[Clip]:
    """The synthesiser's clips and their words' times."""
    return [json.loads(line) for line in (out / "align.jsonl").read_text().splitlines()]


def with_text(manifest: Path) -> list[Clip]:
    """The clips of a manifest's transcriptions, as often as it has them."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    clips = [
        {"path": r["audios"][0], "text": r["messages"][-1]["content"]} for r in rows if r["task"] == "transcription"
    ]
    return [clip for clip in clips if spelled(clip["text"])]


def batches(clips: list[Clip], rng: random.Random) -> Iterator[list[Clip]]:
    """Every clip once, in batches of about one length."""
    order = clips[:]
    rng.shuffle(order)
    for start in range(0, len(order), BATCH * POOL):
        pool = sorted(order[start : start + BATCH * POOL], key=lambda clip: soundfile.info(clip["path"]).duration)
        groups = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
        rng.shuffle(groups)
        yield from groups


def learn(name: str, letters: Letters, backbone: Backbone, adapted: nn.Module, clips: list[Clip]) -> None:
    """Train for one pass, in place."""
    rng, noise = random.Random(0), np.random.default_rng(0)
    total = EPOCHS[name] * math.ceil(len(clips) / BATCH)
    tower = [p for name, p in adapted.named_parameters() if p.requires_grad and "audio_tower" in name]
    rest = [p for name, p in adapted.named_parameters() if p.requires_grad and "audio_tower" not in name]
    rest += letters.parameters()
    optimizer = torch.optim.AdamW(
        [{"params": tower, "lr": LEARNING_RATE}, {"params": rest, "lr": PROJECTOR_RATE}], weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / total))
    )
    begun = time.monotonic()
    order = (batch for _ in range(EPOCHS[name]) for batch in batches(clips, rng))
    for step, batch in enumerate(order):
        played = [augment(soundfile.read(clip["path"], dtype="float32")[0], rng, noise) for clip in batch]
        samples, speeds = zip(*played, strict=True)
        states = backbone.project_all(backbone.encode(backbone.audio_features(list(samples))))
        wanted = [
            targets(clip["words"], len(own), backbone, speed) if name == "times" else spell(spelled(clip["text"]))
            for clip, own, speed in zip(batch, states, speeds, strict=True)
        ]
        loss = PASSES[name](letters, states, wanted) + letters.unlike(torch.cat(states))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*tower, *rest], 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            typer.echo(f"{name} {step}/{total} loss {loss.item():.3f}, {time.monotonic() - begun:.0f} s")


@torch.no_grad()
def word_error_rate(letters: Letters, backbone: Backbone, clips: list[Clip]) -> float:
    """Word errors of what the letters spell, in percent."""
    counted = []
    for batch in (clips[i : i + BATCH] for i in range(0, len(clips), BATCH)):
        features = backbone.audio_features([soundfile.read(clip["path"], dtype="float32")[0] for clip in batch])
        for clip, states in zip(batch, backbone.project_all(backbone.encode(features)), strict=True):
            counted.append(word_errors(" ".join(spelled(clip["text"])), letters.read(states)))
    errors, words = (sum(column) for column in zip(*counted, strict=True))
    return 100 * errors / words


def main(given: Sequence[str] | None = None) -> None:
    """Train, and write adapter and checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="The folder that lessons wrote.")
    parser.add_argument("--backbone", default="runs/pocket/parts", help="Pocket without hearing.")
    arguments = parser.parse_args(given)
    out = arguments.out
    torch.manual_seed(0)
    backbone = load_backbone("qwen2_audio", arguments.backbone)
    backbone.model.float()
    letters = Letters(backbone)
    done = [name for name in PASSES if (out / name / LEARNT).is_file()]
    if done:
        adapted = PeftModel.from_pretrained(backbone.model, str(out / done[-1]), is_trainable=True)
        letters.load_state_dict(load_file(out / done[-1] / LEARNT))
    else:
        saved = ["multi_modal_projector"]
        adapted = get_peft_model(
            backbone.model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TOWER, modules_to_save=saved)
        )
    adapted.eval()  # no dropout
    held_out: dict[str, list[Clip]] = {}
    for clip in with_text(out / "dev.jsonl"):
        held_out.setdefault(source_of(clip["path"]), []).append(clip)
    for name in PASSES:
        if name not in done:
            learn(
                name, letters, backbone, adapted, with_times(out) if name == "times" else with_text(out / "train.jsonl")
            )
            adapted.save_pretrained(str(out / name))
            save_file(letters.state_dict(), out / name / LEARNT)
            for source, own in held_out.items():
                wer = word_error_rate(letters, backbone, own)
                typer.echo(f"{name}: WER of the letters alone {wer:.1f} % on {len(own)} held-out clips of {source}")
    backbone.model = adapted.merge_and_unload().half()
    backbone.save_pretrained(str(out / "aligned"))
    write_whole(out / "aligned" / "README.md", "Pocket after experiments/pocket/align.py.\n")


if __name__ == "__main__":
    main()
