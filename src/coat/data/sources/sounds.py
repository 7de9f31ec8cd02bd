"""Clips of a corpus as files beside its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from coat.errors import CoatError
from coat.files import PARTIAL

LONGEST_NAME = 120
MAX_FLAC_RATE = 655_350


class Sounds:
    """The clips of a manifest.

    Args:
        folder: The manifest's.
        name: The folder of the clips in it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def add(self, audio: Any, key: str) -> dict[str, Any]:
        """The entry of a row for a clip: its file where it is one, or one that is written beside the manifest.

        Args:
            audio: As :meth:`coat.data.sources.base.Corpus.audio` gives it.
            key: The record's name, unlike any other's.

        Raises:
            CoatError: It is no sound, or of a kind that is not known.
        """
        from coat.audio import decode_audio, load_audio

        if isinstance(audio, str):
            return {"path": str(Path(audio).resolve()), "seconds": round(load_audio(audio).seconds, 4)}
        if isinstance(audio, bytes | bytearray):
            audio = {"bytes": bytes(audio)}
        if not isinstance(audio, Mapping):
            raise CoatError(
                f"its sound is {type(audio).__name__}, and samples alone have no rate",
                "Give an Audio column, a file's bytes, or {'array', 'sampling_rate'}.",
            )
        if "start" in audio:
            return self._stretch(audio, key)
        if audio.get("array") is not None:
            return self._samples(audio, key)
        data = audio.get("bytes")
        if data is None:
            if not isinstance(audio.get("path"), str):
                raise CoatError(f"its sound has neither bytes nor a path, but {', '.join(map(str, audio))}")
            return self.add(audio["path"], key)
        clip = decode_audio(data, str(audio.get("path") or key))
        path = self._place(key, _suffix(data))
        self._write(path, data)  # as it is stored: neither resampled nor encoded anew
        return {"path": str(path.relative_to(self.folder)), "seconds": round(clip.seconds, 4)}

    def _samples(self, audio: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Samples that were decoded already, as a file."""
        rate = audio.get("sampling_rate")
        if not isinstance(rate, int) or rate <= 0:
            raise CoatError("its samples have no 'sampling_rate'")
        try:
            samples = np.asarray(audio["array"], dtype=np.float32)
        except (TypeError, ValueError):
            raise CoatError("its 'array' holds no samples") from None
        if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
            samples = samples.T  # channels come first in some data sets, and are few
        return self._save(samples, rate, key)

    def _stretch(self, audio: Mapping[str, Any], key: str) -> dict[str, Any]:
        """A turn of one channel of a long recording, as a file of its own."""
        from coat.audio import load_audio

        clip = load_audio(audio["path"], start=audio["start"], end=audio["end"], channel=audio.get("channel", 0))
        return self._save(clip.waveform, clip.sampling_rate, key)

    def _save(self, samples: np.ndarray, rate: int, key: str) -> dict[str, Any]:
        from coat.audio import decode_audio
        from coat.audio.libsndfile import encode_sound

        peak = float(np.abs(samples).max(initial=0.0))
        # FLAC holds nothing beyond full scale; such samples are kept as they are, and judged when they are read.
        kind = (
            {"container": "FLAC"} if peak <= 1 and rate <= MAX_FLAC_RATE else {"container": "WAV", "subtype": "FLOAT"}
        )
        data = encode_sound(samples, rate, **kind)
        decode_audio(data, key)
        path = self._place(key, f".{kind['container'].lower()}")
        self._write(path, data)
        return {"path": str(path.relative_to(self.folder)), "seconds": round(len(samples) / rate, 4)}

    def _write(self, path: Path, data: bytes) -> None:
        partial = path.with_name(path.name + PARTIAL)
        partial.write_bytes(data)
        partial.replace(path)

    def _place(self, key: str, suffix: str) -> Path:
        """A file that no other record has, in folders of some thousand: file systems are slow with more.

        A name that had to be changed to be one of a file carries a digest of what it was.
        """
        digest = f"{digest_of(key):016x}"
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in key)[:LONGEST_NAME]
        # Some file systems do not tell capitals from small letters.
        name = safe if safe == key.lower() and not key.startswith(".") else f"{safe}-{digest}"
        folder = self.folder / self.name / digest[:2]
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}{suffix}"


def digest_of(key: str) -> int:
    """A number for a record's name."""
    return int.from_bytes(blake2b(key.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _suffix(data: bytes) -> str:
    kinds = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff", b"\x1aE\xdf\xa3": ".webm"}
    if data[4:8] == b"ftyp":
        return ".m4a"
    return kinds.get(data[:4], ".mp3" if data[:3] == b"ID3" or data[:1] == b"\xff" else ".audio")
