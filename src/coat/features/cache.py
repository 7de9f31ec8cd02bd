"""Frozen features computed ahead, for data that is seen more than once.

```
ROOT/
  sounds.sqlite                  which file holds which sound (coat.features.audio_index)
  spidr-1f2e...-25hz-10ms/       a source, its fingerprint, the axis in time: here a backbone's audio tokens
    8c01...-90.parquet           a shard: a row group a clip, zstd, checksummed pages
  panns-90ab...-3.125hz-160ms/   an expert slower than the tokens, at its own rate: aligned when it is read
```

Entries are keyed by the sound itself, and the folder's name holds what the features depend on, so a stale
entry is never found. A shard is written whole or not at all, under a name made of what is in it: computed
again, it takes its own place.
"""

from __future__ import annotations

import os
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from coat.audio import AudioSpec, Clip
from coat.audio_batch import AudioBatch
from coat.errors import CoatError
from coat.experts.align import align
from coat.experts.base import TARGET_DTYPE, Expert

KEY_BYTES = 16
OPEN_FILES = 64
DAMAGED = (OSError, ValueError)  # what pyarrow raises
REBUILD = "Remove what is damaged and compute it again: coat data features ... --verify"


@dataclass(frozen=True)
class Axis:
    """The times of features.

    Attributes:
        rate: Frames a second.
        first_seconds: The middle of the first one.
    """

    rate: float
    first_seconds: float

    @classmethod
    def of_tokens(cls, audio_spec: AudioSpec) -> Axis:
        """That of a backbone's audio tokens."""
        return cls(audio_spec.token_rate, audio_spec.first_token_seconds)


class Source(Protocol):
    """Interface of whatever can be cached: an expert, or a backbone's audio tower."""

    @property
    def name(self) -> str:
        """Name of its folder."""

    @property
    def dtype(self) -> torch.dtype:
        """Data type of its features on disk."""

    @property
    def feature_dim(self) -> int:
        """Numbers a token."""

    @property
    def rates(self) -> Sequence[int]:
        """At which it wants audio_batch, in Hz."""

    def fingerprint(self) -> str:
        """Hash of everything that its features depend on."""

    def axis(self, audio_spec: AudioSpec) -> Axis:
        """The times at which its features are kept for a backbone."""

    def to(self, device: torch.device | str) -> Source:
        """Itself, on a device."""

    def compute(
        self, clips: Sequence[Clip], audio_batch: AudioBatch, num_tokens: Tensor, audio_spec: AudioSpec
    ) -> list[Tensor]:
        """Features of each clip on its axis, ``(frames, dim)``.

        Args:
            clips: N of them.
            audio_batch: The same clips where the source is.
            num_tokens: ``(N,)`` L_a of each.
            audio_spec: The backbone's token axis.
        """


class ExpertSource:
    """An expert as something to cache.

    Args:
        expert: One that reads waveforms.
    """

    dtype = TARGET_DTYPE

    def __init__(self, expert: Expert) -> None:
        self.expert = expert
        self.name, self.feature_dim, self.rates = expert.name, expert.feature_dim, [expert.sampling_rate]

    def fingerprint(self) -> str:
        """See :meth:`Expert.fingerprint`."""
        return self.expert.fingerprint()

    def axis(self, audio_spec: AudioSpec) -> Axis:
        """See :meth:`Source.axis`: its own where it has no more frames than tokens; every backbone reads them."""
        if self.expert.slower_than(audio_spec.token_rate):
            return Axis(self.expert.frame_rate, self.expert.first_frame_seconds)
        return Axis.of_tokens(audio_spec)

    def to(self, device: torch.device | str) -> ExpertSource:
        """Itself, on a device."""
        self.expert.to(device)
        return self

    def compute(
        self, clips: Sequence[Clip], audio_batch: AudioBatch, num_tokens: Tensor, audio_spec: AudioSpec
    ) -> list[Tensor]:
        """z_k of each clip."""
        waveforms, lengths = audio_batch.at(self.expert.sampling_rate)
        if self.expert.slower_than(audio_spec.token_rate):
            rows, counts = self.expert.hear(waveforms, lengths)
            rows = self.expert.halved(rows)
        else:
            counts = num_tokens
            rows = self.expert.targets(
                waveforms,
                lengths,
                num_tokens,
                token_rate=audio_spec.token_rate,
                first_token_seconds=audio_spec.first_token_seconds,
            )
        return [row[:count] for row, count in zip(rows, counts.tolist(), strict=True)]


