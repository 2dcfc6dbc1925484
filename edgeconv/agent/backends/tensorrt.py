"""TensorRT engines, on the GPU and the release of TensorRT that they were built for.

Releases from 8.5 on name the tensors of an engine; those of 8.0 to 8.4 (JetPack 5.0) number them, which
:class:`_Numbered` hides. Memory and stream are the driver's own (:mod:`._cuda`).
"""

from __future__ import annotations

import math
import os
import re
from typing import Any, Callable

from ..errors import AgentError
from ._cuda import Cuda
from .base import (
    Backend,
    Model,
    Placement,
    Tensor,
    fitting,
    installed_version,
    is_of_memory,
    no_accelerator,
    not_importable,
    shares,
)

_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool", "UINT8": "uint8",
}  # fmt: skip
_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
_OTHER_VERSION = re.compile(
    r"[Vv]ersion tag does not match|not compatible with this version|expecting library version|"
    r"stdVersionRead|magicTagRead"
)
_OTHER_GPU = re.compile(
    r"incompatible device|expecting compute|different (?:compute capability|device)", re.I
)


class _Named:
    """An engine whose tensors have names: TensorRT 8.5 and later."""

    def __init__(self, trt: Any, engine: Any, context: Any) -> None:
        self._trt, self._engine, self._context = trt, engine, context
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        self.inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.outputs = [n for n in names if n not in self.inputs]

    def described(self, name: str) -> tuple[list[int], str]:
        """Shape (-1 for what is open) and name of the dtype."""
        return list(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name).name

    def on_host(self, name: str) -> bool:
        """Whether its values lie in the processor's memory: those that shapes are computed from."""
        return bool(self._engine.get_tensor_location(name) == self._trt.TensorLocation.HOST)

    def resize(self, name: str, shape: tuple[int, ...]) -> bool:
        """Set the shape of an input."""
        return bool(self._context.set_input_shape(name, shape))

    def shape(self, name: str) -> list[int]:
        """The shape for the inputs that are set; -1 for what only the values decide."""
        return list(self._context.get_tensor_shape(name))

    def place(self, name: str, address: int) -> None:
        """Say where a tensor lies."""
        self._context.set_tensor_address(name, address)

    def allocator(self, name: str, allocator: Any) -> None:
        """Have the memory of an output asked for when its size is known."""
        self._context.set_output_allocator(name, allocator)

    def start(self, stream: int) -> bool:
        """Put one inference into the stream."""
        return bool(self._context.execute_async_v3(stream))


class _Numbered:
    """An engine whose tensors have numbers: TensorRT 8.0 to 8.4."""

    def __init__(self, trt: Any, engine: Any, context: Any) -> None:
        self._engine, self._context = engine, context
        count = engine.num_bindings // engine.num_optimization_profiles
        self._places = {engine.get_binding_name(place): place for place in range(count)}
        self._addresses = [0] * engine.num_bindings
        self.inputs = [name for name, place in self._places.items() if engine.binding_is_input(place)]
        self.outputs = [name for name in self._places if name not in self.inputs]

    def described(self, name: str) -> tuple[list[int], str]:
        place = self._places[name]
        return list(self._engine.get_binding_shape(place)), self._engine.get_binding_dtype(place).name

    def on_host(self, name: str) -> bool:
        return bool(self._engine.is_shape_binding(self._places[name]))

    def resize(self, name: str, shape: tuple[int, ...]) -> bool:
        return bool(self._context.set_binding_shape(self._places[name], shape))

    def shape(self, name: str) -> list[int]:
        return list(self._context.get_binding_shape(self._places[name]))

    def place(self, name: str, address: int) -> None:
        self._addresses[self._places[name]] = address

    def allocator(self, name: str, allocator: Any) -> None:
        raise AgentError("refused", "TensorRT before 8.5 cannot run outputs whose size depends on values")

    def start(self, stream: int) -> bool:
        return bool(self._context.execute_async_v2(self._addresses, stream))


