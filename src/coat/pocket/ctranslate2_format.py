"""Read the weights of a model in CTranslate2's format (version 6) without the library.

A ``model.bin`` is a header and a list of variables, all little-endian. A string is its length with the closing zero
(uint16), then its bytes. The header is the format's version (uint32), the model's name (string), the model's revision
(uint32), and the number of variables (uint32). A variable is its name (string), rank (uint8), sizes (uint32 each), data
type (uint8), bytes (uint32), and data; after them comes a list of aliases, other names for the same variable.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from coat.errors import CoatError

VERSION = 6
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_variables(content: bytes | Path) -> dict[str, np.ndarray]:
    """Variables of a model by name, in the data types in which they are stored.

    Args:
        content: A ``model.bin``, or its bytes.

    Raises:
        CoatError: The bytes are of another format or version, or end too early.

    Example:
        >>> variables = read_variables(Path("model.bin"))  # doctest: +SKIP
        >>> variables["encoder/conv1/weight"].shape  # doctest: +SKIP
        (512, 80, 3)
    """
    reader = _Reader(content.read_bytes() if isinstance(content, Path) else content)
    version = reader.number("I")
    if version != VERSION:
        raise CoatError(f"The model is in version {version} of CTranslate2's format.", f"Only {VERSION} is read here.")
    reader.text()
    reader.number("I")
    variables = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = tuple(reader.number("I") for _ in range(reader.number("B")))
        kind = reader.number("B")
        if kind not in DTYPES:
            raise CoatError(f"{name} is of data type {kind}, which is not read here.", "Take a float16 or int8 model.")
        dtype = np.dtype(DTYPES[kind]).newbyteorder("<")
        data = np.frombuffer(reader.take(reader.number("I")), dtype)
        if data.size != int(np.prod(shape)):
            raise CoatError(f"{name} has {data.size} numbers for the shape {shape}.", "Fetch the file again.")
        variables[name] = data.reshape(shape)
    for _ in range(reader.number("I")):
        alias, name = reader.text(), reader.text()
        variables[alias] = variables[name]
    return variables


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content, self._at = memoryview(content), 0

    def take(self, size: int) -> memoryview:
        part = self._content[self._at : self._at + size]
        if len(part) < size:
            raise CoatError("The model ends in the middle of a variable.", "Fetch the file again.")
        self._at += size
        return part

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(kind)))[0])

    def text(self) -> str:
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode()
