"""Raw samples in few bytes, without loss: differences of neighbours, split into byte planes, deflated.

Times of one model lie close together, so that the high bytes of their differences are nearly all zero;
planes put equal bytes beside each other. Differences wrap around at 2^64 on both ways, so that any int64
comes back as it was.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeconv.errors import UsageError

Samples = npt.NDArray[np.int64]

MOST_SAMPLES = 1 << 27
"""In one array: 1 GiB. More is no measurement but an attempt to fill the memory."""
_VERSION = b"\x01"
_LEVEL = 6


def encode(samples: Samples) -> bytes:
    """Pack an int64 array of any shape; the shape is not in it."""
    flat = np.ascontiguousarray(samples, np.int64).reshape(-1).view(np.uint64)
    steps = flat.copy()
    steps[1:] -= flat[:-1]
    planes = steps.astype("<u8").view(np.uint8).reshape(-1, 8).T
    return _VERSION + zlib.compress(np.ascontiguousarray(planes).tobytes(), _LEVEL)


def decode(data: bytes, shape: Sequence[int]) -> Samples:
    """Unpack what :func:`encode` packed, into that shape.

    Raises:
        UsageError: damaged, not of that shape, or of a version of the future. No more memory is taken than
            the shape says.
    """
    if any(size < 0 for size in shape) or math.prod(shape) > MOST_SAMPLES:
        raise UsageError(f"samples of the shape {tuple(shape)[:8]}", why=f"at most {MOST_SAMPLES} are kept")
    count = math.prod(shape)
    if data[:1] != _VERSION:
        raise UsageError("these samples were packed in another way", hint="update edgeconv")
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(data[1:], count * 8 + 1)
    except zlib.error as error:
        raise UsageError("the samples are damaged", why=str(error)) from error
    if len(raw) != count * 8 or not unpacking.eof:
        raise UsageError("the samples are damaged", why=f"not {count} of them")
    planes = np.frombuffer(raw, np.uint8).reshape(8, count)
    steps = np.ascontiguousarray(planes.T).view("<u8").reshape(-1).astype(np.uint64)
    return np.cumsum(steps, dtype=np.uint64).view(np.int64).reshape(shape)
