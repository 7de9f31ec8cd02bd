"""Compute once what is frozen: expert features and the audio tower's states, of a fixed data set.

Sounds are indexed first, so that every unusable file is named before anything long begins and no sound is
computed twice. What is missing is cut into units of some minutes; each is decoded once for all sources and
ends in one shard a source. A stopped job goes on with the units that are not there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from coat.audio import AudioSpec, Clip
from coat.audio_batch import AudioBatch
from coat.backbones import load_backbone
from coat.backbones.base import Backbone
from coat.checkpoints.devices import default_device
from coat.config.recipe import Recipe
from coat.data.index import open_manifest
from coat.data.manifest import AudioRef, Row
from coat.errors import CoatError
from coat.experts import expert_class, make_expert
from coat.experts.base import Expert
from coat.features.audio_index import DECODERS, Sound, SoundIndex
from coat.features.cache import Axis, ExpertSource, FeatureCache, Source

UNIT_SECONDS = 600.0
# Padded audio in one pass of a source.
BATCH_SECONDS = 60.0
TRIAL_CLIPS = 4
TOWER_STATES = "tower_states"

Progress = Callable[[str, int, int], None]


class TowerSource:
    """A backbone's audio tower, as something to cache: its states before the projector, which may be trained.

    Args:
        backbone: With its weights.
    """

    name = TOWER_STATES
    dtype = torch.float32

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.feature_dim, self.rates = backbone.audio_size, [backbone.audio_spec.sampling_rate]

    def fingerprint(self) -> str:
        """A hash of the tower's weights, and of the precision in which they are used."""
        tower, dtype = self.backbone.audio_tower, self.backbone.dtype
        digest = blake2b(f"{self.backbone.family}/{dtype}".encode(), digest_size=8)
        beyond = tuple(f".{name}." for name in self.backbone.projector_modules)
        for name, parameter in tower.named_parameters(prefix=".audio_tower"):
            if not any(part in name for part in beyond):
                digest.update(name.encode())
                digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def axis(self, audio_spec: AudioSpec) -> Axis:
        """See :meth:`Source.axis`: the tokens'."""
        return Axis.of_tokens(audio_spec)

    def to(self, device: torch.device | str) -> TowerSource:
        """Itself, on a device."""
        self.backbone.to(device)
        return self

    @torch.inference_mode()
    def compute(
        self, clips: Sequence[Clip], audio_batch: AudioBatch, num_tokens: Tensor, audio_spec: AudioSpec
    ) -> list[Tensor]:
        """The tower's states, ``(L_a, audio_size)`` each; from the waveforms that a prompt would be made of."""
        waveforms = [clip.at(audio_spec.sampling_rate) for clip in clips]
        return self.backbone.tower_states(self.backbone.audio_features(waveforms))


@dataclass(frozen=True)
class Unit:
    """Some minutes of sounds, and the sources that lack them.

    Attributes:
        sources: Sources by name.
        sounds: Sorted by length.
    """

    sources: tuple[str, ...]
    sounds: tuple[Sound, ...]

    @property
    def seconds(self) -> float:
        """Audio in all."""
        return sum(sound.seconds for sound in self.sounds)


@dataclass(frozen=True)
class Estimate:
    """Missing features of one source.

    Attributes:
        source: Name of the source.
        clips: Missing.
        hours: Hours of audio.
        bytes: At most, before compression.
        seconds: Seconds that one device like this one takes, decoding included.
    """

    source: str
    clips: int
    hours: float
    bytes: int
    seconds: float


