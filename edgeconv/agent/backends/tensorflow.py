"""SavedModels and frozen graphs in TensorFlow, where that is on the device.

Options: ``signature`` of a SavedModel; ``inputs`` and ``outputs`` of a frozen graph, lists of tensor names
(``input:0``), where they are not its placeholders and what nothing reads.
"""

from __future__ import annotations

import os
from typing import Any, Callable

from ..errors import AgentError
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
    threads_of,
)

UNTRUSTED_OPS = frozenset(
    [
        # Python that the model carries or names.
        "PyFunc", "PyFuncStateless", "EagerPyFunc",
        # Files by names that the model carries.
        "ReadFile", "WriteFile", "MatchingFiles", "Save", "SaveV2", "SaveSlices", "Restore", "RestoreV2",
        "RestoreSlice", "MergeV2Checkpoints", "WholeFileReader", "WholeFileReaderV2", "TextLineReader",
        "TextLineReaderV2", "TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2", "TFRecordDataset", "TextLineDataset", "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2", "SaveDataset", "SaveDatasetV2", "LoadDataset", "SnapshotDataset",
        "SnapshotDatasetV2", "CreateSummaryFileWriter", "WriteSummary", "WriteGraphSummary", "LoadModel",
        "ImmutableConst", "DebugIdentity", "DebugIdentityV2", "DumpTensor", "CacheDataset", "CacheDatasetV2",
        "LMDBReader", "LMDBDataset", "SqlDataset", "GenerateVocabRemapping", "LoadAndRemapMatrix",
        "TfRecordWriter", "DatasetToTFRecord",
    ]
)  # fmt: skip
"""Op types that run Python or touch files by names that the model carries; on the host as on a device."""
_LOADING = frozenset(
    ["RestoreV2", "SaveV2", "MergeV2Checkpoints", "Restore", "Save", "RestoreSlice", "SaveSlices"]
)
"""What a SavedModel has to restore its own variables with; no signature may reach it."""


class TensorFlowModel(Model):
    """A graph in a session of its own."""

    def __init__(
        self, session: Any, inputs: list[tuple[str, Any]], outputs: list[tuple[str, Any]], asked: str
    ) -> None:
        self._session, self._asked = session, asked
        self.inputs = [_described(key, tensor) for key, tensor in inputs]
        self.outputs = [_described(key, tensor) for key, tensor in outputs]
        self._fetches = [tensor for _, tensor in outputs]
        self._call = session.make_callable(self._fetches, [tensor for _, tensor in inputs])
        self._feeds = [tensor for _, tensor in inputs]

    def infer(self, arrays: list[Any]) -> list[Any]:
        return [_as_array(value) for value in self.prepare(arrays)()]

    def explain(self, error: Exception) -> AgentError:
        return _refusal(error, "TensorFlow cannot run the model")

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        import functools

        given = [fitting(tensor, array) for tensor, array in zip(self.inputs, arrays)]
        return functools.partial(self._call, *given)

    def placement(self, arrays: list[Any] | None = None) -> Placement | None:
        """Devices of the ops and their times, from a trace of one run; needs inputs."""
        if arrays is None:
            return None
        import tensorflow as tf

        feeds = dict(zip(self._feeds, [fitting(t, a) for t, a in zip(self.inputs, arrays)]))
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        trace = tf.compat.v1.RunMetadata()
        self._session.run(self._fetches, feeds, options=options, run_metadata=trace)
        ran: dict[str, int] = {}
        times: dict[str, int] = {}
        elsewhere = []
        for device in trace.step_stats.dev_stats:
            if "stream" in device.device or "memcpy" in device.device:
                continue
            by = "cuda" if "GPU" in device.device else "cpu"
            for node in device.node_stats:
                ran[by] = ran.get(by, 0) + 1
                times[by] = times.get(by, 0) + int(node.op_end_rel_micros - node.op_start_rel_micros)
                if by != self._asked:
                    elsewhere.append(str(node.timeline_label).split(" = ")[-1].split("(")[0])
        total = sum(times.values())
        return shares(self._asked, ran, elsewhere, times.get(self._asked, 0) / total if total else None)

    def close(self) -> None:
        self._session.close()


class TensorFlowBackend(Backend):
    """See the module."""

    name = "tensorflow"
    formats = ("saved_model", "frozen_graph")
    options = ("signature", "inputs", "outputs")

    def version(self) -> str | None:
        return installed_version(
            "tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-aarch64", "tf-nightly"
        )

    def load_library(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            import tensorflow  # noqa: F401
        except (ImportError, AttributeError, SystemError, OSError) as error:
            raise not_importable("tensorflow", error) from error

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        asked = str(options.get("accelerator") or "cpu")
        if asked not in ("cpu", "cuda"):
            no_accelerator(self.name, asked, "cpu and cuda")
        threads = threads_of(options)
        self.load_library()
        import tensorflow as tf

        if asked == "cuda" and not tf.config.list_physical_devices("GPU"):
            raise AgentError("unavailable", "TensorFlow sees no GPU here", "use --accelerator cpu")
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads,
            inter_op_parallelism_threads=1,
            device_count={} if asked == "cuda" else {"GPU": 0},
        )
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                if fmt == "frozen_graph":
                    inputs, outputs, signature = _frozen(tf, graph, path, options)
                else:
                    inputs, outputs, signature = _saved(tf, graph, session, path, options)
            model = TensorFlowModel(session, inputs, outputs, asked)
        except AgentError:
            session.close()
            raise
        except Exception as error:  # TensorFlow's own
            session.close()
            raise _refusal(error, "TensorFlow cannot load the model") from error
        model.signature = signature
        return model


