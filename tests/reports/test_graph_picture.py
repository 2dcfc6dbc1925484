"""Pictures of graphs: well-formed whatever the names are, with what matters in them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from surgery_models import network

from edgeconv.errors import UsageError
from edgeconv.formats.nodes import NodeInfo, nodes_in
from edgeconv.reports.graph_picture import panel_of, svg

SVG = "{http://www.w3.org/2000/svg}"


def boxes(document: str) -> dict[str, tuple[float, float, float, float]]:
    """Box of each node: left, top, right, bottom."""
    found = {}
    for group in ElementTree.fromstring(document.encode()).iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and box is not None and title.text is not None:
            x, y, w, h = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
            found[title.text.split("\n")[0]] = (x, y, x + w, y + h)
    return found


def drawn(nodes: list[NodeInfo], around: str | None = None, radius: int = 2) -> str:
    return svg([panel_of(nodes, "graph", {}, around, radius)])


def test_every_node_stands_below_what_it_reads_and_boxes_do_not_overlap(tmp_path: Path) -> None:
    nodes = list(nodes_in(network(tmp_path) / "net.pb"))
    found = boxes(drawn(nodes))
    assert {"image", "conv1/Conv2D", "scores"} <= set(found)
    assert "conv1/kernel" not in found  # weights stand in the box that reads them
    for node in nodes:
        for reference in node.inputs:
            if node.name in found and reference in found:
                assert found[reference][3] < found[node.name][1]
    placed = list(found.values())
    for number, (left, top, right, bottom) in enumerate(placed):
        for other in placed[number + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_weights_and_shapes_are_told(tmp_path: Path) -> None:
    document = drawn(list(nodes_in(network(tmp_path) / "net.pb")), "conv2/Conv2D", 1)
    assert "3×3×8×6" in document
    assert "?×4×4×6" in document
    assert set(boxes(document)) == {"relu1", "conv2/Conv2D", "conv2/BiasAdd"}


def test_a_finding_is_highlighted_and_its_message_is_in_the_tooltip() -> None:
    nodes = [
        NodeInfo("x", "Placeholder", (), "float32", None),
        NodeInfo("drop", "Dropout", ("x",), "float32", None),
    ]
    document = svg([panel_of(nodes, "m", {"drop": "dropout is live"}, "drop", 1)])
    assert "dropout is live" in document
    assert document.count("#dc6803") == 1


def test_a_loop_is_drawn_with_its_way_back_going_up() -> None:
    nodes = [
        NodeInfo("x", "Placeholder", (), "float32", None),
        NodeInfo("merge", "Merge", ("x", "next"), "float32", None),
        NodeInfo("body", "Add", ("merge",), "float32", None),
        NodeInfo("next", "NextIteration", ("body",), "float32", None),
    ]
    found = boxes(drawn(nodes))
    assert found["x"][1] < found["merge"][1] < found["body"][1] < found["next"][1]


def test_too_large_a_picture_is_refused_with_the_way_out() -> None:
    nodes = [NodeInfo("x", "Placeholder", (), "float32", None)]
    nodes += [NodeInfo(f"n{i}", "Relu", ("x",), "float32", None) for i in range(300)]
    with pytest.raises(UsageError, match="301 nodes") as error:
        drawn(nodes)
    assert "--around" in (error.value.hint or "")


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=6, unique=True), st.text(max_size=20))
def test_any_names_give_well_formed_xml_without_markup_of_their_own(names: list[str], op: str) -> None:
    chain = [
        NodeInfo(n, op, (names[i - 1],) if i else ("elsewhere",), "float32", None)
        for i, n in enumerate(names)
    ]
    document = drawn(chain)
    ElementTree.fromstring(document.encode())
    assert not re.search(r"<(script|image|a|foreignObject)\b", document)
