"""LiteRT, the interpreter of TFLite files on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from edgeconv.errors import (
    ConversionError,
    EdgeconvError,
    InvalidModelError,
    UnavailableError,
    UsageError,
)
from edgeconv.formats.base import Contract, Quantization, Shape, TensorSpec
from edgeconv.runtimes.base import Arrays, Placement, Session
from edgeconv.runtimes.binding import FileTensor, bind, checked_inputs

_NODE = re.compile(r"Node number (\d+) \((.*?)\) failed to (prepare|invoke)")
_NO_KERNEL = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")
_NO_CUSTOM_OP = re.compile(r"unresolved custom op: ([^\n]*?)\.?(?:\n|$| See)")
_FLEX_HINT = "convert with built-in ops only, or cut the model before this op with 'edgeconv extract'"


@dataclass(frozen=True, slots=True)
class _Bound:
    """A tensor of the contract and where the interpreter keeps it."""

    spec: TensorSpec
    index: int
    key: str
    """Name in the file's signature; the tensor's name where there is no signature."""
    sizes: tuple[int, ...]
    """Dimensions that the interpreter starts with."""
    fixed: Shape | None
    """Dimensions that the file states, ``None`` for each that may be resized."""


_XNNPACK_HINT = (
    "its default kernels refuse scales that lie very far apart, as where a layer gave nothing but zeros on "
    "the calibration samples: give more and typical ones with --calibration"
)
_LIBRARIES = {"edgetpu": "libedgetpu.so.1", "gpu": "libtensorflowlite_gpu_delegate.so"}
_NO_ELEMENTS = "Invalid tensor size"
"""What the interpreter says when it is asked for a tensor without elements."""


class LiteRTSession(Session):
    """A TFLite file in the LiteRT interpreter.

    Variable tensors (the state of a fused LSTM, say) are reset before each inference, as the source model
    keeps no such state between calls. Resource variables that the model itself assigns to are kept, as
    the source model keeps them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(
        self,
        interpreter: Any,
        path: Path,
        inputs: list[_Bound],
        outputs: list[_Bound],
        runner: Any | None,
        opened: Mapping[str, Any],
    ) -> None:
        self._interpreter = interpreter
        self._opened = dict(opened)
        self._runner = runner
        self._path = path
        self._bound_inputs = inputs
        self._bound_outputs = outputs
        self._sizes = {bound.index: bound.sizes for bound in inputs}
        self._allocated = False
        self.inputs = tuple(bound.spec for bound in inputs)
        self.outputs = tuple(bound.spec for bound in outputs)

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        """Run one inference; see :meth:`edgeconv.runtimes.base.Session.infer`.

        Inputs whose dimensions are not fixed may change their shape from call to call; memory is laid out
        anew only when they do. Strings are arrays of ``bytes``.
        """
        arrays = self._checked(inputs)
        try:
            if self._runner is not None:
                self._open().reset_all_variables()
                return self._run_signature({b.key: arrays[b.spec.name] for b in self._bound_inputs})
            self._set(arrays)
            self._open().invoke()
            return {b.spec.name: self._output(b) for b in self._bound_outputs}
        except (ValueError, RuntimeError) as error:
            self._allocated = False
            raise _refused(error, self._path) from error

    def prepare(self, inputs: Arrays) -> Callable[[], object]:
        """See :meth:`edgeconv.runtimes.base.Session.prepare`; variable tensors run on between the calls."""
        if self._runner is not None:
            self.infer(inputs)  # lays out the memory of its subgraph and leaves the inputs in it
            return partial(self._open()._interpreter.Invoke, self.subgraph)
        arrays = self._checked(inputs)
        try:
            self._set(arrays)
        except (ValueError, RuntimeError) as error:
            self._allocated = False
            raise _refused(error, self._path) from error
        invoke: Callable[[], object] = self._open().invoke
        return invoke

    def placement(self, inputs: Arrays) -> Placement | None:
        """Which delegate runs which ops; see :meth:`edgeconv.runtimes.base.Session.placement`.

        Told from the nodes that the interpreter has before and after its delegates took theirs. It does not
        tell their times.
        """
        from edgeconv.agent.backends.tflite import BACKEND
        from edgeconv.runtimes._placement import placement_of

        self._open()
        arrays = self._checked(inputs)
        litert = next(backend for backend in BACKEND if backend.name == "litert")
        return placement_of(litert, self._path, "tflite", self._opened, arrays, self.inputs)

    @property
    def interpreter(self) -> Any:
        """The interpreter itself, for what a session does not offer; no array may point into it."""
        return self._open()

    @property
    def subgraph(self) -> int:
        """Index of the subgraph that is run."""
        return 0 if self._runner is None else int(self._runner._subgraph_index)

    @property
    def input_indices(self) -> tuple[int, ...]:
        """Index of each input's tensor in its subgraph, in the order of ``inputs``."""
        return tuple(bound.index for bound in self._bound_inputs)

    @property
    def output_indices(self) -> tuple[int, ...]:
        """Index of each output's tensor in its subgraph, in the order of ``outputs``."""
        return tuple(bound.index for bound in self._bound_outputs)

    def tensors(self) -> dict[str, Any]:
        """Copies of all tensors of the graph after the last inference, by the file's tensor names.

        Tensors without values (never computed, or fused away by a delegate) are left out. Needs the
        option ``preserve_all_tensors``; without it intermediate values have been overwritten.
        """
        values: dict[str, Any] = {}
        for detail in self._open().get_tensor_details(self.subgraph):
            value = self._value(detail)
            if value is not None:
                values[detail["name"]] = value
        return values

    def tensor(self, name: str) -> Any:
        """A copy of one tensor of the graph that is run after the last inference, by the file's tensor name.

        Raises:
            UsageError: no tensor has that name, or it holds no value.
        """
        for detail in self._open().get_tensor_details(self.subgraph):
            if detail["name"] == name:
                value = self._value(detail)
                if value is not None:
                    return value
        raise UsageError(f"no tensor '{name}' that holds a value", where=str(self._path))

    def close(self) -> None:
        """Give the memory back. The session cannot be used after it."""
        self._runner = None
        self._interpreter = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> Any:
        if self._interpreter is None:
            raise UsageError("the session is closed", where=str(self._path))
        return self._interpreter

    def _run_signature(self, arrays: Arrays) -> dict[str, Any]:
        assert self._runner is not None
        try:
            found = self._runner(**arrays)
        except ValueError as error:
            if _NO_ELEMENTS not in str(error):
                raise
            # It stumbled over an output without elements, after it had computed all of them.
            return {b.spec.name: self._output(b) for b in self._bound_outputs}
        return {b.spec.name: found[b.key] for b in self._bound_outputs}

    def _output(self, bound: _Bound) -> Any:
        """The value of an output; the interpreter itself gives none that has no elements."""
        import numpy as np

        try:
            return self._open().get_tensor(bound.index, self.subgraph)
        except ValueError as error:
            detail = self._open()._get_tensor_details(bound.index, self.subgraph)
            if _NO_ELEMENTS not in str(error) or 0 not in detail["shape"]:
                raise
            return np.empty(detail["shape"], detail["dtype"])

    def _value(self, detail: Mapping[str, Any]) -> Any | None:
        try:
            return self._open().get_tensor(detail["index"], self.subgraph)
        except ValueError:
            return None

    def _checked(self, inputs: Arrays) -> dict[str, Any]:
        import numpy as np

        self._open()
        fixed = {bound.spec.name: bound.fixed for bound in self._bound_inputs}
        arrays = checked_inputs(inputs, self.inputs, str(self._path), shapes=fixed)
        return {n: np.char.encode(a, "utf-8") if a.dtype.kind == "U" else a for n, a in arrays.items()}

    def _set(self, arrays: Arrays) -> None:
        """Memory and inputs of the main graph."""
        self._allocate(arrays)
        self._open().reset_all_variables()
        for bound in self._bound_inputs:
            self._open().set_tensor(bound.index, arrays[bound.spec.name])

    def _allocate(self, arrays: Arrays) -> None:
        for bound in self._bound_inputs:
            shape = tuple(arrays[bound.spec.name].shape)
            if shape != self._sizes[bound.index]:
                self._open().resize_tensor_input(bound.index, shape)
                self._sizes[bound.index] = shape
                self._allocated = False
        if not self._allocated:
            self._open().allocate_tensors()
            self._allocated = True


