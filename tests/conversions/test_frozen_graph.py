"""Frozen graphs: constants only, needed nodes only, the same numbers; what cannot be frozen is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.conversions.frozen_graph_from_saved_model import CONVERSION
from edgeconv.errors import ConversionError, InvalidModelError, UntrustedModelError, UsageError
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.runtimes.tensorflow_graph import RUNTIME, read_graph
from edgeconv.runtimes.tensorflow_saved_model import RUNTIME as SOURCE_RUNTIME
from edgeconv.surgery.graph_writing import _varint


def freeze(
    folder: Path, tmp_path: Path, contract: Contract | None = None, **options: Any
) -> tuple[Path, ConversionResult]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    file = tmp_path / "frozen.pb"
    artifact = Artifact(folder, "saved_model", "fp32", "", contract)
    return file, CONVERSION.convert(ConversionJob(artifact, file, "fp32", scratch, None, options))


def run(file: Path, result: ConversionResult, **inputs: Any) -> dict[str, Any]:
    with RUNTIME.open(file, result.contract, options={"trust": True}) as session:
        return session.infer(inputs)


def ops(file: Path) -> set[str]:
    graph = read_graph(file)
    return {n.op for n in graph.node} | {n.op for f in graph.library.function for n in f.node_def}


def save_module(folder: Path, function: Callable[..., Any], *specs: Any, **state: Any) -> Path:
    """A SavedModel of TensorFlow 2 whose ``serving_default`` is ``function(state, *inputs)``."""
    import tensorflow as tf

    module = tf.Module()
    for name, value in state.items():
        setattr(module, name, value)
    serve = tf.function(lambda *inputs: function(module, *inputs), input_signature=list(specs))
    tf.saved_model.save(module, str(folder), signatures=serve.get_concrete_function())
    return folder


def save_v1(folder: Path, build: Callable[[Any], tuple[dict[str, Any], dict[str, Any]]]) -> Path:
    """A SavedModel of TensorFlow 1 from a function that builds a graph and gives inputs and outputs."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        inputs, outputs = build(tf1)
        session.run(tf1.global_variables_initializer())
        tf1.saved_model.simple_save(session, str(folder), inputs, outputs)
    return folder


def vector(name: str = "x", size: int | None = 3) -> Any:
    import tensorflow as tf

    return tf.TensorSpec([None, size], tf.float32, name=name)


