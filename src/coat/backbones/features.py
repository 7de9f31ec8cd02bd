"""Input of a backbone's audio tower."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AudioFeatures:
    """Input of the audio tower: clips, cut into windows where a family's tower has a limit.

    Attributes:
        values: ``(W, ...)`` input features of all windows, clip by clip.
        lengths: ``(W,)`` true feature frames of each window.
        num_audio_tokens: ``(N,)`` L_a of each clip.
        windows: ``(N,)`` windows of each clip; one each if left out.
    """

    values: Tensor
    lengths: Tensor
    num_audio_tokens: Tensor
    windows: Tensor | None = None

    def part(self, first: int, last: int) -> AudioFeatures:
        """Those of clips ``first`` to ``last``."""
        cut = slice(first, last)
        if self.windows is not None:
            ends = [0, *self.windows.cumsum(0).tolist()]
            cut = slice(ends[first], ends[last])
        return AudioFeatures(
            self.values[cut],
            self.lengths[cut],
            self.num_audio_tokens[first:last],
            None if self.windows is None else self.windows[first:last],
        )
