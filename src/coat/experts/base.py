"""Base class of experts E_k: frozen modules that turn audio into frame features (§3.3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from coat.errors import CoatError
from coat.experts.align import align
from coat.experts.events import Event

# Targets are rounded to this, live as in a cache, so that a cache changes no loss.
TARGET_DTYPE = torch.float16


@dataclass(frozen=True)
class Picture:
    """Features as people would look at them.

    Attributes:
        image: ``(rows, frames)``, low rows at the bottom.
        title: Title of the picture.
        rows: Label of the vertical axis.
        labels: A name for each row, where rows have names; empty for rows that stay without.
    """

    image: np.ndarray
    title: str
    rows: str
    labels: Sequence[str] | None = None


class Expert(nn.Module, ABC):
    """A frozen teacher. A new one is one subclass in one file and one line in the registry.

    Attributes:
        name: Its key in recipes.
        sampling_rate: The rate in Hz of the waveforms it takes.
        feature_dim: e_k, numbers a frame.
        frame_rate: r_k, frames a second.
        first_frame_seconds: The time at the middle of its first frame.
        precision: Precision of matrix products: float32, or bfloat16 where the recipe says so.
        needs_waveform: False if it reads the backbone's audio embeddings instead.
        licence: Licence of the weights.
        commercial: Whether that licence allows commercial use.
        reference: The paper to cite.
        representational: Whether it anchors the think states in what is heard and said (§3.3.1), rather than adding a
            capability of one domain (§3.3.2).
        gflops_per_second: Work for a second of audio, where it has been counted (``benchmarks/experts.py``).
    """

    name: ClassVar[str]
    licence: ClassVar[str] = "none"
    commercial: ClassVar[bool] = True
    reference: ClassVar[str] = ""
    gflops_per_second: ClassVar[float] = 0.0
    representational: ClassVar[bool] = False
    needs_waveform: ClassVar[bool] = True
    version: ClassVar[int] = 1

    sampling_rate: int = 16_000
    feature_dim: int
    frame_rate: float
    first_frame_seconds: float = 0.0
    precision: torch.dtype = torch.float32

    @abstractmethod
    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frame features z_k of a batch.

        Args:
            waveforms: ``(N, samples)`` float32 at ``sampling_rate``, zero-padded on the right.
            lengths: ``(N,)`` true samples of each clip.

        Returns:
            ``(N, L_k, e_k)`` features and ``(N,)`` true frames of each clip.
        """

    def loss(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """The distillation loss of every frame; mean squared error unless the expert has its own.

        Args:
            prediction: P_k(H_think), ``(N, L, e_k)``.
            target: z_k aligned to the same frames, ``(N, L, e_k)``.
            mask: ``(N, L)``, True where a frame is real. Padded frames may hold anything.

        Returns:
            ``(N, L)``, a loss for each frame; those of padded frames mean nothing.
        """
        del mask
        return (prediction.float() - target.float()).square().mean(-1)

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """Show the features of one clip; the numbers themselves unless the expert knows better.

        Args:
            features: ``(L, e_k)``.
            like: ``(L', e_k)`` that decide what the rows are, where features do: a prediction is shown in the rows
                of its target, or the two could not be compared.
        """
        return Picture(features.float().cpu().numpy().T, self.name, "dimension")

    def events(self, features: Tensor, frame_rate: float) -> list[Event]:
        """Named events in the features of one clip, by their starts; none unless the expert has names.

        Args:
            features: ``(L, e_k)``, the expert's own or a head's prediction of them.
            frame_rate: Frames a second; the first frame begins at 0.
        """
        del features, frame_rate
        return []

    def agreement(self, prediction: Tensor, target: Tensor, frame_rate: float) -> dict[str, float]:
        """Measures of one clip's prediction in the expert's own terms; none unless the expert has some.

        Args:
            prediction: ``(L, e_k)``.
            target: ``(L, e_k)``.
            frame_rate: Frames a second.

        Returns:
            By name, each at most 1; what cannot be measured on the clip is left out.
        """
        del prediction, target, frame_rate
        return {}

    @torch.inference_mode()
    def hear(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Checked features at the expert's own rate, ``(N, L_k, e_k)`` float32, and true frames; see :meth:`features`.

        Frames past a clip's end are zero.

        Raises:
            ValueError: A sample is NaN or infinite.
        """
        if not torch.isfinite(waveforms).all():
            raise ValueError(
                f"{self.name} was given NaN or infinite samples: check the audio first (coat.audio.check_clip)"
            )
        # Whatever precision training runs in, an expert hears in its own.
        half = self.precision == torch.bfloat16
        with torch.autocast(waveforms.device.type, dtype=torch.bfloat16, enabled=half):
            features, frames = self.features(waveforms, lengths)
        past = torch.arange(features.shape[1], device=features.device) >= frames[:, None]
        return features.float().masked_fill(past.unsqueeze(-1), 0.0), frames

    def halved(self, features: Tensor) -> Tensor:
        """Features in half precision, as targets and caches hold them.

        Raises:
            CoatError: They are beyond it.
        """
        made = features.to(TARGET_DTYPE)
        if not torch.isfinite(made).all():
            raise CoatError(
                f"Features of expert {self.name} reach {float(features.abs().max()):.4g}, or are NaN; targets are held "
                f"in half precision, which ends at {torch.finfo(TARGET_DTYPE).max:,.0f}.",
                "Scale them down in the expert's features(), and raise its version.",
            )
        return made

    def slower_than(self, token_rate: float) -> bool:
        """Whether its frames are no more than tokens: they are kept at their own rate then, and aligned when read."""
        return self.frame_rate <= token_rate

    @torch.inference_mode()
    def targets(
        self, waveforms: Tensor, lengths: Tensor, num_tokens: Tensor, *, token_rate: float, first_token_seconds: float
    ) -> Tensor:
        """Features on the audio tokens' own time axis.

        Args:
            waveforms: ``(N, samples)`` at ``sampling_rate``.
            lengths: ``(N,)`` true samples.
            num_tokens: ``(N,)`` L_a of each clip.
            token_rate: Audio tokens a second.
            first_token_seconds: The time at the middle of the first audio token.

        Returns:
            ``(N, max L_a, e_k)`` in half precision.

        Raises:
            ValueError: A sample is NaN or infinite.
            CoatError: Features are beyond half precision.
        """
        features, frames = self.hear(waveforms, lengths)
        if self.slower_than(token_rate):
            features = self.halved(features).float()  # as a cache holds them
        aligned = align(
            features,
            frames,
            frame_rate=self.frame_rate,
            first_frame_seconds=self.first_frame_seconds,
            num_tokens=int(num_tokens.max()),
            token_rate=token_rate,
            first_token_seconds=first_token_seconds,
        )
        return self.halved(aligned)

    def fingerprint(self) -> str:
        """A short hash of name, version, precision and weights: what cached features depend on.

        An expert whose features depend on settings besides raises ``version`` or adds them here.
        """
        digest = blake2b(f"{self.name}/{self.version}/{self.precision}".encode(), digest_size=8)
        for key, value in sorted(self.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def freeze(self) -> Expert:
        """Put the expert in evaluation mode and keep gradients from its weights."""
        return self.eval().requires_grad_(False)
