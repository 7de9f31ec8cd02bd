"""The pitch expert: basic-pitch's contour network in PyTorch (§3.3.2, Table A).

The network is Spotify's basic-pitch (Apache-2.0): a constant-Q transform, a normalised log, eight
harmonics stacked as channels, one 3 x 39 convolution whose ReLU output is the feature z_k (8 x 264 a
frame), and one 5 x 5 convolution h to the 264-bin contour posteriorgram. Its weights are read from the
ONNX file in the installed wheel; TensorFlow is never imported.

h is differentiable and frozen, so the student's features pass through it too:
L_pitch = MSE(z^, z) + w_aux focal-BCE(h(z^), h(z)).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coat.errors import CoatError
from coat.experts.base import Expert, Picture
from coat.experts.events import Event, events_of
from coat.losses import focal_bce

SAMPLING_RATE = 22_050
HOP = 256
BINS_PER_OCTAVE = 36
NUM_CQT_BINS = 309
NUM_OCTAVES = 9
NUM_BINS = 264  # three a semitone from A0
NUM_CHANNELS = 8
WINDOW_SAMPLES = 43_844
# Upstream reads long audio in two-second windows and drops 15 frames at both ends of each. Its windows
# advance 188 samples less than the frames they keep, so times drift by 0.5 %; ours advance exactly.
# Of the posteriorgram, and of the shortest note that counts.
NOTE_THRESHOLD, NOTE_SECONDS = 0.3, 0.1
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
NOTE_NAMES = [f"{PITCH_CLASSES[(9 + key) % 12]}{(9 + key) // 12}" for key in range(88)]  # from A0
MARGIN_FRAMES = 15
# Where the harmonics 0.5, 1, 2, ... 7 lie, in CQT bins.
HARMONIC_SHIFTS = (-36, 0, 36, 57, 72, 84, 93, 101)


class ConstantQ(nn.Module):
    """Magnitudes of a constant-Q transform, one octave at a time from the top, halving the rate in between."""

    real: Tensor
    imaginary: Tensor
    low_pass: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("real", torch.zeros(BINS_PER_OCTAVE, 1, HOP))
        self.register_buffer("imaginary", torch.zeros(BINS_PER_OCTAVE, 1, HOP))
        self.register_buffer("low_pass", torch.zeros(1, 1, HOP))
        self.register_buffer("scale", torch.zeros(NUM_CQT_BINS, 1))

    def forward(self, waveform: Tensor) -> Tensor:
        """``(N, samples)`` at 22.05 kHz -> ``(N, frames, 309)``."""
        signal, octaves = waveform.unsqueeze(1), []
        for octave in range(NUM_OCTAVES):
            padded = F.pad(signal, (HOP // 2, HOP // 2), mode="reflect")
            stride = HOP >> octave
            power = F.conv1d(padded, self.real, stride=stride) ** 2
            octaves.append(power + F.conv1d(padded, self.imaginary, stride=stride) ** 2)
            if octave + 1 < NUM_OCTAVES:
                signal = F.conv1d(F.pad(signal, (HOP // 2 - 1, HOP // 2 - 1)), self.low_pass, stride=2)
        frames = min(octave.shape[-1] for octave in octaves)
        lowest_first = torch.cat([octave[..., :frames] for octave in reversed(octaves)], dim=1)
        return (lowest_first[:, -NUM_CQT_BINS:].sqrt() * self.scale).transpose(1, 2)


class ContourNetwork(nn.Module):
    """CQT, normalised log, harmonic stacking and the two contour convolutions."""

    log_scale: Tensor
    log_shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cqt = ConstantQ()
        self.register_buffer("log_scale", torch.ones(()))
        self.register_buffer("log_shift", torch.zeros(()))
        self.feature_conv = nn.Conv2d(NUM_CHANNELS, NUM_CHANNELS, (3, 39), padding=(1, 19))
        self.contour_conv = nn.Conv2d(NUM_CHANNELS, 1, (5, 5), padding=(2, 2))
        # Eight channels: on CPUs channels-last runs this convolution five to ten times faster.
        self.feature_conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, waveform: Tensor) -> Tensor:
        """Windows ``(N, 43844)`` -> features z ``(N, frames, 8 x 264)``."""
        return self.from_magnitudes(self.cqt(waveform))

    def from_magnitudes(self, magnitudes: Tensor) -> Tensor:
        """Everything after the transform: ``(N, frames, 309)`` -> z ``(N, frames, 8 x 264)``."""
        level = 10 * torch.log10(magnitudes.square() + 1e-10)
        level = level - level.amin((1, 2), keepdim=True)
        loudest = level.amax((1, 2), keepdim=True)
        level = torch.where(loudest > 0, level / loudest.clamp(min=1e-30), 0.0)  # silence stays zero
        harmonics = stack_harmonics(level * self.log_scale + self.log_shift)
        harmonics = harmonics.contiguous(memory_format=torch.channels_last)
        features = F.relu(self.feature_conv(harmonics))  # (N, 8, frames, 264)
        return features.permute(0, 2, 1, 3).flatten(2)

    def contour_logits(self, features: Tensor) -> Tensor:
        """H before its sigmoid: features ``(N, L, 8 x 264)`` -> ``(N, L, 264)``."""
        channels = features.unflatten(2, (NUM_CHANNELS, NUM_BINS)).permute(0, 2, 1, 3)
        # Channels-last makes its backward pass on CPUs ten times faster.
        channels = channels.contiguous(memory_format=torch.channels_last)
        return self.contour_conv(channels).squeeze(1)


def stack_harmonics(level: Tensor) -> Tensor:
    """``(N, frames, 309)`` -> ``(N, 8, frames, 264)``: channel c holds the level at the c-th harmonic of each bin."""
    width = level.shape[-1]
    shifted = []
    for shift in HARMONIC_SHIFTS:
        moved = F.pad(level[..., :shift], (-shift, 0)) if shift < 0 else F.pad(level[..., shift:], (0, shift))
        shifted.append(moved[..., : min(NUM_BINS, width)])
    return torch.stack(shifted, dim=1)


class BasicPitch(Expert):
    """The pitch expert.

    Args:
        weights: The ONNX file; that of the installed ``basic-pitch`` wheel if None.
        aux_weight: w_aux of the focal term.
        focal_gamma: Its focusing exponent.

    Raises:
        CoatError: The weights or the ``onnx`` package are missing.
    """

    name = "basic_pitch"
    gflops_per_second = 0.53
    licence = "Apache-2.0 (Spotify)"
    reference = "arXiv 2203.09893"
    sampling_rate = SAMPLING_RATE
    feature_dim = NUM_CHANNELS * NUM_BINS
    frame_rate = SAMPLING_RATE / HOP

    def __init__(self, weights: str | Path | None = None, aux_weight: float = 10.0, focal_gamma: float = 2.0) -> None:
        super().__init__()
        self.aux_weight, self.focal_gamma = aux_weight, focal_gamma
        self.network = ContourNetwork()
        self.network.load_state_dict(read_onnx_weights(Path(weights) if weights else find_onnx_file()))
        self.freeze()

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`. Each clip is read in overlapping two-second windows."""
        frames = lengths // HOP + 1
        windows, owners = cut_windows(waveforms, lengths)
        # Four windows at a time stay in a CPU's cache; kept is (windows, 142, e).
        kept = torch.cat([self.network(part)[:, MARGIN_FRAMES:-MARGIN_FRAMES] for part in windows.split(4)])
        out = waveforms.new_zeros(len(waveforms), int(frames.max()), self.feature_dim)
        for clip in range(len(waveforms)):
            own = kept[owners == clip].flatten(0, 1)[: int(frames[clip])]
            out[clip, : len(own)] = own
        return out, frames

    def loss(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """MSE on the features plus the focal term on the posteriorgrams, for each frame."""
        real = mask.unsqueeze(-1)
        # h looks two frames to either side: what lies in the padding must be zero, as at a clip's own end.
        prediction, target = prediction.float() * real, target.float() * real
        dense = (prediction - target).square().mean(-1)
        with torch.no_grad():
            wanted = self.network.contour_logits(target).sigmoid()
        sparse = focal_bce(self.network.contour_logits(prediction), wanted, gamma=self.focal_gamma).mean(-1)
        return dense + self.aux_weight * sparse

    def posteriorgram(self, features: Tensor) -> Tensor:
        """h(z): contour probabilities ``(N, L, 264)``."""
        return self.network.contour_logits(features.float()).sigmoid()

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """The pitch roll of one clip, ``(88, L)``, a row a semitone from A0."""
        roll = _semitones(self.posteriorgram(features[None])[0].detach().cpu().numpy())
        octaves = [name if name.startswith("C") and "#" not in name else "" for name in NOTE_NAMES]
        return Picture(roll.T, "pitch roll", "note", octaves)

    def events(self, features: Tensor, frame_rate: float) -> list[Event]:
        """Notes by name: A4 is 440 Hz."""
        return notes_of(self.posteriorgram(features[None])[0].detach().cpu().numpy(), frame_rate)

    def agreement(self, prediction: Tensor, target: Tensor, frame_rate: float) -> dict[str, float]:
        """F1 of notes by ``mir_eval``: onsets within 100 ms, pitches within a quarter tone, ends free."""
        from mir_eval.transcription import precision_recall_f1_overlap

        made, known = (intervals_of(self.events(x, frame_rate)) for x in (prediction, target))
        if not len(known[0]):
            return {}
        if not len(made[0]):
            return {"note F1": 0.0}
        found = precision_recall_f1_overlap(*known, *made, onset_tolerance=0.1, offset_ratio=None)
        return {"note F1": float(found[2])}


def notes_of(contour: np.ndarray, frame_rate: float) -> list[Event]:
    """Notes of a contour posteriorgram: semitones that stay above a threshold for a while.

    Args:
        contour: ``(L, 264)``, three bins a semitone from A0.
        frame_rate: Frames a second.
    """
    return events_of(_peaks(contour), NOTE_NAMES, frame_rate, threshold=NOTE_THRESHOLD, min_seconds=NOTE_SECONDS)


def intervals_of(notes: Sequence[Event]) -> tuple[np.ndarray, np.ndarray]:
    """``(notes, 2)`` beginnings and ends in seconds, and ``(notes,)`` pitches in Hz, as ``mir_eval`` takes them."""
    spans = [(note.start, note.end) for note in notes]
    pitches = [27.5 * 2 ** (NOTE_NAMES.index(note.label) / 12) for note in notes]
    return np.array(spans).reshape(-1, 2), np.array(pitches)


def _semitones(contour: np.ndarray) -> np.ndarray:
    """Probabilities of semitones ``(L, 88)``: the strongest of the three bins of each."""
    # A semitone is in the middle of its three bins, and A0 is the first of all.
    centred = np.pad(contour, ((0, 0), (1, 0)))[:, : contour.shape[1]]
    return centred.reshape(len(contour), -1, 3).max(-1)


def _peaks(contour: np.ndarray) -> np.ndarray:
    """Probabilities of semitones ``(L, 88)``, zero where a neighbour is stronger."""
    semitones = _semitones(contour)
    # Neighbours of a note sound along; only the strongest of three is one.
    padded = np.pad(semitones, ((0, 0), (1, 1)))
    return semitones * ((semitones > padded[:, :-2]) & (semitones >= padded[:, 2:]))


def cut_windows(waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Cut clips into two-second windows that overlap by 30 frames.

    Returns:
        ``(windows, 43844)`` samples and ``(windows,)`` the clip each belongs to.
    """
    margin = MARGIN_FRAMES * HOP
    advance = (1 + WINDOW_SAMPLES // HOP - 2 * MARGIN_FRAMES) * HOP
    windows, owners = [], []
    for clip, length in enumerate(lengths.tolist()):
        count = -(-(length // HOP + 1) * HOP // advance)
        padded = F.pad(waveforms[clip, :length], (margin, count * advance + WINDOW_SAMPLES - length - margin))
        windows.append(padded.unfold(0, WINDOW_SAMPLES, advance)[:count])
        owners += [clip] * count
    return torch.cat(windows), torch.tensor(owners, device=waveforms.device)


def find_onnx_file() -> Path:
    """The ONNX file of the installed ``basic-pitch`` wheel, found without importing it.

    Raises:
        CoatError: The package is not installed.
    """
    spec = importlib.util.find_spec("basic_pitch")
    if spec is None or not spec.submodule_search_locations:
        raise CoatError(
            "The pitch expert's weights are in the basic-pitch package, which is not installed.",
            "pip install --no-deps basic-pitch==0.4.0   (without --no-deps it brings TensorFlow)",
        )
    return Path(spec.submodule_search_locations[0]) / "saved_models" / "icassp_2022" / "nmp.onnx"


def read_onnx_weights(path: Path) -> dict[str, Tensor]:
    """The contour network's weights, as a state dict of :class:`ContourNetwork`.

    Raises:
        CoatError: ``onnx`` is not installed, or the file is missing or is another network.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise CoatError("Reading basic-pitch's weights needs onnx.", "pip install 'coat-audio[pitch]'") from None
    if not path.is_file():
        raise CoatError(f"There is no file {path}.", "pip install --force-reinstall --no-deps basic-pitch==0.4.0")
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in onnx.load(path).graph.initializer}

    def only(shape: tuple[int, ...], key: str = "") -> Tensor:
        found = [value for name, value in tensors.items() if tuple(value.shape) == shape and key in name]
        if len(found) != 1:
            raise CoatError(f"{path} is not basic-pitch 0.4's network (no single {key or 'tensor'} of shape {shape}).")
        return found[0].float()

    # The exporter folded constants under numbered names; shapes tell them apart, but for the two kernels of
    # the transform, whose order does not matter: only the sum of their squares is used.
    kernels = [value for value in tensors.values() if tuple(value.shape) == (BINS_PER_OCTAVE, 1, 1, HOP)]
    if len(kernels) != 2:
        raise CoatError(f"{path} is not basic-pitch 0.4's network (it has {len(kernels)} transform kernels, not 2).")
    return {
        "cqt.real": kernels[0].reshape(BINS_PER_OCTAVE, 1, HOP),
        "cqt.imaginary": kernels[1].reshape(BINS_PER_OCTAVE, 1, HOP),
        "cqt.low_pass": only((1, 1, 1, HOP)).reshape(1, 1, HOP),
        "cqt.scale": only((NUM_CQT_BINS, 1, 1), "cq_t2010v2").reshape(NUM_CQT_BINS, 1),
        "log_scale": _batch_norm(tensors, "V3").reshape(()),
        "log_shift": _batch_norm(tensors, "V31").reshape(()),
        "feature_conv.weight": only((NUM_CHANNELS, NUM_CHANNELS, 3, 39)),
        "feature_conv.bias": only((NUM_CHANNELS,), "batch_normalization_2"),
        "contour_conv.weight": only((1, NUM_CHANNELS, 5, 5)),
        "contour_conv.bias": only((1,), "contours-reduced/BiasAdd/ReadVariableOp"),
    }


def _batch_norm(tensors: dict[str, Any], ending: str) -> Tensor:
    """Scale (``V3``) or shift (``V31``) of the input's batch normalisation."""
    name = "model_1/batch_normalization/FusedBatchNormV3"
    return tensors[f"{name};{name[:-2]}{ending}"].float()
