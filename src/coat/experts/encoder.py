"""Any audio encoder of transformers as an expert: a model id, a layer, a way to pool.

```yaml
stages:
  - {name: experts, steps: 8000, experts: {hubert: auto, ast: auto}}
experts:
  hubert: {kind: encoder, model: facebook/hubert-base-ls960, layer: 9}
  ast: {kind: encoder, model: MIT/ast-finetuned-audioset-10-10-0.4593, pooling: mean}
```

Clips are encoded one by one: some of these models normalise over time, and hear a clip otherwise when it is padded.
Clips of over a minute are encoded in windows, so that memory does not grow with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from coat.errors import CoatError, did_you_mean
from coat.experts.base import Expert, Picture
from coat.experts.speech import principal_components

Pooling = Literal["mean", "max"]
# Models that take a clip of any length in one piece (attention over all of it, and its first layers are wide and fine)
# take windows of a minute, with this much of their neighbours before and behind.
WINDOW_SECONDS, CONTEXT_SECONDS = 60, 5


class Encoder(Expert):
    """A Hugging Face audio encoder: HuBERT, WavLM, wav2vec 2.0, Data2Vec, MERT, Whisper, AST, CLAP, EnCodec, Mimi.

    Args:
        model: Hub id or folder.
        layer: Index of the hidden states: 0 enters the first layer, -1 leaves the last. Codecs have one: their latent.
        pooling: Over frequency, where a model keeps it (AST, CLAP).
        trust_remote_code: For model types that are not in transformers, such as MERT.
    """

    name: ClassVar[str] = "encoder"
    version: ClassVar[int] = 2
    licence: ClassVar[str] = "the model's own: see its card"

    def __init__(self, model: str, layer: int = -1, pooling: Pooling = "mean", trust_remote_code: bool = False) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        if pooling not in ("mean", "max"):
            raise CoatError(f"There is no pooling '{pooling}'.", "mean or max.")
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
        if config.model_type not in READERS:
            raise CoatError(f"{model} is a '{config.model_type}'.", did_you_mean(config.model_type, list(READERS)))
        whole = AutoModel.from_pretrained(model, dtype=torch.float32, trust_remote_code=trust_remote_code)
        self.reader = READERS[config.model_type](model, whole.eval(), layer, pooling)
        self.settings = f"{config.model_type}/{layer}/{pooling}"
        self.sampling_rate = self.reader.sampling_rate
        self.frame_rate = self.reader.frame_rate
        self.first_frame_seconds = self.reader.first_frame_seconds
        with torch.inference_mode():
            self.feature_dim = self.reader(torch.zeros(self.sampling_rate)).shape[-1]

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        rows = [self.reader(waveform[:length]) for waveform, length in zip(waveforms, lengths.tolist(), strict=True)]
        counts = torch.tensor([len(row) for row in rows], device=waveforms.device)
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), counts

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """The directions that vary most."""
        return Picture(principal_components(features, like), self.settings, "principal component")

    def fingerprint(self) -> str:
        """See :meth:`Expert.fingerprint`; layer and pooling count."""
        return blake2b(f"{super().fingerprint()}/{self.settings}".encode(), digest_size=8).hexdigest()


class Reader(nn.Module, ABC):
    """One kind of encoder: from a clip at its rate to frames, and when they are."""

    sampling_rate: int
    frame_rate: float
    first_frame_seconds: float

    def __init__(self, path: str, model: Any, layer: int, pooling: Pooling) -> None:
        super().__init__()
        self.layer, self.pooling = layer, pooling
        self.prepare(path, model)

    @abstractmethod
    def prepare(self, path: str, model: Any) -> None:
        """Keep what is needed of the model, and read its rates."""

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to ``(L, e)``."""

    def _chosen(self, states: tuple[Tensor, ...]) -> Tensor:
        if not -len(states) <= self.layer < len(states):
            raise CoatError(f"There is no layer {self.layer}.", f"From 0 to {len(states) - 1}, or -1 for the last.")
        return states[self.layer]

    def _in_windows(self, waveform: Tensor, hop: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Frames ``(L, e)`` of a clip, one every ``hop`` samples; of a clip of over a minute window by window.

        A window's first and last frames are heard with their neighbours around them, and those of the neighbours are
        dropped: every frame stands for the same time as in one piece.
        """
        window, context = (seconds * self.sampling_rate // hop * hop for seconds in (WINDOW_SECONDS, CONTEXT_SECONDS))
        # What is left at the end is a window of its own where it is as long as a context.
        starts = range(0, max(1, len(waveform) - context), window)
        rows = []
        for start in starts:
            before, is_last = min(start, context), start == starts[-1]
            stop = len(waveform) if is_last else start + window + context
            frames = encode(waveform[start - before : stop])[before // hop :]
            rows.append(frames if is_last else frames[: window // hop])
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _over_frequency(self, x: Tensor, dim: int) -> Tensor:
        return x.mean(dim) if self.pooling == "mean" else x.amax(dim)


class WaveformReader(Reader):
    """wav2vec 2.0 and its kin: convolutions over the waveform, then a Transformer."""

    def prepare(self, path: str, model: Any) -> None:
        """See :meth:`Reader.prepare`."""
        from transformers import AutoFeatureExtractor

        self.encoder = model
        extractor = AutoFeatureExtractor.from_pretrained(path)
        self.normalises = bool(extractor.do_normalize)
        self.sampling_rate = int(extractor.sampling_rate)
        field, hop = 1, 1
        for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
            field, hop = field + (kernel - 1) * hop, hop * stride
        self.field = field
        self.hop = hop
        self.frame_rate = self.sampling_rate / hop
        self.first_frame_seconds = field / 2 / self.sampling_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """See :meth:`Reader.forward`."""
        if self.normalises:
            waveform = (waveform - waveform.mean()) / (waveform.var(unbiased=False) + 1e-7).sqrt()
        padded = nn.functional.pad(waveform, (0, max(0, self.field - len(waveform))))
        return self._in_windows(padded, self.hop, self._encoded)

    def _encoded(self, waveform: Tensor) -> Tensor:
        return self._chosen(self.encoder(waveform[None], output_hidden_states=True).hidden_states)[0]


class WhisperReader(Reader):
    """Whisper's encoder, over windows of 30 s, cut to the true length."""

    def prepare(self, path: str, model: Any) -> None:
        """See :meth:`Reader.prepare`."""
        from transformers import AutoFeatureExtractor

        self.encoder = model.encoder
        self.extractor = AutoFeatureExtractor.from_pretrained(path)
        self.sampling_rate = int(self.extractor.sampling_rate)
        self.hop = 2 * int(self.extractor.hop_length)  # the second convolution takes every other frame
        self.frame_rate = self.sampling_rate / self.hop
        self.first_frame_seconds = 0.0

    def forward(self, waveform: Tensor) -> Tensor:
        """See :meth:`Reader.forward`."""
        pieces = waveform.split(self.extractor.n_samples)
        mel = self.extractor(
            [_numpy(piece) for piece in pieces], sampling_rate=self.sampling_rate, return_tensors="pt"
        )["input_features"].to(waveform.device)
        states = self._chosen(self.encoder(mel, output_hidden_states=True).hidden_states)
        counts = [max(1, -(-len(piece) // self.hop)) for piece in pieces]
        return torch.cat([row[:count] for row, count in zip(states, counts, strict=True)])


class CodecReader(Reader):
    """EnCodec's and Mimi's latent before quantisation."""

    def prepare(self, path: str, model: Any) -> None:
        """See :meth:`Reader.prepare`."""
        self.codec = model
        self.sampling_rate = int(model.config.sampling_rate)
        self.hop = round(self.sampling_rate / model.config.frame_rate)
        self.frame_rate = self.sampling_rate / self.hop
        self.first_frame_seconds = self.hop / 2 / self.sampling_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """See :meth:`Reader.forward`."""
        padded = nn.functional.pad(waveform, (0, max(0, self.hop - len(waveform))))
        return self._in_windows(padded, self.hop, self._encoded)

    def _encoded(self, waveform: Tensor) -> Tensor:
        channels = 2 if self.codec.config.audio_channels == 2 else 1
        latent = self.codec.encoder(waveform.expand(1, channels, -1))
        if not isinstance(latent, Tensor):
            latent = latent.latents
        elif hasattr(self.codec, "encoder_transformer"):  # Mimi before transformers had its encoder in one piece
            latent = self.codec.encoder_transformer(latent.transpose(1, 2)).last_hidden_state.transpose(1, 2)
            latent = self.codec.downsample(latent) if self.codec.downsample is not None else latent
        return latent[0].T


class AstReader(Reader):
    """The Audio Spectrogram Transformer: patches of its windows, pooled over frequency."""

    def prepare(self, path: str, model: Any) -> None:
        """See :meth:`Reader.prepare`."""
        from transformers import AutoFeatureExtractor

        self.encoder = model
        self.extractor = AutoFeatureExtractor.from_pretrained(path)
        config = model.config
        self.sampling_rate = int(self.extractor.sampling_rate)
        self.hop = self.sampling_rate // 100  # Kaldi's 10 ms
        self.stride, self.patch = int(config.time_stride), int(config.patch_size)
        self.bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        self.most = (config.max_length - config.patch_size) // config.time_stride + 1
        self.frame_rate = 100 / self.stride
        self.first_frame_seconds = self.patch / 2 / 100

    def forward(self, waveform: Tensor) -> Tensor:
        """See :meth:`Reader.forward`; windows do not overlap, so that a frame stands for the same time in each."""
        window = self.most * self.stride * self.hop
        rows = []
        for piece in waveform.split(window):
            padded = nn.functional.pad(piece, (0, max(0, 400 - len(piece))))  # one of Kaldi's frames
            mel = self.extractor(_numpy(padded), sampling_rate=self.sampling_rate, return_tensors="pt")
            states = self.encoder(mel["input_values"].to(waveform.device), output_hidden_states=True).hidden_states
            patches = self._chosen(states)[0, 2:].unflatten(0, (self.bands, self.most))
            count = min(self.most, max(1, round(len(piece) / self.hop / self.stride)))
            rows.append(self._over_frequency(patches, 0)[:count])
        return torch.cat(rows)


class ClapReader(Reader):
    """CLAP's audio tower: the frames of its last grid, pooled over frequency."""

    def prepare(self, path: str, model: Any) -> None:
        """See :meth:`Reader.prepare`."""
        from transformers import AutoFeatureExtractor

        self.tower = model.audio_model if hasattr(model, "audio_model") else model
        self.extractor = AutoFeatureExtractor.from_pretrained(path)
        self.sampling_rate = int(self.extractor.sampling_rate)
        self.window = int(self.extractor.nb_max_samples)
        with torch.inference_mode():
            self.most = len(self._encoded(torch.zeros(self.window)))
        self.frame_rate = self.most * self.sampling_rate / self.window
        self.first_frame_seconds = 0.5 / self.frame_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """See :meth:`Reader.forward`."""
        rows = []
        for piece in waveform.split(self.window):
            count = min(self.most, max(1, round(len(piece) / self.sampling_rate * self.frame_rate)))
            padded = nn.functional.pad(piece, (0, self.window - len(piece)))
            rows.append(self._encoded(padded)[:count])
        return torch.cat(rows)

    def _encoded(self, window: Tensor) -> Tensor:
        mel = self.extractor(_numpy(window), sampling_rate=self.sampling_rate, return_tensors="pt")
        features = mel["input_features"].to(window.device)
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=window.device)
        grid = self.tower(features, is_longer=longer).last_hidden_state  # (1, e, frequency, time)
        return self._over_frequency(grid[0], 1).T


def _numpy(waveform: Tensor) -> np.ndarray:
    return waveform.detach().cpu().numpy()


READERS: dict[str, type[Reader]] = {
    "wav2vec2": WaveformReader,
    "hubert": WaveformReader,
    "wavlm": WaveformReader,
    "data2vec-audio": WaveformReader,
    "mert_model": WaveformReader,
    "whisper": WhisperReader,
    "audio-spectrogram-transformer": AstReader,
    "clap": ClapReader,
    "encodec": CodecReader,
    "mimi": CodecReader,
}
