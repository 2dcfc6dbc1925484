"""Parts of graphs: what names and patterns mean, what a cut needs, and the refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from surgery_models import network, recommender

from edgeconv.conversions._graph_parts import extract, resolve, split
from edgeconv.errors import UsageError
from edgeconv.formats.base import to_json
from edgeconv.formats.frozen_graph import FORMAT, read_graph_def


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recommender(network(tmp_path_factory.mktemp("parts")))


def payload(path: Path, **more: Any) -> dict[str, Any]:
    contract = to_json(FORMAT.contract(path, None, ["score" if "net" not in path.name else "scores"]))
    return {"path": str(path), "contract": contract, "inputs": [], "outputs": [], "trust": False, **more}


def ends(told: dict[str, Any]) -> tuple[list[str], list[str]]:
    contract = told.get("contract", told)
    return [s["name"] for s in contract["inputs"]], [s["name"] for s in contract["outputs"]]


def test_a_pattern_means_where_its_region_is_entered_and_left(models: Path) -> None:
    told = resolve(payload(models / "net.pb", inputs=["bn2/*"], outputs=["bn2/*"]))
    assert ends(told) == (["conv2/BiasAdd"], ["bn2/batchnorm/add_1"])


def test_the_name_of_a_scope_means_what_leaves_it_and_is_what_the_end_is_called(models: Path) -> None:
    told = resolve(payload(models / "recommender.pb", outputs=["item_tower"]))
    assert ends(told) == (["item"], ["item_tower"])
    assert told["unneeded"] == ["user_id:0"]


def test_outputs_that_need_more_than_the_inputs_are_refused_with_the_way(models: Path) -> None:
    with pytest.raises(UsageError, match=r"also need the input 'image'.*image → centred → .*relu1"):
        resolve(payload(models / "net.pb", inputs=["features"], outputs=["relu1"]))


def test_an_unknown_tensor_is_refused_with_the_nearest(models: Path) -> None:
    with pytest.raises(UsageError, match=r"'featurs'.*features"):
        resolve(payload(models / "net.pb", outputs=["featurs"]))


def test_an_extracted_part_keeps_the_names_of_its_ends(models: Path, tmp_path: Path) -> None:
    told = resolve(payload(models / "net.pb", inputs=["relu1"], outputs=["features"]))
    asked = {"path": str(models / "net.pb"), "contract": told["contract"]}
    made = extract({**asked, "destination": str(tmp_path / "part.pb")})
    nodes = {node.name: node for node in read_graph_def(tmp_path / "part.pb").node}
    assert nodes["relu1"].op == "Placeholder"
    assert [d.size for d in nodes["relu1"].attr["shape"].shape.dim] == [-1, 6, 6, 8]
    assert "conv1/kernel" not in nodes
    assert made["contract"]["outputs"][0]["tensor"] == "features:0"


def test_a_cut_gives_each_part_the_inputs_that_it_needs(models: Path) -> None:
    told = split(payload(models / "recommender.pb", at=["item_tower/embedding"]))
    assert ends(told["head"]) == (["item"], ["item_tower/embedding"])
    assert ends(told["tail"]) == (["item_tower/embedding", "user_id"], ["score"])


def test_a_cut_with_a_way_round_it_is_refused_with_that_way(models: Path) -> None:
    with pytest.raises(UsageError, match=r"'item' also goes round it.*item → popularity") as error:
        split(payload(models / "goes_round.pb", at=["item_tower/embedding"]))
    assert "--at item_tower/embedding,popularity" in (error.value.hint or "")
    told = split(payload(models / "goes_round.pb", at=["item_tower/embedding", "popularity"]))
    assert ends(told["tail"])[0] == ["item_tower/embedding", "popularity", "user_id"]


@pytest.mark.parametrize(("at", "why"), [("score", "is an end"), ("relu1", "no output of the model needs")])
def test_a_cut_that_leaves_a_part_empty_is_refused(models: Path, at: str, why: str) -> None:
    if at == "relu1":
        path, cut = models / "net.pb", ["features", "relu1"]
    else:
        path, cut = models / "recommender.pb", [at]
    with pytest.raises(UsageError, match=why):
        split(payload(path, at=cut))


def test_an_op_that_touches_files_is_refused_without_trust(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        name = tf.compat.v1.placeholder(tf.string, [], "name")
        read = tf.io.read_file(name, name="read")
        tf.strings.length(read, name="score")
    (tmp_path / "reads.pb").write_bytes(graph.as_graph_def().SerializeToString())
    asked = payload(tmp_path / "reads.pb", outputs=["score"])
    with pytest.raises(UsageError, match="ReadFile"):
        resolve(asked)
    assert ends(resolve({**asked, "trust": True}))[1] == ["score"]


def test_a_node_that_waits_for_an_input_does_not_double_it(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        row = tf.compat.v1.placeholder(tf.int32, [None], "row")
        with tf.control_dependencies([row]):
            axis = tf.constant(0, name="axis")
        taken = tf.gather(tf.ones([4, 2]), row, axis=axis, name="taken")
        tf.nn.relu(taken, name="score")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    told = resolve(payload(tmp_path / "g.pb", outputs=["taken"]))
    made = extract(
        {"path": str(tmp_path / "g.pb"), "contract": told["contract"], "destination": str(tmp_path / "p.pb")}
    )
    assert made["contract"]["inputs"][0]["tensor"] == "row:0"
    assert [n.name for n in read_graph_def(tmp_path / "p.pb").node if n.op == "Placeholder"] == ["row"]
