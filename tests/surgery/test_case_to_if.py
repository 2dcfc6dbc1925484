"""A choice by number is said as choices between two, and gives the same for every number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.surgery import graph_case_to_if
from edgeconv.surgery.graph import Graph, full

NUMBERS = (-3, 0, 1, 2, 3, 9)
"""Below, each branch, and beyond: TensorFlow takes the last branch for what is none."""


def traced(function: Any) -> Any:
    """The GraphDef of a function of x (two numbers) and i."""
    import tensorflow as tf

    specs = [tf.TensorSpec([2], tf.float32, name="x"), tf.TensorSpec([], tf.int32, name="i")]
    return tf.function(function, input_signature=specs).get_concrete_function().graph.as_graph_def()


def run(graph_def: Any, output: str, number: int) -> Any:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run(output, {"x:0": np.asarray([1, 2], "float32"), "i:0": number})


def ops(graph_def: Any) -> set[str]:
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    return {node.op for node in nodes}


def check(graph_def: Any, output: str) -> None:
    expected = [run(graph_def, output, number) for number in NUMBERS]
    graph = Graph(graph_def, outputs=[output], inputs=["x", "i"])
    changes = graph_case_to_if.rewrite(graph)
    assert len(changes) == 1
    assert not {"Case", "StatelessCase"} & ops(graph.graph_def)
    found = [run(graph.graph_def, full(graph.outputs[0]), number) for number in NUMBERS]
    np.testing.assert_array_equal(found, expected)
    assert graph_case_to_if.rewrite(graph) == []


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_number_takes_its_branch(count: int) -> None:
    import tensorflow as tf

    def choose(x: Any, i: Any) -> Any:
        # Bound now: they are called when the choice is traced.
        return tf.switch_case(i, [lambda k=k: x * (10.0**k) + k for k in range(count)])

    graph_def = traced(choose)
    check(graph_def, _output(graph_def))


def test_a_choice_inside_of_a_loop_and_inside_of_a_branch() -> None:
    import tensorflow as tf

    def choose(x: Any, i: Any) -> Any:
        def inner() -> Any:
            return tf.switch_case(i - 1, [lambda: x + 1.0, lambda: x + 2.0, lambda: x - 4.0])

        def step(n: Any, y: Any) -> Any:
            return n + 1, tf.switch_case(i + n, [lambda: y * 2.0, inner, lambda: y + 5.0, lambda: -y])

        return tf.while_loop(lambda n, y: n < 3, step, [0, x])[1]

    graph_def = traced(choose)
    assert "StatelessCase" not in {node.op for node in graph_def.node}
    check(graph_def, _output(graph_def))


def test_a_choice_with_state_stays_one_with_state() -> None:
    import tensorflow as tf

    def choose(x: Any, i: Any) -> Any:
        def noisy() -> Any:
            with tf.control_dependencies([tf.raw_ops.Print(input=x, data=[x], first_n=0)]):
                return x * 3.0

        return tf.switch_case(i, [noisy, lambda: x, lambda: -x])

    graph_def = traced(choose)
    assert "Case" in ops(graph_def)
    check(graph_def, _output(graph_def))
    assert "If" in ops(graph_def)


def _output(graph_def: Any) -> str:
    """The last node that hands something on and that nobody reads."""
    read = {name.lstrip("^").split(":")[0] for node in graph_def.node for name in node.input}
    (name,) = [n.name for n in graph_def.node if n.op == "Identity" and n.name not in read]
    return f"{name}:0"
