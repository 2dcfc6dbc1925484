"""The tensors inside an ONNX file: run with all of them as outputs, or cut to the part between some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from edgeconv.comparison.tensor_sources.base import Array, InnerTensor, SourceKind, TensorSource
from edgeconv.errors import ConversionError
from edgeconv.formats.base import Contract


class OnnxSource:
    """An ONNX model in ONNX Runtime, its optimisations off; see :class:`TensorSource`."""

    can_rerun = True

    def __init__(self, path: Path, contract: Contract) -> None:
        import onnx

        self._path = path
        self._model = onnx.load(str(path))
        graph = self._model.graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._graph_inputs = {v.name: v for v in graph.input if v.name not in self._initializers}
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self.inputs: Mapping[str, str] = {spec.name: spec.inner_name for spec in contract.inputs}
        self.outputs: Mapping[str, str] = {spec.name: spec.inner_name for spec in contract.outputs}
        live = set(self._graph_inputs)
        found: list[InnerTensor] = []
        for node in graph.node:
            read = tuple(name for name in _reads(node) if name in live)
            if not read:
                continue
            for name in node.output:
                if name:
                    live.add(name)
                    op = node.name or name
                    found.append(InnerTensor(name, op, node.op_type, read, (node.name,) if node.name else ()))
        self.tensors: tuple[InnerTensor, ...] = tuple(found)
        self._sessions: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}

    def values(self, names: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :meth:`TensorSource.values`."""
        feeds = {self.inputs[name]: value for name, value in inputs.items() if name in self.inputs}
        wanted = [name for name in names if name not in self._graph_inputs]
        found: dict[str, Array] = {name: feeds[name] for name in names if name in feeds}
        run = self._session(tuple(self._graph_inputs), tuple(wanted), feeds)
        used = {value.name for value in run.get_inputs()}
        outputs = run.run(wanted, {name: value for name, value in feeds.items() if name in used})
        found.update(zip(wanted, outputs, strict=True))
        return found

    def rerun(self, name: str, feeds: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array | None:
        """See :meth:`TensorSource.rerun`: the part of the graph between ``feeds`` and ``name`` is run."""
        import numpy as np

        given = {self.inputs[logical]: value for logical, value in inputs.items() if logical in self.inputs}
        given.update({inner: np.asarray(value) for inner, value in feeds.items() if inner != name})
        try:
            run = self._session(tuple(sorted(given)), (name,), given)
            used = {value.name: _numpy_type(value.type) for value in run.get_inputs()}
            ready = {n: v.astype(used[n]) for n, v in given.items() if n in used}
            return np.asarray(run.run([name], ready)[0])
        except Exception:
            # Whatever ONNX Runtime says of a part, it says nothing about the whole: there is no answer then.
            return None

    def _session(self, fed: tuple[str, ...], wanted: tuple[str, ...], feeds: Mapping[str, Array]) -> Any:
        key = (fed, wanted)
        if key not in self._sessions:
            if len(self._sessions) > 8:
                self._sessions.clear()
            self._sessions[key] = self._build(fed, wanted, feeds)
        return self._sessions[key]

    def _build(self, fed: tuple[str, ...], wanted: tuple[str, ...], feeds: Mapping[str, Array]) -> Any:
        import onnxruntime
        from onnx import ModelProto, helper

        nodes, read = self._between(set(fed), wanted)
        part = ModelProto()
        part.CopyFrom(_without_graph(self._model))
        part.graph.name = self._model.graph.name or "part"
        part.graph.node.extend(nodes)
        part.graph.initializer.extend(self._initializers[n] for n in sorted(read) if n in self._initializers)
        for name in fed:
            if name not in read and name not in self._graph_inputs:
                continue
            known = self._graph_inputs.get(name)
            if known is not None:
                part.graph.input.append(known)
            else:
                code = helper.np_dtype_to_tensor_dtype(self._stored(name, feeds[name]))
                part.graph.input.append(helper.make_tensor_value_info(name, code, [None] * feeds[name].ndim))
        part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(
                part.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ConversionError(
                "ONNX Runtime refuses the model when its inner tensors are asked for",
                where=str(self._path),
                why=str(error),
            ) from error

    def _stored(self, name: str, value: Array) -> Any:
        for info in self._model.graph.value_info:
            if info.name == name and info.type.tensor_type.elem_type:
                from onnx import helper

                return helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        return value.dtype

    def _between(self, fed: set[str], wanted: Sequence[str]) -> tuple[list[Any], set[str]]:
        """Nodes that ``wanted`` needs when ``fed`` is given, in order, and the names that they read."""
        stack, needed, read = list(wanted), set(), set()
        while stack:
            name = stack.pop()
            node = self._producers.get(name)
            if node is None or id(node) in needed or (name in fed):
                continue
            needed.add(id(node))
            names = _reads(node)
            read.update(names)
            stack += names
        nodes = [node for node in self._model.graph.node if id(node) in needed]
        return nodes, read

    def close(self) -> None:
        """Drop the sessions."""
        self._sessions.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _reads(node: Any) -> list[str]:
    """Names that a node reads, those that its subgraphs take from outside among them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            inside = {name for inner in graph.node for name in inner.output}
            inside |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            names += [name for inner in graph.node for name in _reads(inner) if name not in inside]
            names += [value.name for value in graph.output if value.name not in inside]
    return names


def _without_graph(model: Any) -> Any:
    from onnx import ModelProto

    bare = ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    return bare


def _numpy_type(text: str) -> Any:
    import numpy as np

    inner = text.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))


def _open(path: Path, contract: Contract) -> TensorSource:
    return OnnxSource(path, contract)


SOURCE = SourceKind(("onnx",), _open)
