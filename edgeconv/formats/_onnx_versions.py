"""Which ONNX Runtime takes which ONNX files, as measured of the releases themselves.

``edgeconv.checking`` has the whole measurement; this is the part of it that describing a file needs, and a
test holds the two together.
"""

from __future__ import annotations

import re

# Minor release: newest IR version and newest opset of the default domain that it loads, where they change.
_LIMITS = {
    (1, 16): (9, 19),
    (1, 17): (9, 20),
    (1, 18): (10, 21),
    (1, 21): (10, 22),
    (1, 23): (11, 23),
    (1, 24): (13, 25),
    (1, 25): (13, 26),
}


def onnx_limits(runtime_version: str) -> tuple[int, int]:
    """Newest IR version and default opset that a release of ONNX Runtime loads.

    A release after the last measured one has at least the limits of that; one before the first has those of
    the first, which may be too high.
    """
    release = tuple(int(part) for part in re.findall(r"\d+", runtime_version)[:2])
    fitting = [known for known in _LIMITS if known <= release]
    return _LIMITS[max(fitting) if fitting else min(_LIMITS)]
