"""TFLite files in LiteRT (``ai_edge_litert``) or in its predecessor ``tflite_runtime``: the same interpreter.

``accelerator``: ``xnnpack`` (the default delegate of both, taken where nothing is asked), ``cpu`` (built-in
kernels alone), ``edgetpu``, ``gpu``, or a delegate's library. ``signature`` names one of several.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any, Callable

from ..errors import AgentError
from .base import (
    Backend,
    Model,
    Placement,
    Profile,
    Tensor,
    fitting,
    installed_version,
    is_of_memory,
    no_accelerator,
    not_importable,
    shares,
    threads_of,
)

_LIBRARIES = {"edgetpu": "libedgetpu.so.1", "gpu": "libtensorflowlite_gpu_delegate.so"}
_NODE = re.compile(r"Node number (\d+) \((.*?)\) failed to (prepare|invoke)")
_NO_KERNEL = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")
_NO_CUSTOM_OP = re.compile(r"unresolved custom op: ([^\n]*?)\.?(?:\n|$| See)")
_NO_ELEMENTS = "Invalid tensor size"
"""What the interpreter says when it is asked for a tensor without elements."""
_FLEX_HINT = "convert with built-in ops only, or cut the model before this op with 'edgeconv extract'"


class TfliteModel(Model):
    """A file in an interpreter.

    Variable tensors (the state of a fused LSTM, say) are reset before each inference, as
    ``edgeconv.runtimes.litert`` does; while a prepared call repeats, they run on.
    """

    def __init__(self, interpreter: Any, runtime: str, asked: str, signature: str | None, nodes: int) -> None:
        """``nodes``: ops of the file's main graph, before any delegate took some."""
        self._interpreter, self._runtime, self._asked = interpreter, runtime, asked
        self._nodes = nodes
        self._explicit = interpreter._interpreter.NumNodes() - nodes
        self._graph = 0
        inputs, outputs = self._bind(signature)
        self.inputs = [_tensor(*each) for each in _unique(inputs)]
        self.outputs = [_tensor(*each) for each in _unique(outputs)]
        self._details = ([detail for _, detail in inputs], [detail for _, detail in outputs])
        self._sizes = [tuple(int(size) for size in detail["shape"]) for _, detail in inputs]
        self._allocated = False

    def allocate_early(self) -> None:
        """Lay out the memory as the file says, where that says enough: it is part of loading the model.

        Raises:
            AgentError: the runtime refuses an op.
        """
        open_sizes = [
            [axis for axis, size in enumerate(tensor["shape"] or ()) if size is None]
            for tensor in self.inputs
        ]
        if any(axes not in ([], [0]) for axes in open_sizes):
            return  # the sizes that the file starts with are only place holders
        try:
            self._allocate([])
        except AgentError:
            if not any(open_sizes):
                raise

    def infer(self, arrays: list[Any]) -> list[Any]:
        self.prepare(arrays)()
        return [self._output(detail) for detail in self._details[1]]

    def explain(self, error: Exception) -> AgentError:
        self._allocated = False
        return refusal(error, self._runtime)

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        given = [_text(fitting(tensor, array)) for tensor, array in zip(self.inputs, arrays)]
        self._allocate(given)
        try:
            if self._graph:  # only the wrapped interpreter takes another graph than the main one
                inner = self._interpreter._interpreter
                inner.ResetVariableTensors()
                for detail, array in zip(self._details[0], given):
                    inner.SetTensor(detail["index"], array, self._graph)
                return functools.partial(inner.Invoke, self._graph)
            self._interpreter.reset_all_variables()
            for detail, array in zip(self._details[0], given):
                self._interpreter.set_tensor(detail["index"], array)
        except (ValueError, RuntimeError) as error:
            raise refusal(error, self._runtime) from error
        invoke: Callable[[], Any] = self._interpreter.invoke
        return invoke

    def placement(self, arrays: list[Any] | None = None) -> Placement | None:
        if arrays is not None:
            self.prepare(arrays)
        nodes = self._placed()
        if nodes is None:
            return None
        ran: dict[str, int] = {}
        for _, by in nodes:
            ran[by] = ran.get(by, 0) + 1
        return shares(self._asked, ran, [op for op, by in nodes if by != self._asked])

    def profile(self, arrays: list[Any], runs: int) -> Profile | None:
        """The ops and where they ran; neither package's Python has a profiler, so there are no times."""
        self.prepare(arrays)
        nodes = self._placed()
        if nodes is None:
            return None
        told = [{"name": op, "op": op, "by": by, "ns": None} for op, by in nodes]
        return {"how": "the interpreter's list of ops", "runs": 0, "nodes": told}

    def _placed(self) -> list[tuple[str, str]] | None:
        """Kind of every op of the main graph and what runs it."""
        if not self._allocated or self._graph:
            return None  # the interpreter lists the nodes of the main graph alone
        details = self._interpreter._get_ops_details()
        taken: dict[int, str] = {}
        for position, delegate in enumerate(details[self._nodes :]):
            by = self._asked if position < self._explicit or not self._explicit else "xnnpack"
            for node in _behind(delegate, details[: self._nodes]):
                taken.setdefault(node, by)
        return [
            (str(detail["op_name"]), taken.get(index, "cpu"))
            for index, detail in enumerate(details[: self._nodes])
        ]

    def close(self) -> None:
        self._interpreter = None

    def _bind(
        self, signature: str | None
    ) -> tuple[list[tuple[str | None, Any]], list[tuple[str | None, Any]]]:
        """Key in the signature and details of every input and output; sets which graph is run."""
        interpreter = self._interpreter
        plain = (interpreter.get_input_details(), interpreter.get_output_details())
        signatures = sorted(interpreter.get_signature_list())
        if not signatures:
            return [(None, d) for d in plain[0]], [(None, d) for d in plain[1]]
        chosen = _signature(signatures, signature)
        runner = interpreter.get_signature_runner(chosen)
        keyed = (runner.get_input_details(), runner.get_output_details())
        self.signature = chosen
        if any(
            detail["index"] not in [p["index"] for p in details if p["name"] == detail["name"]]
            for side, details in zip(keyed, plain)
            for detail in side.values()
        ):
            self._graph = int(runner._subgraph_index)
        elif len(keyed[0]) == len(plain[0]):  # in the order of the file
            place = [detail["index"] for detail in plain[0]]
            return sorted(keyed[0].items(), key=lambda item: place.index(item[1]["index"])), list(
                keyed[1].items()
            )
        return list(keyed[0].items()), list(keyed[1].items())

    def _allocate(self, arrays: list[Any]) -> None:
        try:
            for position, array in enumerate(arrays):
                if array.shape != self._sizes[position]:
                    self._resize(self._details[0][position]["index"], array.shape)
                    self._sizes[position] = array.shape
                    self._allocated = False
            if not self._allocated:
                if self._graph:
                    self._interpreter._interpreter.AllocateTensors(self._graph)
                else:
                    self._interpreter.allocate_tensors()
                self._allocated = True
        except (ValueError, RuntimeError) as error:
            self._allocated = False
            raise refusal(error, self._runtime) from error

    def _resize(self, index: int, shape: tuple[int, ...]) -> None:
        if self._graph:
            import numpy as np

            sizes = np.array(shape, np.int32)
            self._interpreter._interpreter.ResizeInputTensor(index, sizes, False, self._graph)
        else:
            self._interpreter.resize_tensor_input(index, shape)

    def _output(self, detail: Any) -> Any:
        """A copy of an output; the interpreter itself gives none that has no elements."""
        import numpy as np

        try:
            return self._interpreter.get_tensor(detail["index"], self._graph)
        except ValueError as error:
            now = self._interpreter._get_tensor_details(detail["index"], self._graph)
            if _NO_ELEMENTS not in str(error) or 0 not in now["shape"]:
                raise
            return np.empty(now["shape"], now["dtype"])


