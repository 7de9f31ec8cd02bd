"""Experts whose weights others publish: fetched or given, checked, converted once, never unpickled freely."""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from coat.errors import CoatError
from coat.experts.base import Expert
from coat.hub import cache_folder

RANDOM = "random"


def experts_folder() -> Path:
    """Where converted weights are kept."""
    return cache_folder() / "experts"


class PretrainedExpert(Expert):
    """An expert that is built from a published checkpoint.

    Args:
        weights: Its checkpoint: ``official``, a file, a URL, or ``owner/name`` on the hub; ``random`` for
            tests. The checkpoint's own shapes say how large the expert is.
        sizes: Sizes of random weights: ``official``, or ``tiny`` for tests.
        seed: Seed of random weights.

    Attributes:
        source: The official checkpoint, a URL or ``owner/name``.
        file: Its name where it is on the hub.
        checksum: SHA-256 of the official file, where its makers publish one.
    """

    source: ClassVar[str]
    file: ClassVar[str] = ""
    checksum: ClassVar[str | None] = None

    def __init__(self, weights: str = "official", sizes: str = "official", seed: int = 0) -> None:
        super().__init__()
        if weights == RANDOM:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.build(self.random_sizes(sizes))
            return
        from safetensors.torch import load_file

        state = load_file(self.prepare(weights))
        try:
            self.build(self.sizes_of(state))
            self.load_state_dict(state)
        except (RuntimeError, KeyError, ValueError) as error:
            raise CoatError(f"The weights at {weights} are not those of {self.name}: {error}", self.remedy()) from None

    @abstractmethod
    def build(self, sizes: Any) -> None:
        """Make the modules."""

    @classmethod
    @abstractmethod
    def sizes_of(cls, state: Mapping[str, Tensor]) -> Any:
        """How large an expert is, read from its converted weights."""

    @classmethod
    @abstractmethod
    def random_sizes(cls, kind: str) -> Any:
        """Sizes by name: ``official`` or ``tiny``."""

    @classmethod
    @abstractmethod
    def convert(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The makers' names of weights to ours; what features do not need is left out."""

    @classmethod
    def remedy(cls) -> str:
        """The commands that bring the weights to a machine without a network."""
        url = cls.source if "://" in cls.source else f"https://huggingface.co/{cls.source}/resolve/main/{cls.file}"
        name = url.rpartition("/")[2]
        return (
            f"Fetch it where there is a network: curl -L -o {name} {url}\n"
            f"Then: --set experts.{cls.name}.weights=path/to/{name}"
        )

    @classmethod
    def prepare(cls, weights: str) -> Path:
        """A safetensors file with our names, made at the first call and kept.

        Raises:
            CoatError: The checkpoint is not there, is not what it should be, or cannot be fetched.
        """
        source = cls.source if weights == "official" else weights
        given = Path(source)
        key = source if not given.is_file() else f"{given.resolve()}-{given.stat().st_size}-{given.stat().st_mtime_ns}"
        digest = blake2b(f"{key}/{cls.version}".encode(), digest_size=8).hexdigest()
        ready = experts_folder() / f"{cls.name}-{digest}.safetensors"
        if ready.is_file():
            return ready
        with tempfile.TemporaryDirectory() as place:
            path = given if given.is_file() else cls.fetch(source, Path(place))
            cls._verify(path, source)
            converted = cls.convert(_read(path, cls.name))
            _write(converted, ready)
        return ready

    @classmethod
    def fetch(cls, source: str, place: Path) -> Path:
        """The checkpoint at a URL or on the hub, as a file that may be in a folder given for it.

        Raises:
            CoatError: It cannot be had.
        """
        try:
            if "://" in source:
                path = place / (source.rpartition("/")[2] or "weights")
                torch.hub.download_url_to_file(source, str(path))
                return path
            if source.count("/") == 1 and not source.startswith((".", "/")):
                from huggingface_hub import hf_hub_download

                return Path(hf_hub_download(source, cls.file))
        except Exception as error:  # whatever the network's layers raise
            raise CoatError(
                f"The weights of {cls.name} could not be fetched from {source}: {error}", cls.remedy()
            ) from None
        raise CoatError(f"There are no weights of {cls.name} at {source}.", cls.remedy())

    @classmethod
    def _verify(cls, path: Path, source: str) -> None:
        if cls.checksum is None or source != cls.source:
            return
        with path.open("rb") as file:
            digest = sha256()
            while block := file.read(2**20):
                digest.update(block)
        if digest.hexdigest() != cls.checksum:
            raise CoatError(
                f"What came from {source} is not the file that {cls.name} was published with.", cls.remedy()
            )


def _read(path: Path, name: str) -> dict[str, Tensor]:
    """A checkpoint's tensors; of nested ones, those under ``model`` or ``model_state``."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CoatError(
            f"{path} cannot be read as weights of {name} without running code in it: {type(error).__name__}.",
            "Convert it to safetensors with the makers' own tools, and give that file.",
        ) from None
    content = content if isinstance(content, dict) else {}
    content = next((content[name] for name in ("model", "model_state") if name in content), content)
    return {key.removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)}


def _write(state: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent)) / "weights"
    save_file({name: value.contiguous() for name, value in state.items()}, partial)
    partial.replace(path)
    shutil.rmtree(partial.parent)
