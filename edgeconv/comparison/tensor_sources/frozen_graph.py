"""The tensors inside a frozen TensorFlow graph: every one can be fetched, and every one can be fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from edgeconv.comparison.tensor_sources.base import Array, InnerTensor, SourceKind, TensorSource
from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats.base import Contract

_SOURCES = ("Placeholder", "PlaceholderWithDefault", "Const")
_NUMERIC = ("float16", "float32", "float64", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool")


class FrozenGraphSource:
    """A GraphDef in a session; see :class:`TensorSource`."""

    can_rerun = True

    def __init__(self, path: Path, contract: Contract) -> None:
        import tensorflow as tf

        self._tf = tf
        graph_def = _read(path)
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1)
        # Constant folding would be done anew for every set of fetches and feeds.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self.inputs: Mapping[str, str] = {s.name: _tensor_name(s.inner_name) for s in contract.inputs}
        self.outputs: Mapping[str, str] = {s.name: _tensor_name(s.inner_name) for s in contract.outputs}
        for name in (*self.inputs.values(), *self.outputs.values()):
            try:
                self._graph.get_tensor_by_name(name)
            except (KeyError, ValueError) as error:
                raise UsageError(
                    f"the graph has no tensor '{name}'", where=str(path), hint="see 'edgeconv inspect'"
                ) from error
        self.tensors: tuple[InnerTensor, ...] = tuple(self._inner(set(self.inputs.values())))

    def _inner(self, fed: set[str]) -> list[InnerTensor]:
        framed = _inside_loops(self._graph)
        needed = self._needed(fed)
        live = set(fed)
        found: list[InnerTensor] = []
        for op in _in_order(self._graph):
            if op.name in framed or op.name not in needed or op.type in _SOURCES:
                continue
            read = tuple(tensor.name for tensor in op.inputs if tensor.name in live)
            if not read:
                continue
            for tensor in op.outputs:
                if tensor.name in fed:
                    continue
                live.add(tensor.name)
                if tensor.dtype.base_dtype.name in _NUMERIC:
                    found.append(InnerTensor(tensor.name, op.name, op.type, read, (op.name,)))
        return found

    def _needed(self, fed: set[str]) -> set[str]:
        """Names of the ops that the outputs depend on: others may not even run."""
        stack = [self._graph.get_tensor_by_name(name).op for name in self.outputs.values()]
        seen: set[str] = set()
        while stack:
            op = stack.pop()
            if op.name in seen:
                continue
            seen.add(op.name)
            stack += [tensor.op for tensor in op.inputs if tensor.name not in fed]
            stack += list(op.control_inputs)
        return seen

    def values(self, names: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :meth:`TensorSource.values`. Branches that are not taken have no values."""
        feeds = self._feeds(inputs)
        try:
            found = self._session.run(list(names), feeds)
        except self._tf.errors.InvalidArgumentError:
            # A tensor on a dead branch fails the whole fetch: ask one by one then.
            return self._one_by_one(names, feeds)
        return dict(zip(names, found, strict=True))

    def _one_by_one(self, names: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name in names:
            try:
                found[name] = self._session.run(name, feeds)
            except self._tf.errors.InvalidArgumentError:
                continue
        return found

    def rerun(self, name: str, feeds: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array | None:
        """See :meth:`TensorSource.rerun`."""
        import numpy as np

        fed = dict(self._feeds(inputs))
        for inner, value in feeds.items():
            tensor = self._graph.get_tensor_by_name(inner)
            fed[inner] = np.asarray(value).astype(tensor.dtype.as_numpy_dtype)
        fed.pop(name, None)
        try:
            return np.asarray(self._session.run(name, fed))
        except (self._tf.errors.OpError, ValueError, TypeError):
            return None

    def _feeds(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {self.inputs[name]: value for name, value in inputs.items() if name in self.inputs}

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _read(path: Path) -> Any:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    graph_def = graph_pb2.GraphDef()
    data = path.read_bytes()
    try:
        graph_def.ParseFromString(data)
    except DecodeError:
        graph_def = graph_pb2.GraphDef()
        try:
            text_format.Parse(data.decode(), graph_def)
        except (UnicodeDecodeError, text_format.ParseError) as error:
            raise InvalidModelError(
                "neither a binary nor a text GraphDef", where=str(path), hint="see 'edgeconv inspect'"
            ) from error
    return graph_def


def _in_order(graph: Any) -> list[Any]:
    """Ops so that each comes after what it reads; edges that close a loop are ignored."""
    ordered: list[Any] = []
    state: dict[str, int] = {}
    for root in graph.get_operations():
        stack = [(root, iter([t.op for t in root.inputs]))]
        if root.name in state:
            continue
        state[root.name] = 1
        while stack:
            op, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                ordered.append(op)
                stack.pop()
            elif following.name not in state:
                state[following.name] = 1
                stack.append((following, iter([t.op for t in following.inputs])))
    return ordered


def _inside_loops(graph: Any) -> set[str]:
    """Names of ops within the frames of while-loops of TF 1: their tensors exist once a round."""
    inside: set[str] = set()
    stack = [op for op in graph.get_operations() if op.type in ("Enter", "RefEnter")]
    while stack:
        op = stack.pop()
        if op.name in inside or op.type in ("Exit", "RefExit"):
            continue
        inside.add(op.name)
        stack += [reader for tensor in op.outputs for reader in tensor.consumers()]
    return inside


def _open(path: Path, contract: Contract) -> TensorSource:
    return FrozenGraphSource(path, contract)


SOURCE = SourceKind(("frozen_graph",), _open)
