"""What the TensorFlow runtimes share: checking feeds, naming ops in TensorFlow's errors, quiet sessions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self

from edgeconv.agent.backends.tensorflow import UNTRUSTED_OPS
from edgeconv.errors import ConversionError, EdgeconvError, UntrustedModelError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes.base import Session
from edgeconv.runtimes.binding import checked_inputs

_CHANNELS_FIRST = (b"NCHW", b"NCDHW")
_NODE_IN_ERROR = re.compile(r"\{\{(?:function_node|node) ([^}]+)\}\}")


def refuse_untrusted(nodes: Iterable[Any], path: str, options: Mapping[str, Any]) -> None:
    """Refuse NodeDefs that run Python or touch files.

    Args:
        nodes: NodeDefs to look at.
        path: of the model, for the error.
        options: the user's options.

    Raises:
        UntrustedModelError: there is one and ``options`` do not say ``trust``; names op and node.
    """
    if options.get("trust"):
        return
    for node in nodes:
        if node.op in UNTRUSTED_OPS:
            raise UntrustedModelError(
                f"the model contains the op {node.op} ('{node.name}'), which runs Python or touches files",
                where=path,
                why="a model is data from elsewhere until you say that you trust it",
                hint="add --trust if you know who made it, or cut that part off with --inputs TENSOR",
            )


def as_array(value: Any) -> Any:
    """A result as ``numpy.ndarray``; a single string, which TensorFlow gives bare, as one of rank 0."""
    import numpy

    return numpy.asarray(value, dtype=object) if isinstance(value, bytes) else numpy.asarray(value)


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """``[?,224,224,3]``, or ``unknown``."""
    if shape is None:
        return "unknown"
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"


def dtype_name(dtype: Any) -> str:
    """NumPy's name of a TensorFlow dtype (or its enum); reference dtypes count as what they refer to."""
    import tensorflow as tf

    base = tf.as_dtype(dtype).base_dtype
    return str(base.name)


def shape_of(shape: Any) -> tuple[int | None, ...] | None:
    """A ``TensorShape`` or ``TensorShapeProto`` as a plain tuple."""
    if hasattr(shape, "unknown_rank"):
        if shape.unknown_rank:
            return None
        return tuple(None if dim.size < 0 else int(dim.size) for dim in shape.dim)
    if shape.rank is None:
        return None
    return tuple(None if size is None else int(size) for size in shape.as_list())


def as_conversion_error(error: Exception, what: str, path: str, hint: str | None = None) -> EdgeconvError:
    """TensorFlow's exception as ours: the op by name where the text has one, and the first lines of why."""
    if isinstance(error, EdgeconvError):
        return error
    text = str(getattr(error, "message", None) or error)
    nodes = _NODE_IN_ERROR.findall(text)
    op = getattr(getattr(error, "op", None), "name", None) or (nodes[-1] if nodes else None)
    first = " ".join(_NODE_IN_ERROR.sub("", text).split())[:400]
    return ConversionError(
        what + (f" at '{op}'" if op else ""), where=path, why=f"{type(error).__name__}: {first}", hint=hint
    )


def session_config(threads: int, nodes: Iterable[Any] = ()) -> Any:
    """ConfigProto of a session: ``threads`` intra-op threads, one inter-op thread, CPU, no rewriting.

    Without rewriting a session runs the graph as it is written, and folding does not hold several copies
    of the weights (ResNet50 frozen: 2.1 GB and 4.6 s to the first result with it).

    Where ``nodes`` (NodeDefs) have their channels first, as graphs trained on GPUs often do, the one
    rewrite that stays is that of layouts: TensorFlow's CPU kernels want the channels last.
    """
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=1,
        device_count={"GPU": 0},
        allow_soft_placement=True,
    )
    config.graph_options.optimizer_options.opt_level = -1  # L0: no folding in the executor either
    rewriting = config.graph_options.rewrite_options
    if not any(node.attr["data_format"].s in _CHANNELS_FIRST for node in nodes if "data_format" in node.attr):
        rewriting.disable_meta_optimizer = True
        return config
    for name, member in rewriting.DESCRIPTOR.fields_by_name.items():
        if member.enum_type is not None and member.enum_type.name == "Toggle":
            setattr(rewriting, name, rewriting.OFF)
    rewriting.memory_optimization = rewriting.NO_MEM_OPT
    rewriting.function_optimization = rewriting.ON  # what is called is inlined, and so reached
    rewriting.layout_optimizer = rewriting.ON
    rewriting.cpu_layout_conversion = rewriting.NCHW_TO_NHWC
    rewriting.min_graph_nodes = -1  # also graphs of a few nodes
    return config


def session_config_of_layouts(graph_def: Any) -> Any:
    """The ConfigProto under which a graph with channels first runs on a CPU; ``None`` where it has none."""
    nodes = [
        *graph_def.node,
        *(node for function in graph_def.library.function for node in function.node_def),
    ]
    first = any(node.attr["data_format"].s in _CHANNELS_FIRST for node in nodes if "data_format" in node.attr)
    return session_config(1, nodes) if first else None


def bound(graph: Any, contract: Contract) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of ``contract`` with the shapes that ``graph`` knows where the contract has none.

    Raises:
        KeyError: the graph has no such tensor.
    """

    def completed(spec: TensorSpec) -> TensorSpec:
        shape = shape_of(graph.get_tensor_by_name(tensor_name(spec)).shape)
        return replace(spec, shape=shape) if spec.shape is None else spec

    return tuple(map(completed, contract.inputs)), tuple(map(completed, contract.outputs))


class GraphSession(Session):
    """A ``tf.compat.v1.Session`` as a runtime's session; see :class:`edgeconv.runtimes.base.Session`."""

    def __init__(
        self, session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], path: str
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._session = session
        self._path = path
        self._run: Any = None
        # Of several inputs that are one tensor of the graph the first one counts.
        self._fed = list({tensor_name(spec): spec for spec in reversed(inputs)}.values())[::-1]

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`edgeconv.runtimes.base.Session.infer`."""
        import tensorflow as tf

        call = self._call(inputs)
        try:
            values = call()
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise as_conversion_error(error, "TensorFlow could not run the model", self._path) from error
        return {spec.name: as_array(value) for spec, value in zip(self.outputs, values, strict=True)}

    def prepare(self, inputs: Mapping[str, Any]) -> Callable[[], object]:
        """See :meth:`edgeconv.runtimes.base.Session.prepare`."""
        return self._call(inputs)

    def close(self) -> None:
        """See :meth:`edgeconv.runtimes.base.Session.close`."""
        if self._session is not None:
            self._session.close()
        self._session = self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _call(self, inputs: Mapping[str, Any]) -> Callable[[], Any]:
        feeds = checked_inputs(inputs, self.inputs, self._path)
        if self._session is None:
            raise UsageError("this session is closed", where=self._path)
        if self._run is None:
            self._run = self._session.make_callable(
                [tensor_name(spec) for spec in self.outputs],
                feed_list=[tensor_name(spec) for spec in self._fed],
            )
        return partial(self._run, *[feeds[spec.name] for spec in self._fed])


def tensor_name(spec: TensorSpec) -> str:
    """``node:port`` of a spec whose ``tensor`` may be a bare node name."""
    name = spec.inner_name
    return name if re.search(r":\d+$", name) else f"{name}:0"
