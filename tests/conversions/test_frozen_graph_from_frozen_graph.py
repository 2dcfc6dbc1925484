"""A GraphDef that somebody gives becomes an inference graph, before anything is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.conversions.frozen_graph_from_frozen_graph import CONVERSION
from edgeconv.errors import ConversionError, InvalidModelError, UsageError
from edgeconv.formats.base import Artifact, Contract
from edgeconv.formats.graph_candidates import contract_for_graph
from edgeconv.runtimes.tensorflow_graph import RUNTIME, read_graph

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


def graph_def(build: Callable[[Any], None]) -> Any:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf.compat.v1)
    return graph.as_graph_def()


def written(folder: Path, made: Any, *, text: bool = False) -> Path:
    from google.protobuf import text_format

    file = folder / "given.pb"
    if text:
        file.write_text(text_format.MessageToString(made))
    else:
        file.write_bytes(made.SerializeToString())
    return file


def remake(
    file: Path, inputs: list[str] | None = None, outputs: list[str] | None = None
) -> tuple[Path, ConversionResult]:
    contract: Contract = contract_for_graph(read_graph(file), inputs, outputs)
    made, scratch = file.with_name("made.pb"), file.with_name("scratch")
    scratch.mkdir(exist_ok=True)
    artifact = Artifact(file, "frozen_graph", "fp32", "", contract)
    return made, CONVERSION.convert(ConversionJob(artifact, made, "fp32", scratch))


def run(made: tuple[Path, ConversionResult], **inputs: Any) -> dict[str, Any]:
    file, result = made
    with RUNTIME.open(file, result.contract) as session:
        return session.infer(inputs)


def dense(tf: Any, x: Any, size: int, name: str = "dense") -> Any:
    weights = np.random.default_rng(size).normal(size=(x.shape[-1], size)).astype("float32")
    return tf.matmul(x, tf.constant(weights, name=f"{name}/kernel"), name=name)


def placeholder(tf: Any, name: str = "x", dtype: str = "float32", shape: Any = (None, 6)) -> Any:
    return tf.placeholder(dtype, shape, name)


@pytest.mark.parametrize("text", [False, True])
def test_only_what_the_outputs_need_is_kept_from_text_and_binary_alike(tmp_path: Path, text: bool) -> None:
    def build(tf: Any) -> None:
        y = tf.nn.relu(dense(tf, placeholder(tf), 3), name="y")
        tf.reduce_mean(tf.square(y - placeholder(tf, "labels", shape=(None, 3))), name="loss")

    file = written(tmp_path, graph_def(build), text=text)
    made = remake(file, ["x"], ["y"])
    assert {node.name for node in read_graph(made[0]).node} <= {"x", "dense/kernel", "dense", "y"}
    with RUNTIME.open(file, contract_for_graph(read_graph(file), ["x"], ["y"])) as session:
        np.testing.assert_array_equal(run(made, x=X)["y"], session.infer({"x": X})["y"])


def test_large_constants_are_read_one_by_one_and_written_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(200, 256)).astype("float16")
    words = rng.integers(-(2**62), 2**62, size=30_000)

    def build(tf: Any) -> None:
        indices = placeholder(tf, "indices", "int32", (None,))
        tf.gather(tf.constant(table), indices, name="rows")
        tf.gather(tf.constant(words), indices, name="numbers")
        tf.gather(tf.fill([40_000], 7.0), indices, name="filled")

    made = remake(written(tmp_path, graph_def(build)), ["indices"], ["rows", "numbers", "filled"])
    found = run(made, indices=np.array([3, 199], "int32"))
    np.testing.assert_array_equal(found["rows"], table[[3, 199]])
    np.testing.assert_array_equal(found["numbers"], words[[3, 199]])
    np.testing.assert_array_equal(found["filled"], [7.0, 7.0])


def test_the_graph_is_cut_where_inputs_and_outputs_are_named(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        hidden = tf.nn.relu(dense(tf, placeholder(tf), 5, "first"), name="hidden")
        tf.nn.softmax(dense(tf, hidden, 2, "second"), name="y")

    made = remake(written(tmp_path, graph_def(build)), ["hidden"], ["second"])
    (spec,) = made[1].contract.inputs
    assert (spec.name, spec.shape) == ("hidden", (None, 5))
    assert "cut at 'hidden:0'" in " ".join(made[1].notes)
    assert not any(node.name.startswith("first") for node in read_graph(made[0]).node)


def test_a_graph_without_a_contract_is_asked_for_one(tmp_path: Path) -> None:
    file = written(tmp_path, graph_def(lambda tf: tf.identity(placeholder(tf), name="y")))
    with pytest.raises(UsageError, match="does not say which tensors"):
        CONVERSION.convert(
            ConversionJob(Artifact(file, "frozen_graph", "fp32", "", None), tmp_path / "m", "fp32", tmp_path)
        )


def test_variables_without_values_are_named_and_so_is_the_way_out(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        tf.matmul(placeholder(tf), tf.get_variable("kernel", [6, 2]), name="y")

    with pytest.raises(InvalidModelError, match="not frozen: it needs kernel") as caught:
        remake(written(tmp_path, graph_def(build)), ["x"], ["y"])
    assert "--checkpoint" in (caught.value.hint or "")


def test_a_scalar_with_a_default_is_its_default_unless_it_is_named(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        scale = tf.placeholder_with_default(3.0, [], name="scale")
        tf.multiply(placeholder(tf), scale, name="y")

    file = written(tmp_path, graph_def(build))
    made = remake(file)
    np.testing.assert_array_equal(run(made, x=X)["y"], X * 3)
    assert "'scale' keeps its default" in " ".join(made[1].notes)
    named = remake(file, ["x", "scale"], ["y"])
    np.testing.assert_array_equal(run(named, x=X, scale=np.float32(2))["y"], X * 2)


def test_what_inference_cannot_do_without_is_refused(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
        words = placeholder(tf, "words", "string", (None,))
        tf.raw_ops.LookupTableFindV2(table_handle=table, keys=words, default_value=np.int64(-1), name="y")

    with pytest.raises(ConversionError, match="HashTableV2"):
        remake(written(tmp_path, graph_def(build)), ["words"], ["y"])
