"""Expert features computed ahead, for data that is seen more than once.

A folder of safetensors shards, each written whole. Entries are keyed by the sound itself, and the folder's
name holds the expert's fingerprint and the token axis, so a stale entry is never found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from coat.audio import Clip, Hearing
from coat.errors import CoatError

SHARD_CLIPS = 256
BATCH_CLIPS = 16


class Source(Protocol):
    """What can be cached: an expert, or a backbone's audio tower."""

    @property
    def name(self) -> str:
        """The folder of its features."""

    @property
    def sampling_rate(self) -> int:
        """Of the waveforms it takes, in Hz."""

    def fingerprint(self) -> str:
        """What its features depend on."""

    def targets(
        self, waveforms: Tensor, lengths: Tensor, num_tokens: Tensor, *, token_rate: float, first_token_seconds: float
    ) -> Tensor:
        """Features on the audio tokens' time axis, ``(N, max L_a, e_k)``."""


class FeatureCache:
    """Features of one source on one backbone's token axis.

    Args:
        root: Holds a folder for each source.
        source: Whose features.
        hearing: The backbone's audio token axis.
        dtype: On disk. Half precision is fine for targets; what the model consumes is kept in full.
    """

    def __init__(
        self, root: str | Path, source: Source, hearing: Hearing, *, dtype: torch.dtype = torch.float16
    ) -> None:
        axis = f"{hearing.token_rate:g}hz-{hearing.first_token_seconds * 1000:g}ms"
        self.source, self.hearing, self.dtype = source, hearing, dtype
        self.folder = Path(root) / f"{source.name}-{source.fingerprint()}-{axis}"
        self._shards: dict[str, Path] = {}
        self._open: dict[Path, Any] = {}
        self._scan()

    def __contains__(self, clip: Clip) -> bool:
        return clip.content_key in self._shards

    def get(self, clip: Clip, num_tokens: int) -> Tensor:
        """Features ``(L_a, e_k)`` float32 of a clip.

        Raises:
            CoatError: The clip is not in the cache, or was cached with another number of tokens.
        """
        from safetensors import safe_open

        path = self._shards.get(clip.content_key)
        if path is None:
            raise CoatError(
                f"{clip.name} has no cached {self.source.name} features in {self.folder}.",
                "Fill the cache for this manifest, or leave data.cache out of the recipe.",
            )
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        features = self._open[path].get_tensor(clip.content_key)
        if len(features) != num_tokens:
            raise CoatError(
                f"{clip.name}: {len(features)} cached frames, {num_tokens} audio tokens.", "Rebuild the cache."
            )
        return features.float()

    def fill(
        self,
        clips: Sequence[Callable[[], Clip]],
        num_tokens: Callable[[Clip], int],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Compute what is missing, a shard at a time. A killed run goes on from its last shard.

        Args:
            clips: How to load each clip; clips of like length next to each other pad least.
            num_tokens: L_a of a clip.
            progress: Called with the number of clips just finished.
        """
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(clips), SHARD_CLIPS):
            loaded = {clip.content_key: clip for clip in (load() for load in clips[start : start + SHARD_CLIPS])}
            fresh = [clip for clip in loaded.values() if clip not in self]
            if fresh:
                path = self.folder / f"{fresh[0].content_key}.safetensors"
                partial = path.with_suffix(".partial")
                save_file(self._compute(fresh, num_tokens), partial)
                partial.replace(path)
                self._shards |= {clip.content_key: path for clip in fresh}
            if progress:
                progress(min(SHARD_CLIPS, len(clips) - start))

    def _compute(self, clips: list[Clip], num_tokens: Callable[[Clip], int]) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for start in range(0, len(clips), BATCH_CLIPS):
            part = clips[start : start + BATCH_CLIPS]
            waves = [torch.from_numpy(clip.at(self.source.sampling_rate)) for clip in part]
            counts = torch.tensor([num_tokens(clip) for clip in part])
            features = self.source.targets(
                torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
                torch.tensor([len(wave) for wave in waves]),
                counts,
                token_rate=self.hearing.token_rate,
                first_token_seconds=self.hearing.first_token_seconds,
            )
            for clip, row, count in zip(part, features, counts.tolist(), strict=True):
                made[clip.content_key] = row[:count].to(self.dtype, copy=True)
        return made

    def _scan(self) -> None:
        from safetensors import safe_open

        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as shard:
                self._shards |= dict.fromkeys(shard.keys(), path)