class FeatureCache:
    """Features of one source, read on one backbone's token axis.

    Args:
        root: Holds a folder for each source.
        source: The source that computes the features.
        audio_spec: The backbone's audio token axis.
    """

    def __init__(self, root: str | Path, source: Source, audio_spec: AudioSpec) -> None:
        self.axis, self.tokens = source.axis(audio_spec), Axis.of_tokens(audio_spec)
        axis = f"{self.axis.rate:g}hz-{self.axis.first_seconds * 1000:g}ms"
        self.name, self.dtype, self.feature_dim = source.name, source.dtype, source.feature_dim
        self.folder = Path(root) / f"{source.name}-{source.fingerprint()}-{axis}"
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._opened_by = os.getpid()

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def __len__(self) -> int:
        return len(self._index.keys)

    def get(self, clip: Clip, num_tokens: int) -> Tensor:
        """Features ``(L_a, dim)`` float32 of a clip.

        Raises:
            CoatError: The clip is not here, was computed with another number of tokens, or its shard is damaged.
        """
        found = self._find(clip.content_key)
        if found is None:
            raise CoatError(
                f"{clip.name} has no cached {self.name} features in {self.folder}.",
                "Compute them first (coat data features), or leave data.cache out of the recipe.",
            )
        features = self._read(*found)
        if self.axis != self.tokens:
            return self._aligned(features, num_tokens)
        if len(features) != num_tokens:
            raise CoatError(f"{clip.name}: {len(features)} cached frames, {num_tokens} audio tokens.", REBUILD)
        return features

    def _aligned(self, features: Tensor, num_tokens: int) -> Tensor:
        """On the token axis, as :meth:`Expert.targets` has them."""
        made = align(
            features[None],
            torch.tensor([len(features)]),
            frame_rate=self.axis.rate,
            first_frame_seconds=self.axis.first_seconds,
            num_tokens=num_tokens,
            token_rate=self.tokens.rate,
            first_token_seconds=self.tokens.first_seconds,
        )
        return made[0].to(self.dtype).float()

    def write(self, entries: Mapping[str, Tensor]) -> Path:
        """Write a shard.

        Args:
            entries: ``(frames, dim)`` features on the source's axis by the clips' content keys.

        Returns:
            Its path. Other processes find it after :meth:`refresh`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        keys = sorted(entries)
        arrays = [entries[key].detach().to("cpu", self.dtype).contiguous().numpy() for key in keys]
        offsets = np.cumsum([0, *(array.size for array in arrays)], dtype=np.int64)
        values = pa.array(np.concatenate([array.reshape(-1) for array in arrays]))
        table = pa.table({"key": keys, "features": pa.LargeListArray.from_arrays(offsets, values)})
        table = table.replace_schema_metadata({"keys": "".join(keys), "width": str(self.feature_dim)})
        path = self.shard(keys)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        pq.write_table(
            table,
            partial,
            row_group_size=1,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            use_byte_stream_split=["features.list.element"],
            write_page_checksum=True,
            write_statistics=False,
        )
        return partial.replace(path)

    def shard(self, keys: Iterable[str]) -> Path:
        """Where these clips' features are, once they are written together."""
        ordered = sorted(keys)
        return self.folder / f"{blake2b(''.join(ordered).encode(), digest_size=16).hexdigest()}-{len(ordered)}.parquet"

    def refresh(self) -> None:
        """Find shards that were written since."""
        self._open.clear()
        self.__dict__.pop("_index", None)

    @cached_property
    def _index(self) -> _Index:
        return _Index.of(sorted(self.folder.glob("*.parquet")))

    def remove_damaged(self) -> list[Path]:
        """Read every shard whole; those whose checksums do not match are deleted, and returned."""
        damaged = []
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                keys = "".join(_opened(path).read().column("key").to_pylist())
                whole = bytes.fromhex(keys) == _keys_of(path)
            except (*DAMAGED, CoatError):
                whole = False
            if not whole:
                damaged.append(path)
                path.unlink()
        self.refresh()
        return damaged

    def _find(self, key: str) -> tuple[Path, int] | None:
        index = self._index
        wanted = np.array(bytes.fromhex(key), dtype=index.keys.dtype)
        place = int(np.searchsorted(index.keys, wanted))
        if place == len(index.keys) or index.keys[place] != wanted:
            return None
        shard, row = index.places[place].tolist()
        return index.paths[shard], row

    def _read(self, path: Path, row: int) -> Tensor:
        if self._opened_by != os.getpid():  # a forked worker opens files of its own
            self._open, self._opened_by = OrderedDict(), os.getpid()
        try:
            if path not in self._open:
                self._open[path] = _opened(path)
            self._open.move_to_end(path)
            column = self._open[path].read_row_group(row, columns=["features"]).column(0).chunk(0)
        except DAMAGED as error:
            raise CoatError(f"{path} is damaged or gone ({error}).", REBUILD) from None
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        values = column.values.to_numpy(zero_copy_only=False)
        return torch.from_numpy(np.array(values, dtype=np.float32).reshape(-1, self.feature_dim))

    def __getstate__(self) -> dict[str, Any]:
        """Open files stay in their process."""
        return self.__dict__ | {"_open": OrderedDict()}


@dataclass(frozen=True)
class _Index:
    """Where clips are: 24 bytes a clip, so that millions fit.

    Attributes:
        paths: Paths of the shards.
        keys: ``(n,)`` content keys, sorted.
        places: ``(n, 2)`` shard and row of each.
    """

    paths: list[Path]
    keys: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, paths: list[Path]) -> _Index:
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(_keys_of, paths))
        counts = [len(keys) // KEY_BYTES for keys in found]
        shards = np.repeat(np.arange(len(found), dtype=np.int32), counts)
        rows = np.concatenate([np.arange(count, dtype=np.int32) for count in counts] or [shards])
        # A sound that two jobs have computed is read from the first.
        keys, first = np.unique(np.frombuffer(b"".join(found), dtype=f"S{KEY_BYTES}"), return_index=True)
        return cls(paths, keys, np.stack([shards, rows], 1)[first])


def _keys_of(path: Path) -> bytes:
    import pyarrow.parquet as pq

    try:
        return bytes.fromhex(pq.read_metadata(path).metadata[b"keys"].decode())
    except (*DAMAGED, KeyError, TypeError) as error:
        raise CoatError(f"{path} is no shard of features ({error}).", REBUILD) from None


def _opened(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, page_checksum_verification=True)
