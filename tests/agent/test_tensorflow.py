"""SavedModels and frozen graphs on a device that has TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from agent.talking import Talk

from edgeconv.agent.backends.tensorflow import UNTRUSTED_OPS
from edgeconv.runtimes import _tensorflow

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("agent_tensorflow")]
PROGRAM = """
import sys, pathlib, numpy as np, tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
folder = pathlib.Path(sys.argv[1])
spec = tf.TensorSpec

class Model(tf.Module):
    def __init__(self):
        self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="w")

    # All of these lie in every SavedModel of it; what counts is what a signature runs.
    @tf.function(input_signature=[spec([None, 2], tf.float32, "x")])
    def serve(self, x):
        return {"y": tf.matmul(x, self.w)}
    @tf.function(input_signature=[spec([None], tf.string, "words")])
    def join(self, words):
        return {"text": tf.strings.reduce_join(words)}
    @tf.function(input_signature=[spec([], tf.string, "path")])
    def leak(self, path):
        return {"text": tf.io.read_file(path)}
    @tf.function(input_signature=[spec([], tf.string, "path")])
    def restore(self, path):
        read = tf.raw_ops.RestoreV2(prefix=path, tensor_names=["w"], shape_and_slices=[""], dtypes=["float"])
        return {"y": read[0]}

m = Model()
tf.saved_model.save(m, str(folder / "good"), signatures={"serving_default": m.serve, "join": m.join})
tf.saved_model.save(m, str(folder / "two"), signatures={"a": m.serve, "b": m.join})
tf.saved_model.save(m, str(folder / "leak"), signatures={"serving_default": m.serve, "leak": m.leak})
tf.saved_model.save(m, str(folder / "restore"), signatures={"serving_default": m.restore})
frozen = convert_variables_to_constants_v2(m.serve.get_concrete_function())
(folder / "frozen.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
leaking = convert_variables_to_constants_v2(m.leak.get_concrete_function())
(folder / "leak.pb").write_bytes(leaking.graph.as_graph_def().SerializeToString())
"""
X = np.array([[1, 1], [2, 0]], np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with Talk(tmp_path_factory.mktemp("agent") / "store") as talk:
        yield talk


def test_a_signature_of_a_saved_model_is_run_measured_and_placed(talk: Talk, models: Path) -> None:
    said = talk.open(models / "good", "tensorflow", "saved_model")
    assert said["signature"] == "serving_default"
    [x], [y] = said["inputs"], said["outputs"]
    assert (x["key"], x["dtype"], x["shape"]) == ("x", "float32", [None, 2])
    found = talk.ask({"verb": "infer", "model": said["model"]}, [(x["name"], X)])["arrays"][y["name"]]
    assert found.tolist() == [[4, 6], [2, 4]]
    asked = {"verb": "measure", "models": [said["model"]], "inputs": [[{x["name"]: 0}]], "rounds": 2}
    assert talk.ask(asked, [("x", X)])["arrays"]["ns"].shape == (1, 2, 5)
    answer = talk.ask({"verb": "placement", "model": said["model"]}, [(x["name"], X)])
    placement = answer["result"]["placement"]
    assert (placement["asked"], placement["share_of_ops"]) == ("cpu", 1.0)
    assert placement["ran"]["cpu"] >= 1


def test_another_signature_takes_strings(talk: Talk, models: Path) -> None:
    said = talk.open(models / "good", "tensorflow", "saved_model", signature="join")
    words = np.array([b"ab", b"\xff\0"], object)
    answer = talk.ask({"verb": "infer", "model": said["model"]}, [(said["inputs"][0]["name"], words)])
    [found] = answer["arrays"].values()
    assert (found.shape, found.item()) == ((), b"ab\xff\0")


def test_a_frozen_graph_is_run_from_its_placeholders_or_from_named_tensors(talk: Talk, models: Path) -> None:
    for options in ({}, {"inputs": ["x:0"]}, {"inputs": ["x"]}):
        said = talk.open(models / "frozen.pb", "tensorflow", "frozen_graph", **options)
        answer = talk.ask({"verb": "infer", "model": said["model"]}, [("x:0", X)])
        assert [value.tolist() for value in answer["arrays"].values()] == [[[4, 6], [2, 4]]]


@pytest.mark.parametrize(
    ("name", "fmt", "options", "kind", "says"),
    [
        ("two", "saved_model", {}, "usage", "has the signatures a, b"),
        ("leak", "saved_model", {"signature": "leak"}, "refused", "the op ReadFile"),
        ("leak.pb", "frozen_graph", {}, "refused", "the op ReadFile"),
        ("restore", "saved_model", {}, "refused", "the op RestoreV2"),
        ("frozen.pb", "frozen_graph", {"outputs": ["no_such"]}, "usage", "no tensor no_such:0"),
        ("good", "saved_model", {"accelerator": "xnnpack"}, "usage", "no accelerator 'xnnpack'"),
    ],
)
def test_what_cannot_or_must_not_be_run_is_refused(
    talk: Talk, models: Path, name: str, fmt: str, options, kind: str, says: str
) -> None:
    asked = {"verb": "open", "backend": "tensorflow", "format": fmt, "path": str(models / name)}
    error = talk.error({**asked, "options": options})
    assert error["kind"] == kind
    assert says in error["what"]


def test_arrays_that_do_not_fit_are_refused_by_name(talk: Talk, models: Path) -> None:
    said = talk.open(models / "frozen.pb", "tensorflow", "frozen_graph")
    error = talk.error({"verb": "infer", "model": said["model"]}, [("x:0", X.astype(np.float64))])
    assert (error["kind"], "must have float32" in error["what"]) == ("usage", True)


def test_the_same_ops_are_untrusted_there_as_here() -> None:
    assert UNTRUSTED_OPS == _tensorflow.UNTRUSTED_OPS