@dataclass(frozen=True, slots=True)
class LiteRT:
    """The registered runtime. Options:

    - ``accelerator``: ``xnnpack``, the default delegate; ``cpu``, the built-in kernels without it;
      ``edgetpu``, ``gpu`` or the library of another delegate;
    - ``xnnpack``: ``False`` is the same as the accelerator ``cpu``;
    - ``preserve_all_tensors``: ``True`` keeps intermediate tensors for :meth:`LiteRTSession.tensors`;
    - ``signature``: which of several signatures, where the contract does not say.
    """

    name: str = "litert"
    formats: tuple[str, ...] = ("tflite",)
    preload: tuple[str, ...] = ("litert_quantizer.quantizer", "ai_edge_litert.interpreter")
    tools: tuple[str, ...] = ("ai-edge-litert",)

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> LiteRTSession:
        """Load a TFLite file; see :meth:`edgeconv.runtimes.base.Runtime.open`."""
        options = options or {}
        if not path.is_file():
            raise UsageError("no such file", where=str(path), hint="check the path")
        interpreter = _interpreter(path, threads, options)
        wanted = contract.signature if contract is not None else None
        signature = options.get("signature") or wanted
        opened = {"accelerator": _accelerator(options), "threads": threads, "signature": signature}
        return _bind(interpreter, path, contract, signature, opened)


