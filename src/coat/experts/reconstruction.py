"""Audio feature reconstruction: the backbone's own audio embeddings as the expert (§3.3.1)."""

from __future__ import annotations

from torch import Tensor

from coat.experts.base import Expert, Picture
from coat.experts.decoder import Decode, load_decoder
from coat.experts.speech import principal_components


class AudioReconstruction(Expert):
    """E_audio = f_A. The forward pass makes x_A anyway, so the target costs nothing; it is detached.

    Args:
        hidden_size: d of the backbone.
        token_rate: Its audio tokens a second.
        decoder: For the eye alone: see :func:`coat.experts.decoder.load_decoder`. Without one, the numbers are shown.
    """

    name = "audio_reconstruction"
    representational = True
    licence = "the backbone's"
    needs_waveform = False

    def __init__(self, hidden_size: int, token_rate: float, decoder: str | None = None) -> None:
        super().__init__()
        self.feature_dim = hidden_size
        self.frame_rate = token_rate
        # In a list, for it is no part of the expert: neither its device nor its fingerprint.
        self._decoder: list[Decode] = [load_decoder(decoder, hidden_size)] if decoder else []

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Not from waveforms: the forward pass of the backbone gives x_A."""
        raise NotImplementedError("audio reconstruction takes x_A from the backbone's forward pass")

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """A spectrogram where there is a decoder, else the directions that vary most."""
        if not self._decoder:
            return Picture(principal_components(features, like), "audio embeddings", "principal component")
        image = self._decoder[0](features.float().cpu())
        return Picture(image.detach().numpy().T, "spectrogram of the audio embeddings", "mel band")