class TfliteBackend(Backend):
    """One of the two packages."""

    formats = ("tflite",)
    options = ("signature", "delegate_options")

    def __init__(self, name: str, module: str, distributions: tuple[str, ...]) -> None:
        self.name = name
        self._module = module
        self._distributions = distributions

    def version(self) -> str | None:
        return installed_version(*self._distributions)

    def load_library(self) -> None:
        self._import()

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        library = self._import()
        asked = str(options.get("accelerator") or "xnnpack")
        if asked in ("cuda", "tensorrt"):
            no_accelerator(self.name, asked, "cpu, xnnpack, edgetpu, gpu or a delegate's library")
        resolvers = library.OpResolverType
        plain = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        make = functools.partial(library.Interpreter, model_path=path, num_threads=threads_of(options))
        try:
            nodes = -1
            delegates = None
            if asked not in ("cpu", "xnnpack"):
                nodes = make(experimental_op_resolver_type=plain)._interpreter.NumNodes()
                delegates = [self._delegate(library, asked, options)]
            interpreter = make(
                experimental_op_resolver_type=plain if asked == "cpu" else resolvers.AUTO,
                experimental_delegates=delegates,
            )
            if nodes < 0:
                nodes = interpreter._interpreter.NumNodes()
        except (ValueError, RuntimeError) as error:
            raise refusal(error, self.name) from error
        except (SystemError, ImportError, AttributeError) as error:  # where numpy 2 is noticed only here
            raise not_importable(self.name, error) from error
        signature = options.get("signature")
        model = TfliteModel(
            interpreter, self.name, asked, None if signature is None else str(signature), nodes
        )
        model.allocate_early()
        return model

    def _import(self) -> Any:
        try:
            return importlib.import_module(self._module)
        except (ImportError, AttributeError, SystemError, OSError) as error:
            raise not_importable(self.name, error) from error

    def _delegate(self, library: Any, asked: str, options: dict[str, Any]) -> Any:
        name = _LIBRARIES.get(asked, asked)
        given = options.get("delegate_options") or {}
        try:
            return library.load_delegate(name, {str(k): str(v) for k, v in dict(given).items()})
        except (ValueError, OSError, RuntimeError) as error:
            raise AgentError(
                "unavailable",
                "the delegate %s cannot be loaded (%s)"
                % (name, _first_line(str(error)) or "it gives no reason"),
                "install it there, see that its device is plugged in, or use --accelerator xnnpack",
            ) from error


