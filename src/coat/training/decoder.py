"""Fit the decoder for the eye: what a tower's embeddings hold, as a spectrogram."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coat.audio import Clip
from coat.audio_batch import AudioBatch
from coat.backbones.base import Backbone
from coat.errors import CoatError
from coat.experts.decoder import DETAIL, MelDecoder
from coat.experts.log_mel import LogMel

CHUNK_TOKENS = 25
ENCODED_CLIPS = 16


@dataclass(frozen=True)
class Fitted:
    """A decoder and how well it draws.

    Attributes:
        decoder: In evaluation mode.
        explained: R^2 over the held-out clips' spectrograms.
        clips: Held out.
    """

    decoder: MelDecoder
    explained: float
    clips: int


def fit_decoder(
    backbone: Backbone,
    clips: Sequence[Clip],
    *,
    steps: int = 1500,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> Fitted:
    """Learn to draw spectrograms from a frozen tower's embeddings.

    Args:
        backbone: With its weights.
        clips: At least two; every tenth is held out.
        steps: Steps of AdamW on the absolute error.
        batch_size: Stretches of a second in a step.
        learning_rate: Peak of one cycle.
        seed: Seed of weights and order.
        progress: Called after every step.

    Raises:
        CoatError: There are too few clips.
    """
    if len(clips) < 2:
        raise CoatError(f"{len(clips)} clip(s) are too few to fit a decoder.", "Some hundred are enough.")
    held_out = set(range(0, len(clips), 10))
    pairs = [pair for start in range(0, len(clips), ENCODED_CLIPS)
             for pair in _pairs(backbone, clips[start : start + ENCODED_CLIPS])]  # fmt: skip
    seen = [pair for index, pair in enumerate(pairs) if index not in held_out]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = MelDecoder(backbone.hidden_size)
        _learn(decoder, seen, steps, batch_size, learning_rate, progress)
    with torch.no_grad():
        wanted = [pairs[index] for index in sorted(held_out)]
        error = sum(float((decoder(x) - mel).square().sum()) for x, mel in wanted)
        everything = torch.cat([mel for _, mel in wanted])
    spread = float((everything - everything.mean(0)).square().sum())
    return Fitted(decoder.eval().requires_grad_(False), 1 - error / max(spread, 1e-9), len(wanted))


@torch.no_grad()
def _pairs(backbone: Backbone, clips: Sequence[Clip]) -> list[tuple[Tensor, Tensor]]:
    """x_A and the spectrogram of each clip, on axes whose steps fall together."""
    audio_spec = backbone.audio_spec
    embeddings = backbone.audio_embeddings(
        backbone.audio_features([clip.at(audio_spec.sampling_rate) for clip in clips])
    )
    counts = torch.tensor([len(x) for x in embeddings])
    mel = LogMel()
    rate = DETAIL * audio_spec.token_rate
    drawn = mel.targets(
        *AudioBatch.of(clips, [mel.sampling_rate]).at(mel.sampling_rate),
        counts * DETAIL,
        token_rate=rate,
        first_token_seconds=audio_spec.first_token_seconds - (DETAIL - 1) / 2 / rate,
    )
    return [(x.float().cpu(), row[: DETAIL * len(x)].float().clone()) for x, row in zip(embeddings, drawn, strict=True)]


def _learn(
    decoder: MelDecoder,
    pairs: Sequence[tuple[Tensor, Tensor]],
    steps: int,
    batch_size: int,
    learning_rate: float,
    progress: Callable[[], None] | None,
) -> None:
    all_embeddings = torch.cat([x for x, _ in pairs])
    decoder.mean.copy_(all_embeddings.mean(0))
    decoder.spread.copy_(all_embeddings.std(0).clamp(min=1e-4))
    optimizer = torch.optim.AdamW(decoder.parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    length = min(CHUNK_TOKENS, min(len(x) for x, _ in pairs))
    for _ in range(steps):
        parts = []
        for index in torch.randint(len(pairs), (batch_size,)).tolist():
            x, mel = pairs[index]
            start = int(torch.randint(len(x) - length + 1, ()))
            parts.append((x[start : start + length], mel[DETAIL * start : DETAIL * (start + length)]))
        x, mel = (torch.stack(column) for column in zip(*parts, strict=True))
        loss = (decoder(x) - mel).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress:
            progress()
