"""Random ids as Arrow strings, many at once, from a seeded generator."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_BASE64 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", dtype=np.uint8)


def characters(octets: np.ndarray) -> pa.Array:
    """Strings from a matrix of ASCII octets, shape (n, width)."""
    rows, width = octets.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    data = np.ascontiguousarray(octets, dtype=np.uint8)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))


def hexadecimal(rng: np.random.Generator, rows: int, digits: int) -> np.ndarray:
    """Octets of random lower-case hex, shape (rows, digits)."""
    return _HEX[rng.integers(0, 16, size=(rows, digits), dtype=np.uint8)]


def uuids(rng: np.random.Generator, rows: int) -> pa.Array:
    """Random UUIDs of version 4 as text."""
    digits = hexadecimal(rng, rows, 32)
    digits[:, 12] = ord("4")
    digits[:, 16] = _HEX[8 + rng.integers(0, 4, size=rows, dtype=np.uint8)]
    text = np.full((rows, 36), ord("-"), dtype=np.uint8)
    for start, end, at in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        text[:, at : at + end - start] = digits[:, start:end]
    return characters(text)


def base64_ids(rng: np.random.Generator, rows: int, octets: int) -> pa.Array:
    """Random ids of so many octets as padded base64, the form PostHog stores trace and span ids in."""
    groups, left = -(-octets // 3), -octets % 3
    raw = np.zeros((rows, groups * 3), dtype=np.uint32)
    raw[:, :octets] = rng.integers(0, 256, size=(rows, octets), dtype=np.uint8)
    words = raw[:, 0::3] << 16 | raw[:, 1::3] << 8 | raw[:, 2::3]
    text = np.stack([_BASE64[words >> shift & 63] for shift in (18, 12, 6, 0)], axis=2).reshape(rows, groups * 4)
    if left:
        text[:, -left:] = ord("=")
    return characters(text)