BACKEND = TensorFlowBackend()


def _frozen(tf: Any, graph: Any, path: str, options: dict[str, Any]) -> Any:
    proto = tf.compat.v1.GraphDef()
    with open(path, "rb") as stream:
        proto.ParseFromString(stream.read())
    tf.import_graph_def(proto, name="")
    read = {tensor.name for op in graph.get_operations() for tensor in op.inputs}
    inputs = options.get("inputs") or [
        op.outputs[0].name for op in graph.get_operations() if op.type == "Placeholder"
    ]
    outputs = options.get("outputs") or [
        tensor.name
        for op in graph.get_operations()
        if op.type not in ("Placeholder", "Const", "NoOp")
        for tensor in op.outputs
        if tensor.name not in read
    ]
    _refuse_untrusted(proto, [str(name) for name in outputs], [])
    return _tensors(graph, inputs), _tensors(graph, outputs), None


def _saved(tf: Any, graph: Any, session: Any, path: str, options: dict[str, Any]) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    with open(os.path.join(path, "saved_model.pb"), "rb") as stream:
        proto.ParseFromString(stream.read())
    chosen = next((m for m in proto.meta_graphs if "serve" in m.meta_info_def.tags), None)
    if chosen is None:
        chosen = proto.meta_graphs[0]
    signatures = sorted(name for name in chosen.signature_def if not name.startswith("__"))
    asked = options.get("signature")
    if asked not in signatures:
        if asked is None and "serving_default" in signatures:
            asked = "serving_default"
        elif len(signatures) == 1:
            asked = signatures[0]
        else:
            raise AgentError(
                "usage",
                "the SavedModel has the signatures %s" % ", ".join(signatures),
                "say which is meant with --signature",
            )
    named = chosen.signature_def[asked].outputs
    _refuse_untrusted(chosen.graph_def, [named[key].name for key in named], _run_on_loading(chosen))
    meta = tf.compat.v1.saved_model.load(session, list(chosen.meta_info_def.tags), path)
    signature = meta.signature_def[asked]
    sides = []
    for side in (signature.inputs, signature.outputs):
        sides.append([(key, graph.get_tensor_by_name(side[key].name)) for key in sorted(side)])
    return sides[0], sides[1], str(asked)


def _tensors(graph: Any, names: Any) -> list[tuple[str, Any]]:
    found = []
    for name in names:
        text = str(name) if ":" in str(name) else "%s:0" % name
        try:
            found.append(("", graph.get_tensor_by_name(text)))
        except (KeyError, ValueError) as error:
            raise AgentError("usage", "the graph has no tensor %s" % text) from error
    return found


def _refuse_untrusted(graph_def: Any, outputs: list[str], loading: list[str]) -> None:
    """Refuse what runs Python or touches files, as far as it is run; as ``edgeconv.runtimes`` does.

    Args:
        graph_def: with its functions.
        outputs: tensors that are computed.
        loading: what is run when the model is loaded, which may restore its variables.
    """
    functions = {function.signature.name: function.node_def for function in graph_def.library.function}
    refused = [n for n in _reached(graph_def.node, functions, outputs) if n.op in UNTRUSTED_OPS]
    refused += [n for n in _reached(graph_def.node, functions, loading) if n.op in UNTRUSTED_OPS - _LOADING]
    for node in refused[:1]:
        raise AgentError(
            "refused",
            "the model contains the op %s ('%s'), which runs Python or touches files" % (node.op, node.name),
            "cut that part off",
        )


def _run_on_loading(meta: Any) -> list[str]:
    """Nodes that a SavedModel has run when it is loaded."""
    found = []
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta.collection_def:
            found += list(meta.collection_def[key].node_list.value)
    if "__saved_model_init_op" in meta.signature_def:
        found += [info.name for info in meta.signature_def["__saved_model_init_op"].outputs.values()]
    return found


def _reached(nodes: Any, functions: dict[str, Any], outputs: list[str]) -> list[Any]:
    """The nodes that ``outputs`` need, those in the functions that they call included."""
    by_name = {node.name: node for node in nodes}
    found: dict[str, Any] = {}
    called: dict[str, Any] = {}
    wanted = [_node_of(name) for name in outputs]
    while wanted:
        node = by_name.get(wanted.pop())
        if node is not None and node.name not in found:
            found[node.name] = node
            wanted += [_node_of(name) for name in node.input]
    open_nodes = list(found.values())
    while open_nodes:
        for name in _calls(open_nodes.pop()):
            if name in functions and name not in called:
                called[name] = functions[name]
                open_nodes += functions[name]
    return [*found.values(), *(node for inner in called.values() for node in inner)]


def _node_of(reference: str) -> str:
    return reference.lstrip("^").split(":")[0]


def _calls(node: Any) -> list[str]:
    """Functions that a node names: as an attribute, or as its own op."""
    names = [node.op]
    for value in node.attr.values():
        names.append(value.func.name)
        names += [function.name for function in value.list.func]
    return names


def _described(key: str, tensor: Any) -> Tensor:
    shape = None
    if tensor.shape.rank is not None:
        shape = [None if size is None else int(size) for size in tensor.shape.as_list()]
    dtype = tensor.dtype.base_dtype.name
    described: Tensor = {"name": tensor.name, "dtype": dtype, "shape": shape}
    if key:
        described["key"] = key
    return described


def _as_array(value: Any) -> Any:
    import numpy as np

    return np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def _refusal(error: Exception, what: str) -> AgentError:
    text = " ".join(str(error).split())
    kind = "memory" if is_of_memory(text) else "refused"
    return AgentError(kind, "%s: %s: %.400s" % (what, type(error).__name__, text))
