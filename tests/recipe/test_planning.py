"""Planning: the cheapest proven way first, others behind it, every shared step once, never a circle."""

from __future__ import annotations

from itertools import product

import pytest

from edgeconv.conversions.base import PRECISIONS
from edgeconv.conversions.registry import conversions
from edgeconv.errors import UsageError
from edgeconv.execution.plan import SOURCE, Node
from edgeconv.recipe.planning import default_targets, plan_nodes
from edgeconv.recipe.request import Target

SOURCES = ["checkpoint", "keras", "saved_model", "frozen_graph", "tflite", "onnx"]


def plan(source: str, *targets: str, precision: str = "fp32") -> dict[str, Node]:
    wanted = tuple(Target(*target.split(".")) for target in targets)
    return plan_nodes((source, precision), wanted, {}, {})


def way(nodes: dict[str, Node], identifier: str) -> list[str]:
    """Conversions along the preferred way, from the source."""
    names: list[str] = []
    while identifier != SOURCE:
        attempt = nodes[identifier].attempts[0]
        names.insert(0, attempt.conversion)
        identifier = attempt.source
    return names


def test_a_keras_file_goes_through_saved_model_and_frozen_graph() -> None:
    assert way(plan("keras", "tflite.fp32"), "tflite.fp32") == [
        "saved_model_from_keras",
        "frozen_graph_from_saved_model",
        "tflite_from_frozen_graph",
    ]


def test_quantization_starts_from_the_fp32_flatbuffer_and_falls_back_to_tensorflows_converter() -> None:
    nodes = plan("saved_model", "tflite.int8")
    assert way(nodes, "tflite.int8")[-1] == "tflite_from_tflite"
    assert [a.conversion for a in nodes["tflite.int8"].attempts][1:] == [
        "tflite_from_frozen_graph",
        "tflite_from_saved_model",
    ]
    assert nodes["tflite.int8"].attempts[0].calibrated


def test_everything_of_a_graph_that_is_given_starts_from_the_inference_graph_made_of_it() -> None:
    nodes = plan("frozen_graph", "tflite.fp32", "onnx.fp32", "frozen_graph.fp32")
    again = "frozen_graph_from_frozen_graph"
    assert way(nodes, "frozen_graph.fp32") == [again]
    assert way(nodes, "tflite.fp32") == [again, "tflite_from_frozen_graph"]
    from_source = [a.conversion for node in nodes.values() for a in node.attempts if a.source == SOURCE]
    assert from_source == [again]
    assert "frozen_graph.fp32" in [t.id for t in default_targets(("frozen_graph", "fp32"))]


def test_a_graph_that_was_made_is_not_made_again() -> None:
    for source in ("saved_model", "keras"):
        nodes = plan(source, "tflite.fp32", "onnx.fp32")
        assert not any(
            a.conversion == "frozen_graph_from_frozen_graph" for node in nodes.values() for a in node.attempts
        )


def test_shared_steps_are_one_node() -> None:
    nodes = plan("saved_model", "tflite.int8", "tflite.fp16", "onnx.int8", "ort.fp32")
    made = "frozen_graph.fp32 tflite.fp32 tflite.int8 tflite.fp16 onnx.fp32 onnx.int8 ort.fp32"
    assert sorted(nodes) == sorted(["source", *made.split()])


def test_what_much_hangs_on_starts_first() -> None:
    nodes = plan("saved_model", "tflite.int8", "tflite.fp16", "onnx.fp32")
    assert nodes["tflite.fp32"].priority > nodes["onnx.fp32"].priority
    assert nodes["tflite.int8"].priority > nodes["tflite.fp16"].priority


@pytest.mark.parametrize(
    ("source", "target"), list(product(SOURCES, ["tflite", "onnx", "ort", "frozen_graph"]))
)
def test_no_node_ever_waits_for_itself(source: str, target: str) -> None:
    known = {(c.target, p) for c in conversions() for p in c.precisions}
    for precision in PRECISIONS:
        if (target, precision) not in known or source == target:
            continue
        try:
            nodes = plan(source, f"{target}.{precision}")
        except UsageError:
            continue

        def visit(identifier: str, above: frozenset[str], nodes: dict[str, Node] = nodes) -> None:
            assert identifier not in above, f"circle through {identifier}"
            for attempt in nodes[identifier].attempts:
                visit(attempt.source, above | {identifier}, nodes)

        visit(f"{target}.{precision}", frozenset())


def test_an_arrow_gets_the_options_it_declares_and_no_others() -> None:
    options = {"model_builder": "model.py:build", "trust": True, "nonsense": 1}
    nodes = plan_nodes(("checkpoint", "fp32"), (Target("saved_model", "fp32"),), options, {})
    given = nodes["saved_model.fp32"].attempts[0].options
    assert given["model_builder"] == "model.py:build"
    assert "nonsense" not in given


def test_where_there_is_no_way_what_can_be_made_is_said() -> None:
    with pytest.raises(UsageError, match=r"no way from tflite.int8 to tflite.fp16"):
        plan("tflite", "tflite.fp16", precision="int8")
    with pytest.raises(UsageError, match=r"no way from onnx.fp32 to tflite.fp32") as caught:
        plan("onnx", "tflite.fp32")
    assert "ort.fp32" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="already"):
        plan("onnx", "onnx.fp32")


def test_the_default_is_what_can_be_reached() -> None:
    assert [t.id for t in default_targets(("saved_model", "fp32"))] == [
        "frozen_graph.fp32",
        "tflite.fp32",
        "onnx.fp32",
    ]
    assert "frozen_graph.fp32" not in [t.id for t in default_targets(("tflite", "fp32"))]


def test_where_nothing_can_be_made_the_model_it_came_from_is_asked_for() -> None:
    with pytest.raises(UsageError) as caught:
        plan("tflite", "onnx.fp32", precision="int8")
    assert "convert the float model it came from" in (caught.value.hint or "")
