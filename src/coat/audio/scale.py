"""Samples of any format on the scale of one."""

from __future__ import annotations

import numpy as np


def to_unit(samples: np.ndarray) -> np.ndarray:
    """Samples as float32 in [-1, 1]: integers by their range, bytes around 128, numbers with fractions as they are.

    Example:
        >>> to_unit(np.array([-32768, 0, 16384], np.int16)).tolist()
        [-1.0, 0.0, 0.5]
    """
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return (samples / np.float64(2 ** (8 * samples.itemsize - 1))).astype(np.float32)
