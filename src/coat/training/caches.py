"""Compute once what is frozen: expert features and audio embeddings of a fixed data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from coat.audio import Clip
from coat.backbones.base import Backbone
from coat.data.manifest import AudioRef, Row
from coat.experts.base import Expert
from coat.experts.cache import FeatureCache


class TowerSource:
    """A backbone's audio tower and projector, as something to cache."""

    name = "audio_embeddings"

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.sampling_rate = backbone.hearing.sampling_rate

    def fingerprint(self) -> str:
        """A hash of every weight outside the language model."""
        inside = {id(p) for part in (self.backbone.language_model, self.backbone.lm_head) for p in part.parameters()}
        digest = blake2b(self.backbone.family.encode(), digest_size=8)
        for name, parameter in self.backbone.model.named_parameters():
            if id(parameter) not in inside:
                digest.update(name.encode())
                digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def targets(
        self, waveforms: Tensor, lengths: Tensor, num_tokens: Tensor, *, token_rate: float, first_token_seconds: float
    ) -> Tensor:
        """x_A, ``(N, max L_a, d)``."""
        clips = [wave[:length].numpy() for wave, length in zip(waveforms, lengths.tolist(), strict=True)]
        return pad_sequence(self.backbone.audio_embeddings(self.backbone.audio_features(clips)), batch_first=True)


def open_caches(
    root: str | Path, backbone: Backbone, experts: Mapping[str, Expert]
) -> tuple[FeatureCache, dict[str, FeatureCache]]:
    """The audio embeddings' cache, and that of every expert that needs waveforms."""
    hearing = backbone.hearing
    audio = FeatureCache(root, TowerSource(backbone), hearing, dtype=torch.float32)
    needed = {name: FeatureCache(root, e, hearing) for name, e in experts.items() if e.needs_waveform}
    return audio, needed


def fill_caches(
    caches: Iterable[FeatureCache],
    rows: Iterable[Row],
    backbone: Backbone,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Fill caches with every clip of some rows, each clip once. A stopped run goes on where it was.

    Args:
        caches: To fill.
        rows: Whose clips.
        backbone: Counts audio tokens, and sets the longest clip.
        progress: Called with (source name, clips just finished, clips in all).
    """
    unique: dict[tuple[Path, float, float | None], AudioRef] = {
        (audio.path, audio.start, audio.end): audio for row in rows for audio in row.audios
    }
    refs = sorted(unique.values(), key=lambda audio: audio.seconds)
    rate, limit = backbone.hearing.sampling_rate, backbone.hearing.max_seconds

    def count(clip: Clip) -> int:
        return backbone.num_audio_tokens(len(clip.at(rate)))

    loaders = [lambda ref=ref: ref.load(limit) for ref in refs]
    for cache in caches:

        def report(done: int, name: str = cache.source.name) -> None:
            if progress:
                progress(name, done, len(refs))

        cache.fill(loaders, count, report)
