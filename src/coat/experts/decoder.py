"""A decoder for the eye: audio embeddings back to a log-mel spectrogram (Fig. 4, audio reconstruction).

The paper looks at reconstructed embeddings through a codec of Whisper features. Here a small network is fitted to
one tower (``coat experts decoder``), or a decoder that someone else wrote is loaded by the name of its function.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from coat.errors import CoatError
from coat.experts.log_mel import BANDS

# Spectrogram frames a token.
DETAIL = 4
WIDTH = 256

Decode = Callable[[Tensor], Tensor]


class MelDecoder(nn.Module):
    """Three convolutions over audio embeddings.

    Args:
        hidden_size: d of the backbone.
        width: Width of the hidden convolutions.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, hidden_size: int, width: int = WIDTH) -> None:
        super().__init__()
        self.hidden_size, self.width = hidden_size, width
        self.register_buffer("mean", torch.zeros(hidden_size))
        self.register_buffer("spread", torch.ones(hidden_size))
        self.layers = nn.Sequential(
            nn.Conv1d(hidden_size, width, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv1d(width, DETAIL * BANDS, 3, padding=1),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """``(L_a, d)`` or ``(N, L_a, d)`` to log-mel, ``(DETAIL * L_a, bands)`` for each."""
        x = (embeddings.to(self.mean) - self.mean) / self.spread
        mel = self.layers(x.transpose(-1, -2)).transpose(-1, -2)
        return mel.unflatten(-1, (DETAIL, BANDS)).flatten(-3, -2)

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        sizes = json.dumps({"hidden_size": self.hidden_size, "width": self.width})
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, partial, {"sizes": sizes})
        partial.replace(path)


def load_decoder(place: str, hidden_size: int) -> Decode:
    """A decoder of audio embeddings.

    Args:
        place: A file of :class:`MelDecoder`, or ``package.module:function``. The function is called with d, and gives
            what turns embeddings ``(L_a, d)`` into an image ``(frames, rows)``.
        hidden_size: The width d of the language model.

    Raises:
        CoatError: There is nothing there, or it is for another size.
    """
    module, colon, function = place.partition(":")
    if colon and not Path(place).exists():
        try:
            return getattr(import_module(module), function)(hidden_size)
        except (ImportError, AttributeError) as error:
            raise CoatError(
                f"There is no decoder {place}: {error}", "Name an installed function: package.module:function"
            ) from None
    from safetensors import safe_open

    try:
        with safe_open(place, framework="pt") as file:
            sizes = json.loads(file.metadata()["sizes"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        decoder = MelDecoder(**sizes)
        decoder.load_state_dict(state)
    except Exception as error:  # safetensors has an error class of its own
        raise CoatError(
            f"{place} is no decoder of audio embeddings ({error}).", "Fit one: coat experts decoder MANIFEST ..."
        ) from None
    if decoder.hidden_size != hidden_size:
        raise CoatError(f"The decoder at {place} is for d = {decoder.hidden_size}, the backbone has {hidden_size}.")
    return decoder.eval().requires_grad_(False)
