"""A frozen graph with variables again: which, under which names, and what a training step moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from surgery_models import network

from edgeconv.comparison.probes import make_probes, save_probes
from edgeconv.conversions._variables import matching, training_step, with_variables
from edgeconv.errors import UsageError
from edgeconv.formats.base import contract_from_json, to_json
from edgeconv.formats.frozen_graph import FORMAT


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("net")) / "net.pb"


def made(net: Path, folder: Path, **more: Any) -> dict[str, Any]:
    contract = to_json(FORMAT.contract(net, None, None))
    payload = {"path": str(net), "contract": contract, "destination": str(folder), "trainable": None}
    return with_variables({**payload, "others": "variable", "flag": "--variables", **more})


def step(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    contract = contract_from_json(told["contract"])
    assert contract is not None
    probes = folder.with_name(f"{folder.name}-probes.npz")
    save_probes(probes, make_probes(contract))
    return training_step({"path": str(folder), "contract": told["contract"], "probes": str(probes)})


def test_a_thawed_model_loads_with_its_variables_and_gives_what_the_graph_gave(
    net: Path, tmp_path: Path
) -> None:
    import tensorflow as tf

    made(net, tmp_path / "thawed", checkpoint=True)
    loaded = tf.saved_model.load(str(tmp_path / "thawed"))
    assert {v.name for v in loaded.non_trainable_variables} == {
        f"{scope}/moving_{what}:0" for scope in ("bn1", "bn2") for what in ("mean", "variance")
    }
    image = np.random.default_rng(0).random((3, 8, 8, 3), "f")
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(net.read_bytes()), name="")
        with tf.compat.v1.Session() as session:
            expected = session.run("scores:0", {"image:0": image})
    np.testing.assert_array_equal(loaded.signatures["serving_default"](image=image)["scores"], expected)
    np.testing.assert_array_equal(loaded(image)["scores"], expected)
    stored = dict(tf.train.list_variables(str(tmp_path / "thawed/checkpoint/variables")))
    assert stored["conv1/kernel"] == [3, 3, 3, 8]


def test_a_training_step_moves_every_weight_and_no_statistic(net: Path, tmp_path: Path) -> None:
    told = made(net, tmp_path / "thawed")
    seen = step(tmp_path / "thawed", told)
    assert set(seen["moved"]) == {v["name"] for v in told["variables"] if v["trainable"]}
    assert set(seen["fixed"]) == {v["name"] for v in told["variables"] if not v["trainable"]}
    assert seen["without_gradient"] == []
    assert seen["changed"] > 0


def test_what_matches_stays_a_variable_and_the_rest_is_constant(net: Path, tmp_path: Path) -> None:
    told = made(net, tmp_path / "kept", trainable=["logits"], others="constant")
    assert [v["name"] for v in told["variables"]] == ["logits/kernel", "logits/bias"]
    assert step(tmp_path / "kept", told)["moved"] == ["logits/kernel", "logits/bias"]


def test_a_variable_without_a_gradient_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], "x")
        rounded = tf.round(tf.matmul(x, tf.constant(np.eye(3, dtype="f"), name="before")))
        tf.matmul(rounded, tf.constant(np.ones((3, 2), "f"), name="behind"), name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    told = made(tmp_path / "g.pb", tmp_path / "thawed")
    seen = step(tmp_path / "thawed", told)
    assert (seen["moved"], seen["without_gradient"]) == (["behind"], ["before"])


def test_a_node_that_waits_for_an_input_does_not_keep_its_placeholder(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        row = tf.compat.v1.placeholder(tf.int32, [None], "row")
        with tf.control_dependencies([row]):
            axis = tf.constant(0, name="axis")
        tf.gather(tf.constant(np.eye(4, dtype="f"), name="table"), row, axis=axis, name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    made(tmp_path / "g.pb", tmp_path / "thawed")
    loaded = tf.saved_model.load(str(tmp_path / "thawed"))
    np.testing.assert_array_equal(loaded(tf.constant([2]))["y"], np.eye(4)[[2]])


@pytest.mark.parametrize(
    ("pattern", "hits"),
    [("a/*", ["a/kernel", "a/bias"]), ("a", ["a/kernel", "a/bias"]), ("kernel$", ["a/kernel", "b/kernel"])],
)
def test_patterns_are_globs_scopes_or_regular_expressions(pattern: str, hits: list[str]) -> None:
    assert matching([pattern], ["a/kernel", "a/bias", "b/kernel"], "m.pb", "--variables") == hits


def test_a_pattern_that_matches_nothing_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'conv/kernal' matches no variable.*conv/kernel") as error:
        matching(["conv/kernal"], ["conv/kernel", "conv/bias"], "m.pb", "--keep-trainable")
    assert "--layers" in (error.value.hint or "")
