"""Loads files in the runtime of this environment, runs each once on seeded inputs, and says what happened.

    python run_artifacts.py PAYLOAD.json ANSWER.json

The payload: ``files``, a list of ``{"path", "shapes": {input: [sizes]}, "values": {input: number}}`` of
which only ``path`` has to be there; ``seconds``, wall time for each of them; ``until``, the stage to
stop before: ``prepare`` or ``invoke``; ``value``, what all inputs are filled with; ``alone``, true for a
process of its own for each file; ``delegates``, false to leave out what a runtime would take by itself
(XNNPACK). The answer: ``runtime``, ``version``, and ``results``, one for each file in order:
``{"loaded", "invoked", "stage", "error", "crash", "outputs"}``. A file that ends the process (``crash``
has the signal) or takes too long ends only itself: the work is done by a child, and another one goes on
with the next file.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable


def main() -> None:
    """Answer one payload."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    name, version = _runtime()
    results = _all(asked, name)
    answer = {"runtime": name, "version": version, "results": results}
    Path(sys.argv[2]).write_text(json.dumps(answer))


def _runtime() -> tuple[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("tflite-runtime", "ai-edge-litert", "onnxruntime"):
        try:
            return name, version(name)
        except PackageNotFoundError:
            pass
    raise SystemExit("no runtime is installed here")


def _all(asked: dict[str, Any], name: str) -> list[dict[str, Any]]:
    files, seconds = asked["files"], float(asked.get("seconds", 60))
    results: list[dict[str, Any]] = []
    while len(results) < len(files):
        left = files[len(results) :]
        results += _some(left[:1] if asked.get("alone") else left, seconds, asked, name)
    return results


def _some(files: list[Any], seconds: float, asked: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """What became of the first files; of all of them, or up to one that ended the child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(files, asked, name, writing)
        os._exit(0)
    os.close(writing)
    results: list[dict[str, Any]] = []
    buffer, stage = b"", "start"
    until = time.monotonic() + seconds + 60
    try:
        while len(results) < len(files):
            ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
            data = os.read(reading, 65536) if ready else b""
            if not data:
                if not ready:
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                child = 0
                results.append(_ended(stage, status, late=not ready))
                return results
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "stage" in said and len(said) == 1:
                    stage = said["stage"]
                else:
                    results.append(said)
                    stage = "load"
                until = time.monotonic() + seconds
        return results
    finally:
        os.close(reading)
        if child:
            os.waitpid(child, 0)


def _ended(stage: str, status: int, late: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "loaded": stage == "invoke",
        "invoked": False,
        "stage": stage,
        "error": None,
        "crash": None,
    }
    if late:
        result["error"] = "took too long"
    elif os.WIFSIGNALED(status):
        result["crash"] = signal.Signals(os.WTERMSIG(status)).name
    else:
        result["crash"] = f"exit {os.WEXITSTATUS(status)}"
    return result


def _work(files: list[Any], asked: dict[str, Any], name: str, writing: int) -> None:
    """The child: one line for each step, so that whoever reads knows where it ended."""
    import warnings

    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)

    def say(what: dict[str, Any]) -> None:
        os.write(writing, (json.dumps(what) + "\n").encode())

    run: Callable[..., list[list[int]]] = _onnx if name == "onnxruntime" else _tflite
    for file in files:
        stage = ["load"]
        say({"stage": "load"})

        def reached(text: str, stage: list[str] = stage) -> None:
            stage[0] = text
            say({"stage": text})

        result: dict[str, Any] = {"loaded": False, "invoked": False, "error": None, "crash": None}
        try:
            result["outputs"] = run(file, asked, reached)
            result["loaded"] = result["invoked"] = True
        except Exception as error:
            result["loaded"] = stage[0] == "invoke"
            result["error"] = f"{type(error).__name__}: {error}"[:2000]
        result["stage"] = stage[0]
        say(result)


def _tflite(file: dict[str, Any], asked: dict[str, Any], reached: Callable[[str], None]) -> list[list[int]]:
    try:
        module = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        module = importlib.import_module("tflite_runtime.interpreter")
    with contextlib.suppress(ImportError):
        importlib.import_module("ml_dtypes")  # NumPy has no bfloat16 of its own
    resolver = module.OpResolverType.AUTO
    if not asked.get("delegates", True):
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    model = module.Interpreter(model_path=file["path"], num_threads=1, experimental_op_resolver_type=resolver)
    details = model.get_input_details()
    for detail in details:
        shape = file.get("shapes", {}).get(detail["name"])
        if shape is not None and list(shape) != [int(size) for size in detail["shape"]]:
            model.resize_tensor_input(detail["index"], shape)
    if asked.get("until") == "prepare":
        return []
    reached("prepare")
    model.allocate_tensors()
    if asked.get("until") == "invoke":
        return []
    reached("invoke")
    for position, detail in enumerate(model.get_input_details()):
        value = file.get("values", {}).get(detail["name"], asked.get("value"))
        array = _values(detail["shape"], detail["dtype"], position, value)
        if array.size:
            model.set_tensor(detail["index"], array)
    model.invoke()
    return [[int(size) for size in detail["shape"]] for detail in model.get_output_details()]


_ONNX_TYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "int8": "int8", "uint8": "uint8",
    "int16": "int16", "uint16": "uint16", "int32": "int32", "uint32": "uint32", "int64": "int64",
    "uint64": "uint64", "bool": "bool", "string": "object",
}  # fmt: skip


def _onnx(file: dict[str, Any], asked: dict[str, Any], reached: Callable[[str], None]) -> list[list[int]]:
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file["path"], options, providers=["CPUExecutionProvider"])
    if asked.get("until"):
        return []
    reached("invoke")
    feeds = {}
    for position, each in enumerate(session.get_inputs()):
        sizes = [size if isinstance(size, int) else 1 for size in each.shape]
        sizes = file.get("shapes", {}).get(each.name, sizes)
        kind = each.type.replace("tensor(", "").replace(")", "")
        value = file.get("values", {}).get(each.name, asked.get("value"))
        feeds[each.name] = _values(sizes, numpy.dtype(_ONNX_TYPES[kind]), position, value)
    return [list(numpy.shape(output)) for output in session.run(None, feeds)]


def _values(shape: Any, dtype: Any, position: int, value: Any) -> Any:
    """Seeded values that most models take: numbers from 0 to 1, indices 0 and 1, text that is a number."""
    import numpy

    shape, dtype = [int(size) for size in shape], numpy.dtype(dtype)
    random = numpy.random.RandomState(1000 + position)
    if dtype.kind in "SUO":
        return numpy.full(shape, b"1" if dtype.kind == "S" else "1", dtype=object)
    if value is not None:
        return numpy.full(shape, value, dtype)
    if dtype.kind in "iu" and dtype.itemsize <= 1:
        return random.randint(0, 100, shape).astype(dtype)
    if dtype.kind in "iub":
        return random.randint(0, 2, shape).astype(dtype)
    return random.uniform(0, 1, shape).astype(dtype)


if __name__ == "__main__":
    main()
