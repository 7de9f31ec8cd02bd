import struct

import numpy as np
import pytest

from coat.errors import CoatError
from coat.pocket.ctranslate2_format import read_variables


def text(value):
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def variable(name, values, kind):
    sizes = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
    return text(name) + sizes + struct.pack("<BI", kind, values.nbytes) + values.tobytes()


def model(*variables, version=6, aliases=()):
    head = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    tail = struct.pack("<I", len(aliases)) + b"".join(text(alias) + text(name) for alias, name in aliases)
    return head + b"".join(variables) + tail


HALF = np.arange(6, dtype=np.float16).reshape(2, 3)
BYTES = np.array([-1, 7], dtype=np.int8)


def test_variables_of_every_rank_and_type_are_read():
    scalar = np.array(2.5, dtype=np.float32)
    content = model(variable("a/w", HALF, 4), variable("b", BYTES, 1), variable("s", scalar, 0), aliases=[("c", "b")])
    read = read_variables(content)
    assert list(read) == ["a/w", "b", "s", "c"]
    np.testing.assert_array_equal(read["a/w"], HALF)
    np.testing.assert_array_equal(read["c"], BYTES)
    assert read["s"].shape == ()
    assert read["s"] == 2.5


def test_a_file_is_read_as_its_bytes_are(tmp_path):
    (tmp_path / "model.bin").write_bytes(model(variable("a", HALF, 4)))
    np.testing.assert_array_equal(read_variables(tmp_path / "model.bin")["a"], HALF)


@pytest.mark.parametrize("missing", [1, 5, 20])
def test_a_model_that_ends_too_early_is_refused(missing):
    with pytest.raises(CoatError, match="ends in the middle"):
        read_variables(model(variable("a", HALF, 4))[:-missing])


def test_other_versions_types_and_sizes_are_refused():
    with pytest.raises(CoatError, match="version 5"):
        read_variables(model(version=5))
    with pytest.raises(CoatError, match="data type 9"):
        read_variables(model(variable("a", HALF, 9)))
    with pytest.raises(CoatError, match="3 numbers"):
        read_variables(model(variable("a", HALF, 0)))
