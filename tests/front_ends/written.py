"""What the tests of front ends share: a graph of TensorFlow, its front end written, and both run."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.formats._graph_front_ends import FrontEnd, find_front_end
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.front_ends.generate import FrontEndFile, write_front_end
from edgeconv.front_ends.source_graph import read_front_end

Values = dict[str, np.ndarray]


def text(*words: bytes) -> np.ndarray:
    """Strings as an object array."""
    array = np.empty(len(words), object)
    array[:] = words
    return array


def graph_of(
    build: Callable[..., Any], **inputs: tuple[str, Sequence[int | None] | None]
) -> tuple[Any, Contract]:
    """A GraphDef of TF1 whose placeholders are ``inputs`` (dtype and shape), and its contract.

    ``build`` takes the placeholders by name and returns its outputs, one or several.
    """
    graph = tf.Graph()
    with graph.as_default(), _old_control_flow():
        placeholders = {
            name: tf.compat.v1.placeholder(dtype, shape, name=name) for name, (dtype, shape) in inputs.items()
        }
        made = build(**placeholders)
        made = made if isinstance(made, (tuple, list)) else [made]
        outputs = [tf.identity(tensor, name=f"out{index}") for index, tensor in enumerate(made)]
    specs = tuple(
        TensorSpec(name, dtype, None if shape is None else tuple(shape), f"{name}:0")
        for name, (dtype, shape) in inputs.items()
    )
    results = tuple(TensorSpec(o.op.name, o.dtype.name, None, o.name) for o in outputs)
    return graph.as_graph_def(), Contract(specs, results)


@contextlib.contextmanager
def _old_control_flow() -> Iterator[None]:
    """Loops and branches of TensorFlow 1, which TensorFlow 2 writes as functions."""
    from tensorflow.python.ops import control_flow_util

    before = control_flow_util.ENABLE_CONTROL_FLOW_V2
    tf.compat.v1.disable_control_flow_v2()
    try:
        yield
    finally:
        if before:
            tf.compat.v1.enable_control_flow_v2()


def found(graph_def: Any, contract: Contract) -> FrontEnd:
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    return front_end


def both(
    folder: Path, graph_def: Any, contract: Contract, feeds: Sequence[Mapping[str, Any]]
) -> tuple[FrontEnd, FrontEndFile, list[Values], list[Values]]:
    """The front end, its file, and what TensorFlow and the file give at the cut."""
    path = folder / "model.pb"
    path.write_bytes(graph_def.SerializeToString())
    front_end = found(graph_def, contract)
    graph = read_front_end(path, "frozen_graph", contract, front_end.inputs, front_end.cut, {})
    file = write_front_end(graph.graph_def, front_end.inputs, front_end.cut, graph.tables, "model")
    function = loaded(folder, file)
    wanted = graph.run(front_end.inputs, front_end.cut, feeds)
    return front_end, file, wanted, [function(dict(feed)) for feed in feeds]


def loaded(folder: Path, file: FrontEndFile) -> Callable[[Mapping[str, Any]], Values]:
    """The function of a written file, imported from it."""
    code = folder / "model.front_end.py"
    code.write_text(file.text)
    if file.arrays:
        np.savez(code.with_suffix(".npz"), **file.arrays)
    spec = importlib.util.spec_from_file_location("written_front_end", code)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Mapping[str, Any]], Values] = module.front_end
    return function
