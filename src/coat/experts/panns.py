"""PANNs CNN14 (DecisionLevelMax): sound events (Kong et al., arXiv 1912.10211)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coat.experts.base import Picture
from coat.experts.events import Event, events_of
from coat.experts.weights import PretrainedExpert

UPSTREAM = "qiuqiangkong/audioset_tagging_cnn d2f4b8c"
WINDOW, HOP, MELS = 1024, 320, 64
# Five poolings by two: a frame for 32 frames of log-mel.
POOLED = 32
# Of a class's probability; AudioSet taggers seldom give much.
HEARD = 0.1
SHOWN = 12
# Its frames are 0.3 s long; a shorter event is a part of one.
EVENT_SECONDS = 0.2


class ConvBlock(nn.Module):
    """Two convolutions, each normalised and rectified, then pooling by two in time and frequency."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, frames: Tensor, pool: int) -> tuple[Tensor, Tensor]:
        """``(N, C, T, F)`` and true frames ``(N,)``; what lies beyond stays zero, as a clip alone is padded."""
        x = _kept(F.relu(self.bn1(self.conv1(x))), frames)
        x = _kept(F.relu(self.bn2(self.conv2(x))), frames)
        if pool == 1:
            return x, frames
        frames = frames // pool
        return _kept(F.avg_pool2d(x, pool), frames), frames


