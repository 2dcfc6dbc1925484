"""What the harness adds to a loop in C around ``OrtApi.Run``, in one process on one ONNX Runtime.

Used by ``overhead.py``. The library that Python loads exports no function for C, but hands its table of functions to
libraries of custom ops; ``overhead_ort.c`` is one without ops. It has a session of its own, so that weights
lie elsewhere than the harness' do; which of the two is opened first is drawn for each launch.
"""

from __future__ import annotations

import ctypes
import random
import sys
from pathlib import Path

from overhead_turns import asked, burst_for, say_medians

SOURCE = "overhead_ort.c"


def launch(library: Path, model: Path, seconds: float) -> tuple[float, float, float]:
    """As that of ``overhead_tflite.py``, of an ONNX model of one float32 input."""
    return asked([sys.executable, __file__, str(library), str(model), str(burst_for(seconds))])


def main(library: str, model: str, burst: int) -> None:
    """Measure, and print the three medians."""
    import numpy as np
    import onnxruntime

    from edgeconv.agent.backends.onnxruntime import BACKEND
    from edgeconv.agent.measure import time_calls

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library)
    loop = ctypes.CDLL(library)
    described = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (fed,) = described.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in fed.shape]
    names = [each.name.encode() for each in described.get_outputs()]
    kept = (ctypes.c_char_p * len(names))(*names)
    dims, name = (ctypes.c_int64 * len(shape))(*shape), ctypes.c_char_p(fed.name.encode())
    padding = []
    for which in random.sample(["harness", "c"], 2):
        padding.append(bytearray(random.randrange(1 << 17)))
        if which == "harness":
            opened = BACKEND.open(model, "onnx", {"threads": 1})
        elif loop.overhead_open(
            model.encode(), name, dims, ctypes.c_size_t(len(shape)), kept, ctypes.c_size_t(len(names))
        ):
            raise SystemExit("ONNX Runtime refused the model")
    call = opened.prepare([np.ones(shape, np.float32)])
    call()
    say_medians(call, time_calls, loop.overhead_loop, burst)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