RUNTIME = LiteRT()


def _interpreter(path: Path, threads: int, options: Mapping[str, Any]) -> Any:
    import warnings

    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    accelerator = _accelerator(options)
    delegates = None if accelerator in ("cpu", "xnnpack") else [_delegate(accelerator, path)]
    resolver = (
        OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if accelerator == "cpu" else OpResolverType.AUTO
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all tensors costs memory: it was asked for
        try:
            return Interpreter(
                model_path=str(path),
                num_threads=max(1, threads),
                experimental_op_resolver_type=resolver,
                experimental_delegates=delegates,
                experimental_preserve_all_tensors=bool(options.get("preserve_all_tensors", False)),
            )
        except (ValueError, RuntimeError) as error:
            raise _refused(error, path) from error


def _accelerator(options: Mapping[str, Any]) -> str:
    asked = options.get("accelerator")
    return str(asked) if asked else "xnnpack" if options.get("xnnpack", True) else "cpu"


def _delegate(asked: str, path: Path) -> Any:
    from ai_edge_litert.interpreter import load_delegate

    if asked in ("cuda", "tensorrt"):
        raise UsageError(
            f"LiteRT has no accelerator '{asked}'",
            where=str(path),
            hint="it has cpu, xnnpack, edgetpu, gpu, or the library of a delegate",
        )
    name = _LIBRARIES.get(asked, asked)
    try:
        return load_delegate(name)
    except (ValueError, OSError, RuntimeError) as error:
        raise UnavailableError(
            f"the delegate {name} cannot be loaded",
            where=str(path),
            why=_first_line(str(error)) or None,
            hint="install it, see that its device is plugged in, or use the accelerator 'xnnpack'",
        ) from error


def _bind(
    interpreter: Any,
    path: Path,
    contract: Contract | None,
    signature: str | None,
    opened: Mapping[str, Any],
) -> LiteRTSession:
    """Tie the names of the contract to tensors of the file."""
    positions = (interpreter.get_input_details(), interpreter.get_output_details())
    signatures = list(interpreter.get_signature_list())
    runner = None
    if signatures:
        if signature not in signatures:
            signature = _default_signature(signatures, contract, path)
        runner = interpreter.get_signature_runner(signature)
        keyed = (runner.get_input_details(), runner.get_output_details())
        # The main graph is run directly, which saves laying out memory anew at each call.
        same_graph = all(
            any(d["index"] == p["index"] and d["name"] == p["name"] for p in plain)
            for details, plain in zip(keyed, positions, strict=True)
            for d in details.values()
        )
        if same_graph:
            runner = None
    else:
        keyed = ({}, {})
    if runner is not None:
        positions = (list(keyed[0].values()), list(keyed[1].values()))
    wanted = (contract.inputs, contract.outputs) if contract is not None else (None, None)
    bound = [
        _bind_side(role, specs, keys, details, path)
        for role, specs, keys, details in zip(("input", "output"), wanted, keyed, positions, strict=True)
    ]
    return LiteRTSession(interpreter, path, bound[0], bound[1], runner, opened)


def _default_signature(signatures: list[str], contract: Contract | None, path: Path) -> str:
    if len(signatures) == 1:
        return signatures[0]
    if "serving_default" in signatures:
        return "serving_default"
    raise UsageError(
        f"the file has the signatures {', '.join(sorted(signatures))} and nothing says which is meant",
        where=str(path),
        hint=f"add --signature {sorted(signatures)[0]}",
    )


def _bind_side(
    role: str,
    specs: tuple[TensorSpec, ...] | None,
    keyed: Mapping[str, Mapping[str, Any]],
    positions: list[Mapping[str, Any]],
    path: Path,
) -> list[_Bound]:
    in_signature = {(d["index"], d["name"]) for d in keyed.values()}
    tensors = [_tensor(detail, key) for key, detail in keyed.items()]
    tensors += [_tensor(d, None) for d in positions if (d["index"], d["name"]) not in in_signature]
    details = {(d["index"], d["name"]): d for d in (*positions, *keyed.values())}
    return [
        _Bound(
            spec=binding.spec,
            index=binding.tensor.index,
            key=binding.key,
            sizes=tuple(int(size) for size in details[(binding.tensor.index, binding.tensor.name)]["shape"]),
            fixed=binding.fixed,
        )
        for binding in bind(role, specs, tensors, str(path))
    ]


def _tensor(detail: Mapping[str, Any], key: str | None) -> FileTensor:
    import numpy as np

    stated = tuple(int(size) for size in detail["shape_signature"])
    dtype = np.dtype(detail["dtype"])
    parameters = detail["quantization_parameters"]
    quantization = None
    if len(parameters["scales"]):
        scale = tuple(float(value) for value in parameters["scales"])
        quantization = Quantization(
            scale=scale,
            zero_point=tuple(int(value) for value in parameters["zero_points"]),
            axis=int(parameters["quantized_dimension"]) if len(scale) > 1 else None,
        )
    return FileTensor(
        index=int(detail["index"]),
        name=str(detail["name"]),
        dtype="string" if dtype.kind in "SUO" else dtype.name,
        shape=tuple(None if size < 0 else int(size) for size in (stated or detail["shape"])),
        key=key,
        quantization=quantization,
        rank_known=len(detail["shape"]) > 0,
    )


def _refused(error: Exception, path: Path) -> EdgeconvError:
    """The interpreter's message as an error that names the op."""
    text = str(error).strip()
    where = str(path)
    node = _NODE.search(text)
    if "Select TensorFlow op" in text or (node and node[2].startswith("Flex")):
        names = ", ".join(_flex_ops(path)) or (node[2] if node else "unknown")
        return ConversionError(
            f"LiteRT cannot run the TensorFlow ops in this file: {names}",
            where=where,
            why="they need the Flex delegate, which no LiteRT package for Python has",
            hint=_FLEX_HINT,
        )
    custom = _NO_CUSTOM_OP.search(text)
    if custom:
        return ConversionError(
            f"LiteRT does not know the custom op {custom[1]}",
            where=where,
            why=_first_line(text),
            hint=_FLEX_HINT,
        )
    kernel = _NO_KERNEL.search(text)
    if kernel:
        return ConversionError(
            f"this LiteRT has no kernel for {kernel[1]} version {kernel[2]}",
            where=where,
            hint="the file was made for a newer runtime: convert the model again with this release",
        )
    if node:
        verb = "prepare" if node[3] == "prepare" else "run"
        return ConversionError(
            f"LiteRT cannot {verb} the op {node[2]} (node {node[1]})",
            where=where,
            why=_first_line(text[: node.start()]) or None,
            hint=_XNNPACK_HINT if "XNNPack" in node[2] else None,
        )
    broken = ("identifier", "Flatbuffer", "flatbuffer", "Mmap", "Could not open", "schema version")
    if any(word in text for word in broken):
        return InvalidModelError(
            "not a readable TFLite file", where=where, why=_first_line(text), hint="copy the file again"
        )
    return ConversionError(
        "LiteRT refuses the file", where=where, why=_first_line(text) or type(error).__name__
    )


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else ""


def _flex_ops(path: Path) -> list[str]:
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(path.read_bytes(), 0)
    codes = (model.OperatorCodes(i).CustomCode() for i in range(model.OperatorCodesLength()))
    return sorted({code.decode(errors="replace") for code in codes if code and code.startswith(b"Flex")})