class Panns(PretrainedExpert):
    """The embedding before CNN14's classifier, 2048 numbers 3.125 times a second.

    The loss compares what the classifier g_cls, frozen and shared, hears in prediction and target (§3.3.1).
    """

    name: ClassVar[str] = "panns"
    gflops_per_second = 4.04
    licence: ClassVar[str] = "CC-BY-4.0 (Kong et al., Zenodo 3987831)"
    reference: ClassVar[str] = "arXiv 1912.10211"
    source: ClassVar[str] = "https://zenodo.org/record/3987831/files/Cnn14_DecisionLevelMax_mAP%3D0.385.pth"

    filters: Tensor
    window: Tensor

    sampling_rate = 32_000
    frame_rate = 32_000 / HOP / POOLED
    first_frame_seconds = (POOLED - 1) / 2 * HOP / 32_000

    def build(self, sizes: tuple[int, ...]) -> None:
        """See :meth:`PretrainedExpert.build`; sizes are the blocks' widths and the number of classes."""
        *widths, classes = sizes
        self.feature_dim = widths[-1]
        self.register_buffer("filters", _mel_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.bn0 = nn.BatchNorm2d(MELS)
        # Statistics of decibels, until a checkpoint says better.
        self.bn0.load_state_dict(
            {"running_mean": torch.full((MELS,), -40.0), "running_var": torch.full((MELS,), 400.0)}, strict=False
        )
        self.blocks = nn.ModuleList(
            ConvBlock(before, width) for before, width in zip([1, *widths], widths, strict=False)
        )
        self.fc1 = nn.Linear(widths[-1], widths[-1])
        self.classifier = nn.Linear(widths[-1], classes)
        self.apply(_initialised)

    @classmethod
    def sizes_of(cls, state: Mapping[str, Tensor]) -> tuple[int, ...]:
        """See :meth:`PretrainedExpert.sizes_of`."""
        widths = [len(state[f"blocks.{index}.conv1.weight"]) for index in range(6)]
        return (*widths, len(state["classifier.bias"]))

    @classmethod
    def random_sizes(cls, kind: str) -> tuple[int, ...]:
        """See :meth:`PretrainedExpert.random_sizes`."""
        return (64, 128, 256, 512, 1024, 2048, 527) if kind == "official" else (4, 4, 8, 8, 16, 32, 527)

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`PretrainedExpert.convert`; the transform's own tables are made anew."""
        converted = {}
        for name, value in state.items():
            if name.startswith("conv_block"):
                block, rest = name.removeprefix("conv_block").split(".", 1)
                converted[f"blocks.{int(block) - 1}.{rest}"] = value
            elif name.startswith(("bn0.", "fc1.")):
                converted[name] = value
            elif name.startswith("fc_audioset."):
                converted[name.replace("fc_audioset", "classifier")] = value
        return converted

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        mel, frames = self._log_mel(waveforms, lengths)
        x = self.bn0(mel.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2).unsqueeze(1)
        x = _kept(x, frames)
        for index, block in enumerate(self.blocks):
            x, frames = block(x, frames, 1 if index == len(self.blocks) - 1 else 2)
        x = x.mean(3)
        x = F.max_pool1d(x, 3, 1, 1) + F.avg_pool1d(x, 3, 1, 1)
        return F.relu(self.fc1(x.transpose(1, 2))), frames

    def _log_mel(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, T, mels)`` in dB and true frames; each clip is reflected at its own end."""
        shortest = (POOLED - 1) * HOP
        rows = []
        for waveform, length in zip(waveforms, lengths.tolist(), strict=True):
            clip = F.pad(waveform[:length], (0, max(0, shortest - length)))
            spectrum = torch.stft(
                clip, WINDOW, HOP, window=self.window, center=True, pad_mode="reflect", return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            rows.append(10 * (power.T @ self.filters).clamp(min=1e-10).log10())
        frames = lengths.clamp(min=shortest) // HOP + 1
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), frames

    def loss(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Binary cross-entropy between what g_cls hears in both, over 527 classes, ``(N, L)`` (§3.3.1).

        The target's own entropy, which no prediction can change, is taken off: gradients are the same, and the loss
        is zero where prediction and target sound alike.
        """
        del mask
        logits = self.classifier(prediction.float())
        heard = self.classifier(target.float())
        wanted = heard.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(heard, wanted, reduction="none")
        return (F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") - entropy).mean(-1)

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """The classes that are heard most, by name, over time."""
        scores, known = (
            self.classifier(x.to(self.classifier.weight.dtype)).sigmoid().float().detach().cpu()
            for x in (features, features if like is None else like)
        )
        most = known.amax(0).topk(min(SHOWN, scores.shape[-1])).indices.sort(descending=True).values
        names = audioset_labels()
        return Picture(scores[:, most].numpy().T, "sound events", "class", [names[i] for i in most.tolist()])

    def events(self, features: Tensor, frame_rate: float) -> list[Event]:
        """AudioSet's classes where PANNs gives them at least ``HEARD``."""
        scores = self.classifier(features.to(self.classifier.weight.dtype)).sigmoid().float().detach().cpu().numpy()
        return events_of(scores, audioset_labels(), frame_rate, threshold=HEARD, min_seconds=EVENT_SECONDS)

    def agreement(self, prediction: Tensor, target: Tensor, frame_rate: float) -> dict[str, float]:
        """Average precision over frames and classes; a class is there where PANNs gives it at least ``HEARD``."""
        from sklearn.metrics import average_precision_score

        del frame_rate
        said, known = (
            self.classifier(x.to(self.classifier.weight.dtype)).sigmoid().float().cpu().numpy()
            for x in (prediction, target)
        )
        there = known >= HEARD
        return {"frame AP": float(average_precision_score(there.ravel(), said.ravel()))} if there.any() else {}


def _initialised(module: nn.Module) -> None:
    """Start random weights so that signals keep their size through rectified convolutions."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


@cache
def audioset_labels() -> tuple[str, ...]:
    """The 527 classes, in the classifier's order."""
    return tuple((files("coat.experts") / "labels" / "audioset.txt").read_text().splitlines())


def _kept(x: Tensor, frames: Tensor) -> Tensor:
    """``(N, C, T, F)`` with zeros beyond true frames."""
    real = torch.arange(x.shape[2], device=x.device) < frames[:, None]
    return x * real[:, None, :, None]


def _mel_filters() -> Tensor:
    """Slaney's mel filters from 50 Hz to 14 kHz, ``(513, 64)``."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=WINDOW // 2 + 1, num_mel_filters=MELS, min_frequency=50, max_frequency=14_000,
        sampling_rate=32_000, norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    return torch.from_numpy(filters).float()
