"""Which ONNX Runtime takes which ONNX files, as far as it was measured with the releases themselves."""

from __future__ import annotations

import re

# Release: newest IR version and newest opset of the default domain that it loads.
_LIMITS = {
    (1, 16): (9, 19),
    (1, 19): (10, 21),
    (1, 31): (13, 26),
}


def onnx_limits(runtime_version: str) -> tuple[int, int]:
    """Newest IR version and default opset that a release of ONNX Runtime loads.

    A release between two measured ones has at least the limits of the older; one before the first has
    those of the first, which may be too high.
    """
    release = tuple(int(part) for part in re.findall(r"\d+", runtime_version)[:2])
    fitting = [known for known in _LIMITS if known <= release]
    return _LIMITS[max(fitting) if fitting else min(_LIMITS)]
