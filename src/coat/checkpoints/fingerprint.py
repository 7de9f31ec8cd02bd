"""Fingerprints of weights: a key that changes when they do, computed in a second however large they are."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from coat.checkpoints.references import RECIPE, AdapterRef, Checkpoint, RunRef
from coat.errors import CoatError
from coat.hub import locate

WEIGHTS = (".safetensors", ".bin", ".pt")
SETTINGS = (
    "config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json", "chat_template.jinja",
    "chat_template.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model",
    "tekken.json", "adapter_config.json", "recipe.yaml",
)  # fmt: skip
# Files up to this size are read whole; of larger ones this many pieces, evenly spaced, with both ends.
WHOLE = 64 * 2**20
PIECES, PIECE = 256, 64 * 2**10
# Heads answer nothing.
IGNORED = ("training_args.bin", "heads.safetensors", "mean_features.safetensors")


def checkpoint_fingerprint(ref: Checkpoint) -> str:
    """A key of the weights of a run or an adapter (each with its base), an export or a checkpoint."""
    if isinstance(ref, RunRef) and ref.checkpoint is not None:  # its recipe stands with the run
        told = files_fingerprint(ref.path, ref.base).encode() + (ref.folder / RECIPE).read_bytes()
        return blake2b(told, digest_size=12).hexdigest()
    parts = (ref.path, ref.base) if isinstance(ref, RunRef | AdapterRef) else (ref.path,)
    return files_fingerprint(*parts)


def files_fingerprint(*paths: str) -> str:
    """A key of the weights and settings of some folders or repositories of the hub.

    Retraining changes every tensor, so pieces of large files are enough to see it.

    Args:
        paths: Such as a run and its base checkpoint.
    """
    digest = blake2b(digest_size=12)
    for path_or_id in paths:
        folder = _folder(path_or_id)
        if folder is None:
            digest.update(path_or_id.encode())
            continue
        for path in _files(folder):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(str(path.stat().st_size).encode())
            for piece in _pieces(path):
                digest.update(piece)
    return digest.hexdigest()


def _folder(path: str) -> Path | None:
    """Where a model's files are; None if it is only a name."""
    from transformers.utils import cached_file

    try:
        place = locate(path)  # names of our own too, which the hub is not asked for
        if Path(place).is_dir():
            return Path(place)
        found = cached_file(place, "config.json", _raise_exceptions_for_missing_entries=False)
    except (CoatError, OSError):
        return None
    return Path(found).parent if found else None  # the snapshot of one commit


def _files(folder: Path) -> Iterable[Path]:
    parts = [folder, folder / "adapter"]
    found = [path for part in parts if part.is_dir() for path in part.iterdir() if path.is_file()]
    return sorted(p for p in found if (p.suffix in WEIGHTS or p.name in SETTINGS) and p.name not in IGNORED)


def _pieces(path: Path) -> Iterable[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            yield file.read()
            return
        for number in range(PIECES):
            file.seek(number * (size - PIECE) // (PIECES - 1))
            yield file.read(PIECE)
