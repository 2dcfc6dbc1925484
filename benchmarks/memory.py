"""How near the estimate of memory in `edgeconv check` comes to what the runtimes take.

    python benchmarks/memory.py ARTIFACT…

Each artifact is opened and run twice in a process of its own; the peak is what that adds to the resident memory of
a process that has imported the runtime. One thread.
"""

import subprocess
import sys
from pathlib import Path

from edgeconv.checking.memory import memory_need
from edgeconv.formats import describe

CHILD = """
import sys
import numpy as np

def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024

path = sys.argv[1]
if path.endswith(".tflite"):
    from ai_edge_litert.interpreter import Interpreter
    before = status("VmRSS")
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()
    interpreter.invoke()
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    before = status("VmRSS")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = {"float": "float32", "double": "float64", "float16": "float16"}
    feeds = {}
    for entry in session.get_inputs():
        kind = entry.type[len("tensor("):-1]
        shape = [size if isinstance(size, int) else 1 for size in entry.shape]
        feeds[entry.name] = np.zeros(shape, kinds.get(kind, kind))
    session.run(None, feeds)
    session.run(None, feeds)
print(status("VmHWM") - before)
"""


def main() -> None:
    """Print the table."""
    print("| artifact | weights | packed | activations | estimate MB | measured MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:]:
        path = Path(name)
        description = describe(path)
        need = memory_need(path, description.format, description.metadata.get("precision"))
        ran = subprocess.run([sys.executable, "-c", CHILD, name], capture_output=True, text=True)
        measured = f"{int(ran.stdout) / 1e6:.0f}" if ran.returncode == 0 else "does not run"
        parts = [f"{value / 1e6:.1f}" for value in (need.weights, need.packed, need.activations, need.total)]
        print(f"| {path.name} | {' | '.join(parts)} | {measured} |")


if __name__ == "__main__":
    main()
