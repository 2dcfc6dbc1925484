"""ONNX Runtime: opens ONNX and ORT files, on the CPU unless an accelerator is named.

Options: ``accelerator`` (``cpu``, ``xnnpack``, ``cuda``, ``tensorrt``, or the name of a provider),
``providers`` (list of ONNX Runtime's provider names instead, tried in order) and ``fetch`` (names of inner
tensors of an ONNX file to return after the outputs, for locating a divergence). A provider leaves what it
does not take to the CPU without a word: :meth:`OnnxRuntimeSession.placement` says how much.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from edgeconv.agent.backends.onnxruntime import NODE_PATTERNS, OP_PATTERNS
from edgeconv.errors import ConversionError, InvalidModelError, UnavailableError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes.base import Placement, Session
from edgeconv.runtimes.binding import checked_inputs

_CPU = "CPUExecutionProvider"
_PROVIDERS = {
    "cpu": (),
    "xnnpack": ("XnnpackExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
_LARGEST_IN_MEMORY = 1_900_000_000


class OnnxRuntimeSession(Session):
    """A loaded model; see :class:`edgeconv.runtimes.base.Session`."""

    def __init__(
        self,
        session: Any,
        path: Path,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        fetched: tuple[TensorSpec, ...] = (),
        opened: Mapping[str, Any] | None = None,
    ) -> None:
        self._session = session
        self._path = path
        self._opened = dict(opened or {})
        self.inputs = inputs
        self.outputs = outputs
        self.fetched = fetched
        """Inner tensors asked for by ``fetch``, named as in the file; ``infer`` returns them too."""
        self._present = {value.name for value in session.get_inputs()}
        self._wanted = [spec.inner_name for spec in (*outputs, *fetched)]

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run one inference; arrays by logical name in and out, fetched tensors after the outputs.

        Raises:
            UsageError: an input is missing, unknown, or of the wrong rank, size or dtype.
            ConversionError: ONNX Runtime failed; names node and op.
        """
        feeds = self._feeds(inputs)
        try:
            values = self._session.run(self._wanted, feeds)
        except Exception as error:
            raise _refusal(str(error), self._path, "the inference failed") from error
        specs = (*self.outputs, *self.fetched)
        return {spec.name: value for spec, value in zip(specs, values, strict=True)}

    def prepare(self, inputs: Mapping[str, Any]) -> Callable[[], object]:
        """See :meth:`edgeconv.runtimes.base.Session.prepare`."""
        feeds = self._feeds(inputs)
        return partial(self._session.run, self._wanted, feeds)

    def placement(self, inputs: Mapping[str, Any]) -> Placement | None:
        """Which provider ran which part; see :meth:`edgeconv.runtimes.base.Session.placement`.

        Ops are those that are left after ONNX Runtime's own optimisation; the share of time is that of the
        second run of a session that profiles itself.
        """
        from edgeconv.agent.backends.onnxruntime import BACKEND
        from edgeconv.runtimes._placement import placement_of

        if self._session is None:
            raise UsageError("the session is closed", where=str(self._path))
        arrays = checked_inputs(inputs, self.inputs, str(self._path))
        return placement_of(BACKEND, self._path, "onnx", self._opened, arrays, self.inputs)

    def close(self) -> None:
        """Give the memory back."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _feeds(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise UsageError("the session is closed", where=str(self._path))
        arrays = checked_inputs(inputs, self.inputs, str(self._path))
        return {
            spec.inner_name: _as_taken(arrays[spec.name], spec, self._path)
            for spec in self.inputs
            if spec.inner_name in self._present
        }


class OnnxRuntime:
    """See :class:`edgeconv.runtimes.base.Runtime`."""

    name = "onnxruntime"
    formats: tuple[str, ...] = ("onnx", "ort")
    preload: tuple[str, ...] = ("onnx", "onnxruntime")
    tools: tuple[str, ...] = ("onnxruntime",)

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> OnnxRuntimeSession:
        """Load an ONNX or ORT file.

        Args:
            path: the file; external data is looked for beside it.
            contract: logical names and their tensors; taken from the file where ``None``.
            threads: intra-op threads; one operator runs at a time.
            options: ``accelerator``, ``providers`` and ``fetch``, see the module.

        Raises:
            UsageError: no such file, or a tensor of the contract or of ``fetch`` is not in the model.
            InvalidModelError: the file is broken or its external data is missing.
            ConversionError: ONNX Runtime refuses the model; names node, op and domain.
            UnavailableError: a provider is not in this build of ONNX Runtime.
        """
        options = options or {}
        if not path.is_file():
            raise UsageError("no such file", where=str(path), hint="check the path")
        fetch = tuple(options.get("fetch") or ())
        accelerator = str(options.get("accelerator") or "cpu")
        providers = _providers(options.get("providers") or _of_accelerator(accelerator))
        session = _load(path, threads, providers, fetch)
        left_out = [name for name in providers if name not in session.get_providers()]
        if left_out:
            raise UnavailableError(
                f"ONNX Runtime left the provider {left_out[0]} out: its libraries cannot be loaded here",
                where=str(path),
                hint="install them, or open it with accelerator 'cpu'",
            )
        opened = {"accelerator": next(iter(options.get("providers") or ()), accelerator), "threads": threads}
        known_inputs = {value.name: value for value in session.get_inputs()}
        known_outputs = {value.name: value for value in session.get_outputs()}
        fetched = tuple(_spec(known_outputs[name]) for name in fetch)
        if contract is None:
            added = set(fetch)
            return OnnxRuntimeSession(
                session,
                path,
                tuple(_spec(value) for value in known_inputs.values()),
                tuple(_spec(value) for name, value in known_outputs.items() if name not in added),
                fetched,
                opened,
            )
        _has(contract.outputs, known_outputs, path, "output")
        # ONNX Runtime may drop an input that nothing uses; a source's input is then taken and not fed.
        unknown = [spec for spec in contract.inputs if spec.inner_name not in known_inputs]
        if unknown and len(contract.inputs) - len(unknown) < len(known_inputs):
            _has(contract.inputs, known_inputs, path, "input")
        return OnnxRuntimeSession(session, path, contract.inputs, contract.outputs, fetched, opened)


RUNTIME = OnnxRuntime()


def _of_accelerator(asked: str) -> list[str]:
    """The providers for an accelerator, those of them that this build has; the CPU takes the rest."""
    import onnxruntime

    names = _PROVIDERS.get(asked, (asked,))
    available = onnxruntime.get_available_providers()
    return [*names[:1], *(name for name in names[1:] if name in available), _CPU]


def _providers(asked: Sequence[str]) -> list[str]:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    for name in asked:
        if name not in available:
            raise UnavailableError(
                f"ONNX Runtime has no provider '{name}' here",
                hint=f"available: {', '.join(available)}",
            )
    return list(asked)


def _load(path: Path, threads: int, providers: list[str], fetch: tuple[str, ...]) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads of an idle session take the processor from the one that is measured.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source: str | bytes = str(path)
    if fetch:
        source = _with_outputs(path, fetch, options)
    try:
        # Without this it would try once more on the CPU where a provider fails, and print that.
        return onnxruntime.InferenceSession(source, options, providers=providers, disable_fallback=True)
    except Exception as error:
        raise _refusal(str(error), path, "ONNX Runtime refuses the model") from error


def _with_outputs(path: Path, fetch: tuple[str, ...], options: Any) -> bytes:
    """The model with inner tensors among its outputs, unoptimised so that they are still there."""
    import onnx
    import onnxruntime

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise UsageError(
            "inner tensors can only be fetched from an ONNX file", where=str(path), why=str(error)[:200]
        ) from error
    made = {name for node in model.graph.node for name in node.output}
    present = {value.name for value in model.graph.output}
    for name in fetch:
        if name not in made and name not in present:
            raise UsageError(f"the model has no tensor '{name}'", where=str(path), hint=_near(name, made))
        if name not in present:
            model.graph.output.add(name=name)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    if model.ByteSize() > _LARGEST_IN_MEMORY:
        raise UsageError("the model is too large for fetching inner tensors", where=str(path))
    return bytes(model.SerializeToString())


def _has(specs: Sequence[TensorSpec], known: Mapping[str, Any], path: Path, role: str) -> None:
    for spec in specs:
        if spec.inner_name not in known:
            raise UsageError(
                f"the model has no {role} '{spec.inner_name}'",
                where=str(path),
                hint=f"its {role}s: {', '.join(known)}",
            )


def _near(name: str, known: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(near)}?" if near else "see 'edgeconv inspect' for its tensors"


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name=value.name, dtype=_dtype(value.type), shape=shape)


def _dtype(text: str) -> str:
    """NumPy's name for ONNX Runtime's ``tensor(float)``; other types as they are."""
    found = re.fullmatch(r"tensor\((\w+)\)", text)
    name = found.group(1) if found else text
    return {"float": "float32", "double": "float64"}.get(name, name)


def _as_taken(array: Any, spec: TensorSpec, path: Path) -> Any:
    """Text as ONNX Runtime wants it, an object array of str; bytes have to be UTF-8. Others as they are."""
    if spec.dtype != "string":
        return array
    import numpy

    result = numpy.empty(array.shape, dtype=object)
    for index in numpy.ndindex(array.shape):
        item = array[index]
        try:
            result[index] = item.decode("utf-8") if isinstance(item, bytes) else str(item)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"input '{spec.name}' holds bytes that are no UTF-8 text, which ONNX strings have to be",
                where=str(path),
            ) from error
    return result


def _refusal(message: str, path: Path, what: str) -> Exception:
    """What ONNX Runtime said as an error of ours: node, op and domain picked out, and the way on."""
    text = " ".join(message.split())
    node = next((found.group(1) for p in NODE_PATTERNS if (found := re.search(p, text))), None)
    op = next((found.group(1) for p in OP_PATTERNS if (found := re.search(p, text))), None)
    where = f"{path}, node {node}" if node else str(path)
    lower = text.lower()
    if "unsupported model ir version" in lower:
        return ConversionError(
            "the file's IR version is newer than this ONNX Runtime takes",
            where=str(path),
            why=text[:300],
            hint="write it with a lower ir_version, or use a newer ONNX Runtime",
        )
    if "opset" in lower and (
        "under development" in lower or "only *guarantees*" in lower or "till opset" in lower
    ):
        return ConversionError(
            "the file's opset is newer than this ONNX Runtime takes",
            where=str(path),
            why=text[:300],
            hint="convert it again with --opset 17",
        )
    if any(
        sign in lower
        for sign in ("protobuf parsing failed", "invalid_protobuf", "failed to load model because")
    ):
        return InvalidModelError("the file is broken or cut short", where=str(path), why=text[:300])
    if "external" in lower and ("file" in lower or "data" in lower):
        return InvalidModelError(
            "the external data of the model is missing or cut short",
            where=str(path),
            why=text[:300],
            hint="copy the data file beside the model, under the name that the model says",
        )
    if "is not a registered function" in text or "No Op registered" in text or "NOT_IMPLEMENTED" in text:
        return ConversionError(
            f"{what}: it has no op {op}" if op else what,
            where=where,
            why=text[:500],
            hint="cut the part out with --inputs or --outputs, or use a build of ONNX Runtime that has it",
        )
    return ConversionError(f"{what}: op {op}" if op else what, where=where, why=text[:500])