def test_variables_become_constants_and_the_names_stay(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = save_module(
        tmp_path / "m",
        lambda m, x: {"scores": tf.linalg.matmul(x, m.w) + m.b, "inputs": x},
        vector(),
        w=tf.Variable(np.arange(6, dtype="float32").reshape(3, 2)),
        b=tf.Variable([1.0, -1.0]),
    )
    file, result = freeze(folder, tmp_path)
    assert not ops(file) & {"VarHandleOp", "ReadVariableOp", "StatefulPartitionedCall", "RestoreV2", "SaveV2"}
    assert [s.name for s in result.contract.inputs] == ["x"]
    assert {s.name: s.tensor for s in result.contract.outputs} == {"inputs": "inputs:0", "scores": "scores:0"}
    found = run(file, result, x=np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(found["scores"], [[7, 8], [7, 8]])


def test_a_known_dimension_is_pinned_and_an_open_one_stays_open(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = save_module(tmp_path / "m", lambda m, x: {"y": x * 2.0}, vector(size=None))
    contract = Contract(
        (TensorSpec("x", "float32", (None, 5)),), (TensorSpec("y", "float32", None),), "serving_default"
    )
    file, result = freeze(folder, tmp_path, contract)
    assert result.contract.inputs[0].shape == (None, 5)
    node = next(n for n in read_graph(file).node if n.op == "Placeholder")
    assert tf.TensorShape(node.attr["shape"].shape).as_list() == [None, 5]


def test_gathering_from_a_variable_inside_a_loop(tmp_path: Path) -> None:
    """TensorFlow's own freezing lowers the loop and leaves constants outside of its frame."""
    import tensorflow as tf

    def total(m: Any, x: Any) -> dict[str, Any]:
        def body(i: Any, acc: Any) -> Any:
            return i + 1, acc + tf.gather(m.table, i) + tf.cast(tf.shape(m.table)[0], tf.float32)

        return {"y": tf.while_loop(lambda i, _: i < 4, body, (0, x))[1]}

    table = tf.Variable(np.arange(12, dtype="float32").reshape(4, 3))
    folder = save_module(tmp_path / "m", total, vector(), table=table)
    file, result = freeze(folder, tmp_path)
    assert not ops(file) & {"ResourceGather", "VarHandleOp", "ReadVariableOp"}
    found = run(file, result, x=np.zeros((1, 3), "float32"))
    np.testing.assert_array_equal(found["y"], [[18 + 16, 22 + 16, 26 + 16]])


def test_branches_that_read_different_variables(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = save_module(
        tmp_path / "m",
        lambda m, x: {"y": tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * m.a, lambda: x - m.b)},
        vector(),
        a=tf.Variable(3.0),
        b=tf.Variable([1.0, 2.0, 3.0]),
    )
    file, result = freeze(folder, tmp_path)
    assert run(file, result, x=np.ones((1, 3), "float32"))["y"].tolist() == [[3, 3, 3]]
    assert run(file, result, x=-np.ones((1, 3), "float32"))["y"].tolist() == [[-2, -3, -4]]


@pytest.mark.parametrize("resource", [False, True])
def test_tensorflow_1_in_a_loop_of_its_own_kind(tmp_path: Path, resource: bool) -> None:
    def build(tf1: Any) -> Any:
        import tensorflow as tf

        tf1.disable_control_flow_v2()
        try:
            x = tf1.placeholder(tf.float32, [None, 3], name="x")
            v = tf1.get_variable("v", initializer=[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], use_resource=resource)
            loop = tf1.while_loop(lambda i, _: i < 2, lambda i, acc: (i + 1, acc + tf1.gather(v, i)), [0, x])
            return {"x": x}, {"y": tf1.identity(loop[1], name="y")}
        finally:
            tf1.enable_control_flow_v2()

    file, result = freeze(save_v1(tmp_path / "m", build), tmp_path)
    assert result.contract.outputs[0].tensor == "y:0"
    assert not ops(file) & {"VarHandleOp", "VariableV2", "ResourceGather"}
    assert run(file, result, x=np.zeros((1, 3), "float32"))["y"].tolist() == [[5, 7, 9]]


def test_partitioned_variables_are_put_together(tmp_path: Path) -> None:
    def build(tf1: Any) -> Any:
        import tensorflow as tf

        x = tf1.placeholder(tf.float32, [None, 4], name="x")
        with tf1.variable_scope("s", partitioner=tf1.fixed_size_partitioner(2), use_resource=False):
            w = tf1.get_variable("w", [4, 2], initializer=tf1.random_uniform_initializer(seed=1))
        return {"x": x}, {"y": tf1.matmul(x, tf.convert_to_tensor(w), name="y")}

    folder = save_v1(tmp_path / "m", build)
    file, result = freeze(folder, tmp_path)
    data = np.arange(4, dtype="float32")[None]
    with SOURCE_RUNTIME.open(folder, None) as source:
        wanted = source.infer({"x": data})["y"]
    np.testing.assert_allclose(run(file, result, x=data)["y"], wanted, rtol=1e-6)


def test_a_placeholder_with_a_default_that_nobody_feeds_keeps_it(tmp_path: Path) -> None:
    def build(tf1: Any) -> Any:
        import tensorflow as tf

        x = tf1.placeholder(tf.float32, [None, 2], name="x")
        scale = tf1.placeholder_with_default(3.0, [], name="scale")
        return {"x": x}, {"y": tf1.multiply(x, scale, name="y")}

    file, result = freeze(save_v1(tmp_path / "m", build), tmp_path)
    assert "PlaceholderWithDefault" not in ops(file)
    assert any("scale" in note for note in result.notes)
    assert run(file, result, x=np.ones((1, 2), "float32"))["y"].tolist() == [[3, 3]]


def test_an_undeclared_placeholder_is_named(tmp_path: Path) -> None:
    def build(tf1: Any) -> Any:
        import tensorflow as tf

        x = tf1.placeholder(tf.float32, [None, 2], name="x")
        double = tf1.placeholder(tf.bool, [], name="double")
        return {"x": x}, {"y": tf1.where(double, x, x * 2.0, name="y")}

    with pytest.raises(ConversionError, match="'double'"):
        freeze(save_v1(tmp_path / "m", build), tmp_path)


def test_checks_and_prints_are_left_out(tmp_path: Path) -> None:
    import tensorflow as tf

    def noisy(m: Any, x: Any) -> dict[str, Any]:
        tf.debugging.assert_less(x, 100.0)
        tf.print("seen", x)
        return {"y": tf.debugging.check_numerics(x, "finite") + 1.0}

    file, result = freeze(save_module(tmp_path / "m", noisy, vector()), tmp_path)
    assert not ops(file) & {"PrintV2", "CheckNumerics", "CheckNumericsV2"}
    assert run(file, result, x=np.zeros((1, 3), "float32"))["y"].tolist() == [[1, 1, 1]]


def test_a_lookup_table_is_named_with_the_op_that_uses_it(tmp_path: Path) -> None:
    import tensorflow as tf

    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1, 2], [10, 20]), default_value=0)
    spec = tf.TensorSpec([None], tf.int32, name="x")
    folder = save_module(tmp_path / "m", lambda m, x: {"y": m.table.lookup(x)}, spec, table=table)
    with pytest.raises(ConversionError, match="HashTable") as caught:
        freeze(folder, tmp_path)
    assert "LookupTableFind" in caught.value.what
    assert "SavedModel" in (caught.value.hint or "")