BACKEND = (
    TfliteBackend("litert", "ai_edge_litert.interpreter", ("ai-edge-litert", "ai-edge-litert-nightly")),
    TfliteBackend(
        "tflite-runtime", "tflite_runtime.interpreter", ("tflite-runtime", "tflite-runtime-nightly")
    ),
)


def refusal(error: Exception, runtime: str) -> AgentError:
    """The interpreter's message as an error that names the op."""
    text = str(error).strip()
    first = _first_line(text) or type(error).__name__
    if is_of_memory(text):
        return AgentError("memory", "%s has not enough memory for this (%s)" % (runtime, first))
    node = _NODE.search(text)
    if "Select TensorFlow op" in text or (node and node.group(2).startswith("Flex")):
        name = node.group(2) if node else "an op"
        return AgentError(
            "refused",
            "%s cannot run %s, an op of TensorFlow: it has no Flex delegate" % (runtime, name),
            _FLEX_HINT,
        )
    custom = _NO_CUSTOM_OP.search(text)
    if custom:
        hint = _FLEX_HINT
        if custom.group(1) == "edgetpu-custom-op":
            hint = "it was compiled for an Edge TPU: use --accelerator edgetpu"
        return AgentError("refused", "%s does not know the custom op %s" % (runtime, custom.group(1)), hint)
    kernel = _NO_KERNEL.search(text)
    if kernel:
        return AgentError(
            "refused",
            "this %s has no kernel for %s version %s" % (runtime, kernel.group(1), kernel.group(2)),
            "see which one has it, and what fits: edgeconv check ARTIFACT --target NAME",
        )
    if node:
        verb = "prepare" if node.group(3) == "prepare" else "run"
        reason = _first_line(text[: node.start()])
        return AgentError(
            "refused",
            "%s cannot %s the op %s (node %s)%s"
            % (runtime, verb, node.group(2), node.group(1), ": " + reason if reason else ""),
            "try --accelerator cpu" if "XNNPack" in node.group(2) else None,
        )
    return AgentError("refused", "%s refuses the file: %s" % (runtime, first))


def _signature(signatures: list[str], asked: str | None) -> str:
    if asked in signatures:
        return str(asked)
    if len(signatures) == 1:
        return signatures[0]
    if asked is None and "serving_default" in signatures:
        return "serving_default"
    raise AgentError(
        "usage",
        "the file has the signatures %s" % ", ".join(signatures),
        "say which is meant with --signature",
    )


def _unique(named: list[tuple[str | None, Any]]) -> list[tuple[str, str | None, Any]]:
    """A name for every tensor that no other has: TFLite does not ask that of the names in a file."""
    names = [str(detail["name"]) for _, detail in named]
    indices: dict[str, set[int]] = {}
    for name, (_, detail) in zip(names, named):
        indices.setdefault(name, set()).add(int(detail["index"]))
    return [
        (name if name and len(indices[name]) == 1 else "%s#%d" % (name, detail["index"]), key, detail)
        for name, (key, detail) in zip(names, named)
    ]


def _tensor(name: str, key: str | None, detail: Any) -> Tensor:
    import numpy as np

    dtype = np.dtype(detail["dtype"])
    stated = [int(size) for size in detail.get("shape_signature", ())] or [
        int(size) for size in detail["shape"]
    ]
    tensor: Tensor = {
        "name": name,
        "dtype": "string" if dtype.kind in "SUO" else dtype.name,
        # () stands for a scalar and for an unknown rank alike
        "shape": [None if size < 0 else size for size in stated] if stated else None,
    }
    if key is not None:
        tensor["key"] = key
    if name != detail["name"]:
        tensor["tensor"] = str(detail["name"])
    quantization = detail["quantization_parameters"]
    if len(quantization["scales"]):
        tensor["scales"] = [float(value) for value in quantization["scales"]]
        tensor["zero_points"] = [int(value) for value in quantization["zero_points"]]
        if len(tensor["scales"]) > 1:
            tensor["axis"] = int(quantization["quantized_dimension"])
    return tensor


def _behind(delegate: Any, nodes: list[Any]) -> set[int]:
    """Which of ``nodes`` a delegate's node computes: all that lies between its inputs and its outputs."""
    producer = {int(t): place for place, node in enumerate(nodes) for t in node["outputs"] if t >= 0}
    given = {int(t) for t in delegate["inputs"]}
    found: set[int] = set()
    wanted = [int(t) for t in delegate["outputs"]]
    while wanted:
        place = producer.get(wanted.pop())
        if place is None or place in found:
            continue
        found.add(place)
        wanted += [int(t) for t in nodes[place]["inputs"] if t >= 0 and int(t) not in given]
    return found


def _text(array: Any) -> Any:
    """Strings as the interpreter takes them: bytes."""
    import numpy as np

    return np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".")[:300] if lines else ""