@dataclass(frozen=True)
class FeatureJob:
    """Everything that a worker on another machine needs to know.

    Attributes:
        cache: The cache's folder, on storage that all workers share.
        family: Family of the backbone, whose token axis features are on.
        path: Its checkpoint.
        experts: Options of each expert.
        embeddings: Compute the tower's states too, which takes the backbone's weights.
        dtype: Data type of the backbone.
    """

    cache: str
    family: str
    path: str | None = None
    experts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    embeddings: bool = False
    dtype: torch.dtype = torch.float32

    def open(self) -> FeatureStore:
        """Load what it takes.

        Raises:
            CoatError: Weights are missing.
        """
        backbone = load_backbone(self.family, self.path, dtype=self.dtype, weights=self.embeddings)
        experts = {
            name: make_expert(name, dict(options), hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
            for name, options in self.experts.items()
        }
        return FeatureStore(self.cache, backbone, experts, embeddings=self.embeddings)

    @classmethod
    def of(cls, recipe: Recipe, *, dtype: torch.dtype = torch.float32) -> FeatureJob:
        """The features that a recipe's training needs.

        Raises:
            CoatError: The recipe names no cache, or no expert that it could hold.
        """
        if not recipe.data.cache:
            raise CoatError("The recipe has no data.cache.", "Name a folder: --cache features")
        wanted = {name: recipe.experts.get(name, {}) for name in recipe.active_experts()}
        experts = {
            name: options
            for name, options in wanted.items()
            if expert_class(str(options.get("kind", name))).needs_waveform
        }
        embeddings = recipe.data.cache_embeddings
        if not experts and not embeddings:
            raise CoatError("There is nothing to compute ahead.", "Name experts: --experts spidr,panns")
        backbone = recipe.backbone
        return cls(recipe.data.cache, backbone.family, backbone.path, experts, embeddings, dtype)


class FeatureStore:
    """Sources and their caches.

    Args:
        root: The cache's folder.
        backbone: Its audio tokens give the time axis; with weights only where the tower's states are wanted.
        experts: By name; those that read x_A need no cache of their own.
        embeddings: Whether the tower's states are cached.
    """

    def __init__(
        self, root: str | Path, backbone: Backbone, experts: Mapping[str, Expert], *, embeddings: bool = True
    ) -> None:
        self.root, self.backbone = Path(root), backbone
        found: list[Source] = [TowerSource(backbone)] if embeddings else []
        found += [ExpertSource(expert) for expert in experts.values() if expert.needs_waveform]
        self.sources = {source.name: source for source in found}
        self.caches = {name: FeatureCache(root, source, backbone.audio_spec) for name, source in self.sources.items()}
        self.device = default_device()

    @property
    def audio_cache(self) -> FeatureCache | None:
        """The cache of the tower's states, if there is one."""
        return self.caches.get(TOWER_STATES)

    @property
    def expert_caches(self) -> dict[str, FeatureCache]:
        """The caches of experts."""
        return {name: cache for name, cache in self.caches.items() if name != TOWER_STATES}

    def index(
        self,
        refs: Iterable[AudioRef],
        progress: Progress | None = None,
        *,
        on_bad_row: Literal["raise", "skip"] = "raise",
    ) -> list[Sound]:
        """Every different sound of some files, decoding only those that are new; see :meth:`SoundIndex.listen`.

        Raises:
            CoatError: Files are missing or cannot be heard.
        """
        sounds = SoundIndex(self.root / "sounds.sqlite").listen(
            refs,
            max_seconds=self.backbone.audio_spec.max_seconds,
            on_bad_row=on_bad_row,
            progress=(lambda done, total: progress("index", done, total)) if progress else None,
        )
        return list({sound.key: sound for sound in sounds}.values())

    def plan(self, sounds: Iterable[Sound]) -> list[Unit]:
        """Missing features, in units of like length."""
        by_need: dict[tuple[str, ...], list[Sound]] = {}
        for sound in sounds:
            need = tuple(name for name, cache in self.caches.items() if sound.key not in cache)
            if need:
                by_need.setdefault(need, []).append(sound)
        return [
            Unit(need, tuple(part))
            for need, found in by_need.items()
            for part in _cut(sorted(found, key=lambda sound: (sound.seconds, sound.key)), UNIT_SECONDS)
        ]

    def estimate(self, units: Sequence[Unit]) -> list[Estimate]:
        """Size and time of what is to do; time by a trial on a few clips of middling length."""
        return [self._estimate(name, [unit for unit in units if name in unit.sources]) for name in self.sources]

    def _estimate(self, name: str, units: Sequence[Unit]) -> Estimate:
        sounds = sorted((sound for unit in units for sound in unit.sounds), key=lambda sound: sound.seconds)
        if not sounds:
            return Estimate(name, 0, 0.0, 0, 0.0)
        seconds = sum(sound.seconds for sound in sounds)
        middle = sounds[len(sounds) // 2 :][:TRIAL_CLIPS]
        self._features([name], middle[:1])  # the first call of anything is slow
        began = time.perf_counter()
        self._features([name], middle)
        pace = (time.perf_counter() - began) / sum(sound.seconds for sound in middle)
        source = self.sources[name]
        size = seconds * source.axis(self.backbone.audio_spec).rate * source.feature_dim * source.dtype.itemsize
        return Estimate(name, len(sounds), seconds / 3600, round(size), pace * seconds)

    def run(self, unit: Unit, *, heard: Callable[[int], None] = lambda _: None) -> int:
        """Compute a unit's features and write its shards; how many clips it holds.

        A shard that another worker has written meanwhile is left as it is.

        Args:
            unit: Clips, and what is computed of them.
            heard: Called with clips just done, which come to as many as the unit holds.
        """
        keys = [sound.key for sound in unit.sounds]
        needed = [name for name in unit.sources if not self.caches[name].shard(keys).is_file()]
        if needed:
            for name, entries in self._features(needed, unit.sounds, heard).items():
                self.caches[name].write(entries)
        else:
            heard(len(keys))
        return len(keys)

    def remove_damaged(self) -> list[Path]:
        """Read all shards, and delete those that are damaged; returns them."""
        return [path for cache in self.caches.values() for path in cache.remove_damaged()]

    def refresh(self) -> None:
        """Find what other workers have written."""
        for cache in self.caches.values():
            cache.refresh()

    def _features(
        self, names: Sequence[str], sounds: Sequence[Sound], heard: Callable[[int], None] = lambda _: None
    ) -> dict[str, dict[str, Tensor]]:
        sources = [self.sources[name].to(self.device) for name in names]
        rates = sorted({rate for source in sources for rate in source.rates})
        audio_spec = self.backbone.audio_spec
        made: dict[str, dict[str, Tensor]] = {name: {} for name in names}
        with ThreadPoolExecutor(DECODERS) as pool:
            clips = pool.map(lambda sound: sound.ref.load(), sounds)
            for batch in _padded_batches(clips, BATCH_SECONDS):
                audio_batch = AudioBatch.of(batch, rates).to(self.device)
                counts = [self.backbone.num_audio_tokens(len(clip.at(audio_spec.sampling_rate))) for clip in batch]
                for source in sources:
                    rows = source.compute(batch, audio_batch, torch.tensor(counts, device=self.device), audio_spec)
                    for clip, row in zip(batch, rows, strict=True):
                        made[source.name][clip.content_key] = row.to("cpu", source.dtype, copy=True)
                heard(len(batch))
        return made


def audio_of(rows: Iterable[Row]) -> list[AudioRef]:
    """Every file that some rows name, once."""
    return list(dict.fromkeys(audio for row in rows for audio in row.audios))


def prepare(
    store: FeatureStore,
    refs: Iterable[AudioRef],
    *,
    on_bad_row: Literal["raise", "skip"] = "raise",
    progress: Progress | None = None,
) -> None:
    """Fill the caches with every sound of some files, on this machine. A stopped job goes on where it was.

    Args:
        store: The feature store.
        refs: The files.
        on_bad_row: ``skip`` leaves files out that cannot be heard.
        progress: Called with (what, clips just done, clips in all).

    Raises:
        CoatError: Files are missing or cannot be heard.
    """
    sounds = store.index(refs, progress, on_bad_row=on_bad_row)
    compute(store, store.plan(sounds), progress=progress)


def audio_of_manifests(
    paths: Iterable[str], *, ignore: Collection[str] = (), on_bad_row: Literal["raise", "skip"] = "raise"
) -> list[AudioRef]:
    """Every file that some manifests name, once.

    Raises:
        CoatError: A manifest is missing, or rows of it are malformed.
    """
    return audio_of(row for path in paths for row in open_manifest(path, ignore=ignore, on_bad_row=on_bad_row))


def compute(store: FeatureStore, units: Sequence[Unit], *, progress: Progress | None = None) -> None:
    """Run planned units one after another; see :func:`prepare`."""
    total = sum(len(unit.sounds) for unit in units)
    for unit in units:
        store.run(unit, heard=lambda done: progress("features", done, total) if progress else None)
    store.refresh()


def free_bytes(folder: str | Path) -> int:
    """Room on the disk where a folder is, or will be."""
    place = Path(folder).resolve()
    return shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free


def _cut(sounds: Sequence[Sound], seconds: float) -> Iterator[list[Sound]]:
    part: list[Sound] = []
    held = 0.0
    for sound in sounds:
        if part and held + sound.seconds > seconds:
            yield part
            part, held = [], 0.0
        part.append(sound)
        held += sound.seconds
    if part:
        yield part


def _padded_batches(clips: Iterable[Clip], seconds: float) -> Iterator[list[Clip]]:
    """Clips in order, as many together as stay within so much audio with their padding."""
    batch: list[Clip] = []
    longest = 0.0
    for clip in clips:
        longest = max(longest, clip.seconds)
        if batch and (len(batch) + 1) * longest > seconds:
            yield batch
            batch, longest = [], clip.seconds
        batch.append(clip)
    if batch:
        yield batch
