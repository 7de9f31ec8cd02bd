"""Audio feature reconstruction: the backbone's own audio embeddings as the expert (§3.3.1)."""

from __future__ import annotations

from torch import Tensor

from coat.experts.base import Expert


class AudioReconstruction(Expert):
    """E_audio = f_A. The forward pass makes x_A anyway, so the target costs nothing; it is detached.

    Args:
        hidden_size: d of the backbone.
        token_rate: Its audio tokens a second.
    """

    name = "audio_reconstruction"
    licence = "the backbone's"
    needs_waveform = False

    def __init__(self, hidden_size: int, token_rate: float) -> None:
        super().__init__()
        self.feature_dim = hidden_size
        self.frame_rate = token_rate

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Not from waveforms: the forward pass of the backbone gives x_A."""
        raise NotImplementedError("audio reconstruction takes x_A from the backbone's forward pass")