def test_a_model_that_writes_before_it_reads_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = save_module(
        tmp_path / "m", lambda m, x: {"y": x + m.n.assign_add(1.0)}, vector(), n=tf.Variable(0.0)
    )
    with pytest.raises(ConversionError, match="changes a variable"):
        freeze(folder, tmp_path)


def test_a_model_that_writes_after_it_read_starts_from_the_stored_value(tmp_path: Path) -> None:
    import tensorflow as tf

    def count(m: Any, x: Any) -> dict[str, Any]:
        y = x + m.n
        m.n.assign_add(1.0)
        return {"y": y}

    file, result = freeze(save_module(tmp_path / "m", count, vector(), n=tf.Variable(5.0)), tmp_path)
    assert any("writes" in note for note in result.notes)
    assert run(file, result, x=np.zeros((1, 3), "float32"))["y"].tolist() == [[5, 5, 5]]


def test_python_and_files_need_trust(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = save_module(
        tmp_path / "m",
        lambda m, x: {"y": tf.strings.length(tf.io.read_file("secret")) + tf.cast(x[0, 0], tf.int32)},
        vector(),
    )
    with pytest.raises(UntrustedModelError, match="ReadFile") as caught:
        freeze(folder, tmp_path)
    assert "--trust" in (caught.value.hint or "")
    file, _ = freeze(folder, tmp_path, trust=True)
    assert "ReadFile" in ops(file)


def test_cut_at_an_inner_tensor(tmp_path: Path) -> None:
    def build(tf1: Any) -> Any:
        import tensorflow as tf

        x = tf1.placeholder(tf.string, [], name="file")
        middle = tf1.decode_raw(x, tf.float32, name="decoded")
        return {"file": x}, {"y": tf1.multiply(middle, 2.0, name="y")}

    contract = Contract(
        (TensorSpec("samples", "float32", (4,), "decoded:0"),), (TensorSpec("y", "float32", (4,), "y:0"),)
    )
    file, result = freeze(save_v1(tmp_path / "m", build), tmp_path, contract)
    assert ops(file) <= {"Placeholder", "Mul", "Const"}
    assert run(file, result, samples=np.ones(4, "float32"))["y"].tolist() == [2, 2, 2, 2]


def test_a_tensor_that_does_not_exist(tmp_path: Path) -> None:
    folder = save_module(tmp_path / "m", lambda m, x: {"y": x + 1.0}, vector())
    contract = Contract(
        (TensorSpec("x", "float32", (1, 3), "serving_default_x:0"),),
        (TensorSpec("logits", "float32", None, "logits:0"),),
        "serving_default",
    )
    with pytest.raises(UsageError, match="logits"):
        freeze(folder, tmp_path, contract)


def test_a_signature_that_does_not_exist(tmp_path: Path) -> None:
    folder = save_module(tmp_path / "m", lambda m, x: {"y": x + 1.0}, vector())
    with pytest.raises(UsageError, match="'predict'") as caught:
        freeze(folder, tmp_path, signature="predict")
    assert "serving_default" in (caught.value.hint or "")


def test_missing_values_are_an_invalid_model(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = save_module(tmp_path / "m", lambda m, x: {"y": x + m.v}, vector(), v=tf.Variable(1.0))
    for file in (folder / "variables").iterdir():
        file.unlink()
    with pytest.raises(InvalidModelError, match="variables"):
        freeze(folder, tmp_path)


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_recurrent_layers_stay_functional_loops(tmp_path: Path, layer: str) -> None:
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((5, 3), name="x"), getattr(keras.layers, layer)(4, name="y")])
    folder = save_module(
        tmp_path / "m",
        lambda m, x: {"y": model(x, training=False)},
        tf.TensorSpec([None, 5, 3], tf.float32, name="x"),
        kept=[v.value for v in model.variables],
    )
    file, result = freeze(folder, tmp_path)
    assert not ops(file) & {"Enter", "Switch", "VarHandleOp", "ReadVariableOp"}
    data = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    with SOURCE_RUNTIME.open(folder, None) as source:
        np.testing.assert_allclose(run(file, result, x=data)["y"], source.infer({"x": data})["y"], atol=1e-6)


