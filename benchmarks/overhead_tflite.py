"""What the harness adds to a plain loop in C around ``tflite::Subgraph::Invoke``, in one process on one interpreter.

Used by ``overhead.py``. The wheel of tflite-runtime exports its C++ functions, those of LiteRT do not. So a fresh
process of the side environment opens a model by the agent's own back end, and bursts of the agent's own
loop and of ``overhead_tflite.c`` take turns on that very interpreter: its memory lies the same for both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from pathlib import Path

RUNTIME = "tflite-runtime==2.14.0"
HERE = Path(__file__).parent
_ROUNDS = 60
_SETTLING = 5


def compiled(folder: Path) -> Path:
    """The loop, to be preloaded."""
    library = folder / "overhead_tflite.so"
    source = HERE / "overhead_tflite.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def launch(library: Path, model: Path, took: float) -> tuple[float, float, float]:
    """Medians of the harness, of C, and of C again in the bursts between, of one launch, ns.

    Args:
        library: :func:`compiled`.
        model: TFLite, of float32 inputs.
        took: about how many seconds an inference takes.

    Raises:
        UnavailableError: the side environment is not there; says how it is made.
    """
    from edgeconv.environments.specs import find_spec
    from edgeconv.environments.store import required

    environment = required(find_spec(RUNTIME))
    burst = max(3, min(200, int(0.004 / max(took, 1e-7))))
    command = [str(environment.python), __file__, str(library), str(model), str(burst)]
    variables = {**environment.variables(), "LD_PRELOAD": str(library)}
    said = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True).stdout
    harness, plain, again = json.loads(said.splitlines()[-1])
    return harness, plain, again


def main(library: str, model: str, burst: int) -> None:
    """In the side environment: measure, and print the three medians."""
    import ctypes
    import gc
    from statistics import median

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

    def harness() -> array[int]:
        into = array("q", bytes(8 * burst))
        time_calls(call, into)
        return into

    def plain() -> array[int]:
        into = array("q", bytes(8 * burst))
        place, _ = into.buffer_info()
        if loop.overhead_loop(ctypes.c_void_p(place), burst):
            raise SystemExit("the interpreter refused")
        return into

    samples: list[list[float]] = [[], [], []]
    turns = ((harness, 0), (plain, 1), (plain, 2))
    gc.disable()
    for number in range(_ROUNDS + _SETTLING):
        start = number % 3
        for run, place in turns[start:] + turns[:start]:
            taken = median(run()[1:])
            if number >= _SETTLING:
                samples[place].append(taken)
    print(json.dumps([median(each) for each in samples]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