class TensorRTModel(Model):
    """An engine with one execution context."""

    def __init__(self, trt: Any, engine: Any, said: list[str]) -> None:
        self._trt, self._engine, self._said = trt, engine, said
        self._cuda = Cuda()
        self._context = engine.create_execution_context()
        if self._context is None:
            raise _refusal(said, "TensorRT cannot make an execution context")
        kind = _Named if hasattr(engine, "num_io_tensors") else _Numbered
        self._tensors: Any = kind(trt, engine, self._context)
        self.inputs = [self._described(name) for name in self._tensors.inputs]
        self.outputs = [self._described(name) for name in self._tensors.outputs]
        self._kept: dict[str, Any] = {}
        """Arrays on the host that the engine reads or writes."""
        self._addresses: dict[str, int] = {}
        self._growing: dict[str, Any] = {}
        self.runtime: Any = None
        """What has to live as long as the engine."""

    def infer(self, arrays: list[Any]) -> list[Any]:
        import numpy as np

        self.prepare(arrays)()
        found = []
        for tensor in self.outputs:
            name = tensor["name"]
            if name in self._kept:
                found.append(self._kept[name].copy())
                continue
            grown = self._growing.get(name)
            shape = self._tensors.shape(name) if grown is None else grown.shape
            array = np.empty(shape, tensor["dtype"])
            if array.size:
                self._cuda.download(array, self._addresses[name] if grown is None else grown.address)
            found.append(array)
        self._cuda.wait()
        return found

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        import numpy as np

        given = {tensor["name"]: fitting(tensor, a) for tensor, a in zip(self.inputs, arrays)}
        for name, array in given.items():
            if not self._tensors.resize(name, array.shape):
                raise AgentError(
                    "usage",
                    "the engine was not built for input '%s' of the shape %s" % (name, list(array.shape)),
                    "build it again with that shape in its optimisation profile",
                )
        for name, array in given.items():
            if self._tensors.on_host(name):
                self._kept[name] = array
                self._tensors.place(name, array.ctypes.data)
            else:
                address = self._cuda.buffer(name, array.nbytes)
                self._cuda.upload(address, array)
                self._tensors.place(name, address)
        for tensor in self.outputs:
            name = tensor["name"]
            shape = self._tensors.shape(name)
            if any(size < 0 for size in shape):
                if name not in self._growing:
                    self._growing[name] = _growing(self._trt, self._cuda)
                self._tensors.allocator(name, self._growing[name])
            elif self._tensors.on_host(name):
                self._kept[name] = np.empty(shape, tensor["dtype"])
                self._tensors.place(name, self._kept[name].ctypes.data)
            else:
                size = math.prod(shape) * np.dtype(tensor["dtype"]).itemsize
                self._addresses[name] = self._cuda.buffer(name, size)
                self._tensors.place(name, self._addresses[name])
        self._cuda.wait()
        start, stream, wait = self._tensors.start, self._cuda.stream, self._cuda.wait

        def run() -> None:
            if not start(stream):
                raise RuntimeError("TensorRT did not start the inference")
            wait()

        return run

    def explain(self, error: Exception) -> AgentError:
        return _refusal([*self._said, str(error)], "TensorRT cannot run the engine")

    def placement(self, arrays: list[Any] | None = None) -> Placement | None:
        return shares("tensorrt", {"tensorrt": int(self._engine.num_layers)}, [], 1.0)

    def close(self) -> None:
        self._context = self._tensors = self._engine = None
        self._cuda.close()

    def _described(self, name: str) -> Tensor:
        shape, kind = self._tensors.described(name)
        if kind not in _DTYPES:
            raise AgentError("refused", "tensor '%s' is %s, which numpy does not have" % (name, kind))
        return {"name": name, "dtype": _DTYPES[kind], "shape": [None if size < 0 else size for size in shape]}


class TensorRTBackend(Backend):
    """See the module."""

    name = "tensorrt"
    formats = ("tensorrt",)

    def version(self) -> str | None:
        return installed_version(*_DISTRIBUTIONS)

    def load_library(self) -> None:
        try:
            import tensorrt  # noqa: F401
        except (ImportError, AttributeError, SystemError, OSError) as error:
            raise not_importable("tensorrt", error) from error

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        asked = str(options.get("accelerator") or "tensorrt")
        if asked != "tensorrt":
            no_accelerator(self.name, asked, "only tensorrt")
        self.load_library()
        import tensorrt as trt

        Cuda().close()  # without a GPU the library ends the process at some calls
        said: list[str] = []
        logger = _logger(trt, said)
        trt.init_libnvinfer_plugins(logger, "")
        with open(path, "rb") as stream:
            data = stream.read()
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise _refusal(said, "TensorRT refuses the engine", path)
        model = TensorRTModel(trt, engine, said)
        model.runtime = (logger, runtime)
        return model


BACKEND = TensorRTBackend()


def _logger(trt: Any, said: list[str]) -> Any:
    """What TensorRT says, kept: it is the only place where it gives a reason."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                said.append(message)
                del said[:-20]

    return Logger()


def _growing(trt: Any, cuda: Cuda) -> Any:
    """Memory of an output whose size is known only when it is computed."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.shape: tuple[int, ...] = ()
            self.address = 0

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            self.address = cuda.buffer(name, size)
            return self.address

        def reallocate_output_async(
            self, name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()


def _refusal(said: list[str], what: str, path: str = "MODEL.engine") -> AgentError:
    text = " | ".join(" ".join(line.split()) for line in said[-4:])[:500] or "it gives no reason"
    name = os.path.splitext(os.path.basename(path))[0]
    rebuild = "build it again there, from the ONNX file: trtexec --onnx=%s.onnx --saveEngine=%s" % (
        name,
        os.path.basename(path),
    )
    if is_of_memory(text):
        return AgentError("memory", "%s: there is not enough memory (%s)" % (what, text))
    if _OTHER_GPU.search(text):
        return AgentError("refused", "the engine was built for another GPU (%s)" % text, rebuild)
    if _OTHER_VERSION.search(text):
        return AgentError("refused", "the engine was built by another TensorRT (%s)" % text, rebuild)
    return AgentError("refused", "%s (%s)" % (what, text), rebuild)
