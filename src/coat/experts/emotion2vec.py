"""emotion2vec: affect (Ma et al., arXiv 2312.15185), and its plus variants with a classifier of nine emotions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coat.experts.base import Picture
from coat.experts.speech import CHANNELS, Block, Mask, SpeechExpert, padding_mask, principal_components, rows_at_once

UPSTREAM = "modelscope/FunASR 3c58cb5"
EMOTIONS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")


@dataclass(frozen=True)
class Emotion2VecSizes:
    """Sizes of the encoder."""

    width: int = 768
    heads: int = 12
    inner: int = 3072
    context_layers: int = 4
    layers: int = 8
    extra_tokens: int = 10
    classes: int = 0
    channels: int = CHANNELS


class Emotion2Vec(SpeechExpert):
    """The last hidden state of emotion2vec, fifty times a second. Mean squared error."""

    name: ClassVar[str] = "emotion2vec"
    gflops_per_second = 13.94
    licence: ClassVar[str] = "MIT code; weights under the FunASR model licence (Alibaba)"
    reference: ClassVar[str] = "arXiv 2312.15185"
    source: ClassVar[str] = "emotion2vec/emotion2vec_base"
    file: ClassVar[str] = "emotion2vec_base.pt"

    def build(self, sizes: Emotion2VecSizes) -> None:
        """See :meth:`PretrainedExpert.build`."""
        self.build_front(sizes.width, sizes.channels)
        self.extra_tokens = nn.Parameter(torch.zeros(1, sizes.extra_tokens, sizes.width))
        self.alibi_scale = nn.Parameter(torch.ones(1, sizes.heads, 1, 1))
        self.norm = nn.LayerNorm(sizes.width)
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.inner, qkv_bias=True)
            for _ in range(sizes.context_layers + sizes.layers)
        )
        self.classifier = nn.Linear(sizes.width, sizes.classes) if sizes.classes else None

    @classmethod
    def sizes_of(cls, state: Mapping[str, Tensor]) -> Emotion2VecSizes:
        """See :meth:`PretrainedExpert.sizes_of`."""
        inner, width = state["blocks.0.up.weight"].shape
        layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        classes = len(state["classifier.bias"]) if "classifier.bias" in state else 0
        heads, extra = state["alibi_scale"].shape[1], state["extra_tokens"].shape[1]
        channels = len(state["projection.0.weight"])
        return Emotion2VecSizes(width, heads, inner, 0, layers, extra, classes, channels)

    @classmethod
    def random_sizes(cls, kind: str) -> Emotion2VecSizes:
        """See :meth:`PretrainedExpert.random_sizes`."""
        return Emotion2VecSizes() if kind == "official" else Emotion2VecSizes(64, 2, 128, 1, 2, 3, channels=64)

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`PretrainedExpert.convert`; the decoder stays behind, context blocks and blocks become one row."""
        context = [name for name in state if ".context_encoder.blocks." in name]
        ahead = 1 + max((int(name.split(".blocks.")[1].split(".")[0]) for name in context), default=-1)
        converted = {}
        for name, value in state.items():
            new = _renamed(name, ahead)
            if new is not None:
                converted[new] = value.reshape(1, -1, 1, 1) if new == "alibi_scale" else value
        return converted

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        x, real, counts = self.embed(waveforms, lengths)
        extra = self.extra_tokens.shape[1]
        x = torch.cat([self.extra_tokens.expand(len(x), -1, -1), x], 1)
        padding = padding_mask(F.pad(real, (extra, 0), value=True), x.dtype)
        frames = x.shape[1]
        rows = partial(self._mask, padding=padding)
        fits = rows_at_once(len(x), self.alibi_scale.shape[1], frames) == frames
        mask: Mask = rows(0, frames) if fits else rows  # made once for all blocks, where there is room
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, mask)
        return x[:, extra : extra + int(counts.max())], counts

    def _mask(self, start: int, stop: int, padding: Tensor) -> Tensor:
        """Padding and ALiBi, the further away, the less it is attended to: rows of ``(N, heads, L, L)``.

        Extra tokens stand nowhere: distances do not weigh on them.
        """
        extra = self.extra_tokens.shape[1]
        places = torch.arange(padding.shape[-1], dtype=torch.float32, device=padding.device)
        distances = (places[start:stop, None] - places).abs_()
        distances[:, :extra] = 0
        distances[: max(0, extra - start)] = 0
        slopes = torch.tensor(alibi_slopes(self.alibi_scale.shape[1]), device=padding.device)
        scale = -slopes[None, :, None, None] * self.alibi_scale.clamp(min=0)
        # In one pass over what is as large as the square of a clip.
        return torch.addcmul(padding, distances.to(padding.dtype), scale.to(padding.dtype))

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """Scores of emotions over time where the checkpoint has a classifier, else the directions that vary most."""
        if self.classifier is None:
            return Picture(principal_components(features, like), "affect features", "principal component")
        scores = self.classifier(features.to(self.classifier.weight.dtype)).softmax(-1)
        names = EMOTIONS if scores.shape[-1] == len(EMOTIONS) else None
        return Picture(scores.float().detach().cpu().numpy().T, "emotion", "class", names)


def alibi_slopes(heads: int) -> list[float]:
    """ALiBi's slopes: powers of two, and every other one of the next power's for the heads beyond it."""
    power = 2 ** math.floor(math.log2(heads))
    start = 2 ** (-(2 ** -(math.log2(power) - 3)))
    slopes = [start ** (index + 1) for index in range(power)]
    return slopes if power == heads else slopes + alibi_slopes(2 * power)[0::2][: heads - power]


_AUDIO = "modality_encoders.AUDIO."


def _renamed(name: str, ahead: int) -> str | None:
    """Our name of a weight; None for what features do not need."""
    name = name.removeprefix("d2v_model.").removeprefix(_AUDIO)
    if match := re.fullmatch(r"local_encoder\.conv_layers\.(\d+)\.(0|2\.1)\.(weight|bias)", name):
        return f"frames.{'convs' if match[2] == '0' else 'norms'}.{match[1]}.{match[3]}"
    if match := re.fullmatch(r"project_features\.([12])\.(weight|bias)", name):
        return f"projection.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"relative_positional_encoder\.(\d+)\.0\.(weight|bias)", name):
        return f"positions.convs.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"(context_encoder\.)?blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        index = int(match[2]) + (0 if match[1] else ahead)
        part = {"attn.qkv": "qkv", "attn.proj": "out", "mlp.fc1": "up", "mlp.fc2": "down"}.get(match[3], match[3])
        return f"blocks.{index}.{part}.{match[4]}"
    direct = {"context_encoder.norm.weight": "norm.weight", "context_encoder.norm.bias": "norm.bias",
              "proj.weight": "classifier.weight", "proj.bias": "classifier.bias"}  # fmt: skip
    return direct.get(name, name if name in ("extra_tokens", "alibi_scale") else None)
