"""What the harness adds to a loop in C around ``tflite::Subgraph::Invoke``, in one process on one interpreter.

Used by ``overhead.py``. The wheel of tflite-runtime exports its C++ functions, those of LiteRT do not. So a fresh
process of the side environment opens a model by the agent's own back end, and bursts of the agent's own
loop and of ``overhead_tflite.c`` take turns on that very interpreter: its memory lies the same for both.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from overhead_turns import HERE, asked, burst_for, say_medians

RUNTIME = "tflite-runtime==2.14.0"
SOURCE = "overhead_tflite.c"


def launch(library: Path, model: Path, seconds: float) -> tuple[float, float, float]:
    """Medians of the harness, of C, and of C again in every second burst, of one launch, ns.

    Args:
        library: the compiled loop.
        model: TFLite, of float32 inputs.
        seconds: about how long an inference takes.

    Raises:
        UnavailableError: the side environment is not there; says how it is made.
    """
    from edgeconv.environments.specs import find_spec
    from edgeconv.environments.store import required

    environment = required(find_spec(RUNTIME))
    command = [str(environment.python), __file__, str(library), str(model), str(burst_for(seconds))]
    return asked(command, {**environment.variables(), "LD_PRELOAD": str(library)})


def main(library: str, model: str, burst: int) -> None:
    """In the side environment: measure, and print the three medians."""
    sys.path[0] = str(HERE.parent / "edgeconv")  # in the place of this folder, which has an agent.py, too
    import numpy as np
    from agent.backends.tflite import BACKEND  # type: ignore[import-not-found]
    from agent.measure import time_calls  # type: ignore[import-not-found]

    (backend,) = (each for each in BACKEND if each.name == "tflite-runtime")
    opened = backend.open(model, "tflite", {"threads": 1})
    from tflite_runtime import (  # type: ignore[import-not-found]
        _pywrap_tensorflow_interpreter_wrapper as wrapper,
    )

    loop = ctypes.CDLL(library)
    invoke = ctypes.CDLL(wrapper.__file__)["_ZN6tflite8Subgraph6InvokeEv"]
    loop.overhead_real(ctypes.cast(invoke, ctypes.c_void_p))
    call = opened.prepare([np.ones(each["shape"], each["dtype"]) for each in opened.inputs])
    call()
    say_medians(call, time_calls, loop.overhead_loop, burst)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