def test_lengths_in_a_protocol_buffer_are_varints() -> None:
    assert [_varint(n) for n in (0, 127, 128, 300)] == [b"\0", b"\x7f", b"\x80\x01", b"\xac\x02"]


def test_above_two_gigabytes_is_said_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from edgeconv.surgery import graph_writing

    folder = save_module(
        tmp_path / "m", lambda m, x: {"y": x + m.v}, vector(), v=tf.Variable([1.0, 2.0, 3.0])
    )
    monkeypatch.setattr(graph_writing, "PROTO_LIMIT", 100)
    with pytest.raises(ConversionError, match="2 GB"):
        freeze(folder, tmp_path)


@pytest.mark.corpus
def test_a_saved_model_of_a_compiled_keras_2_model(tmp_path: Path) -> None:
    """Keras 3 says "File format not supported", and others stumble over the optimiser's slots."""
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((6,), name="x"), tf_keras.layers.Dense(2, name="y")])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 6), "float32"), np.ones((4, 2), "float32"), verbose=0)
    model.save(tmp_path / "m", save_format="tf")
    data = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    file, result = freeze(tmp_path / "m", tmp_path)
    (found,) = run(file, result, x=data).values()
    np.testing.assert_allclose(found, model(data), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("sm-mlperftiny/kws/kws_ref_model", "serving_default"),  # optimiser slots: tf.saved_model.load fails
        ("mlnet-ragged-small/model_types_test", "serving_default"),  # one tensor under two names
        (
            "ckpt1-mediapipe-v1/testdata/tensorflow_saved_model/00000000",
            "serving_default",
        ),  # reference dtypes
        ("sm-tf-java/saved_model_using_python/model", "add"),
    ],
)
def test_real_models_that_are_hard_to_load(corpus: Path, tmp_path: Path, model: str, signature: str) -> None:
    rng = np.random.default_rng(0)
    with SOURCE_RUNTIME.open(corpus / model, None, options={"signature": signature}) as source:
        inputs = {
            s.name: rng.integers(0, 2, [n or 1 for n in s.shape or ()]).astype(s.dtype) for s in source.inputs
        }
        wanted = source.infer(inputs)
    file, result = freeze(corpus / model, tmp_path, signature=signature)
    found = run(file, result, **inputs)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)
