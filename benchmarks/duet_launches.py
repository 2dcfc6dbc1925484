"""Launches of models that are measured against each other: a source of samples for ``regression.py``.

One process imports the runtimes and is forked for each launch, so that a launch costs what opening the
models costs. A forked child has its parent's memory layout; what a fresh process would draw anew (where
weights and buffers lie) is drawn here by opening the models in random order behind random padding. How a
forked launch compares with a process started anew is measured by ``regression.py units``.

Work is injected physically and its share is known by counting: a sample of an arm is ``units`` inferences
of the same model, so that 102 units against 100 are 2 % more work whatever the clock says.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from edgeconv.latency.plan import LaunchPlan

Samples = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """One side of a duet: a model file, and how many inferences make one sample."""

    path: str
    units: int = 1


def opened(path: str) -> Callable[[], object]:
    """A call that infers once, with one thread and inputs that were set before."""
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feeds = {
            value.name: np.ones([size if isinstance(size, int) else 1 for size in value.shape], np.float32)
            for value in session.get_inputs()
        }
        return lambda: session.run(None, feeds)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    for detail in list(interpreter.get_input_details()):
        interpreter.set_tensor(detail["index"], np.ones(detail["shape"], detail["dtype"]))
    return interpreter.invoke


def measure(arms: Mapping[str, Arm], plan: LaunchPlan, seed: int) -> dict[str, Samples]:
    """Open the arms in random order behind random padding, and measure them in alternating bursts.

    Returns:
        For each arm int64 nanoseconds of shape (bursts, burst length), burst i of all arms being neighbours
        in time. The order within a block is drawn, and each second block is the mirror of the one before
        (ABBA).
    """
    rng = random.Random(seed)
    names = list(arms)
    rng.shuffle(names)
    padding, calls = [], {}
    for name in names:
        padding.append([bytearray(rng.randrange(64, 1 << 17)) for _ in range(rng.randrange(1, 8))])
        calls[name] = opened(arms[name].path)
    samples = {name: np.zeros((plan.bursts, plan.length), np.int64) for name in names}
    clock = time.thread_time_ns if plan.processor_time else time.perf_counter_ns
    gc.disable()
    for name in names:
        call = calls[name]
        for _ in range(plan.warm * arms[name].units):
            call()
    order = names
    for block in range(plan.bursts):
        if block % 2 == 0:
            rng.shuffle(names)
            order = list(names)
        else:
            order.reverse()
        for name in order:
            call, row, repeat = calls[name], samples[name][block], range(arms[name].units)
            for place in range(plan.length):
                begun = clock()
                for _ in repeat:
                    call()
                row[place] = clock() - begun
    return samples


def launch(arms: Mapping[str, Arm], plan: LaunchPlan, seed: int) -> dict[str, Samples]:
    """One launch in a forked child.

    Raises:
        RuntimeError: the child died or said less than it should.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            samples = measure(arms, plan, seed)
            with os.fdopen(writing, "wb") as stream:
                for name in arms:
                    stream.write(samples[name].tobytes())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    return unpacked(said, status, arms, plan)


def launch_anew(arms: Mapping[str, Arm], plan: LaunchPlan, seed: int) -> dict[str, Samples]:
    """One launch in an interpreter started anew, which imports the runtime and gets another layout of its memory."""
    asked = json.dumps([{name: asdict(arm) for name, arm in arms.items()}, asdict(plan), seed])
    ran = subprocess.run([sys.executable, __file__, asked], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return unpacked(ran.stdout, ran.returncode, arms, plan)


def unpacked(said: bytes, status: int, arms: Mapping[str, Arm], plan: LaunchPlan) -> dict[str, Samples]:
    """What a launch wrote: the arms' samples one after another."""
    size = plan.bursts * plan.length
    if status != 0 or len(said) != size * len(arms) * 8:
        raise RuntimeError(f"a launch ended with status {status} after {len(said)} bytes")
    values = np.frombuffer(said, np.int64).reshape(len(arms), plan.bursts, plan.length)
    return dict(zip(arms, values, strict=True))


def preload(paths: Iterable[str]) -> None:
    """Import the runtimes of some models before the first launch is forked, and keep what is imported as it is."""
    for path in paths:
        if path.endswith(".onnx"):
            import onnxruntime  # noqa: F401
        else:
            import ai_edge_litert.interpreter  # noqa: F401
    gc.freeze()  # else a collection in the child would copy every page it visits


if __name__ == "__main__":
    _arms, _plan, _seed = json.loads(sys.argv[1])
    _measured = measure({name: Arm(**arm) for name, arm in _arms.items()}, LaunchPlan(**_plan), _seed)
    sys.stdout.buffer.write(b"".join(_measured[name].tobytes() for name in _arms))
