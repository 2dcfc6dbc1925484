"""Checkpoints of TensorFlow 1, with a graph of theirs or another, are frozen as TensorFlow restores them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.conversions.frozen_graph_from_checkpoint import convert
from edgeconv.errors import ConversionError, EdgeconvError, InvalidModelError, UsageError
from edgeconv.formats.base import Artifact, Contract
from edgeconv.formats.checkpoint import FORMAT
from edgeconv.formats.graph_candidates import contract_for_graph
from edgeconv.runtimes.tensorflow_graph import RUNTIME as GRAPHS
from edgeconv.runtimes.tf_checkpoint import RUNTIME as CHECKPOINTS

X = numpy.linspace(-1, 1, 12, dtype=numpy.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def tf() -> Any:
    import tensorflow

    return tensorflow


def variable(tf: Any, name: str, value: Any, reference: bool = True) -> Any:
    """A variable in the current graph; as a RefVariable or as a resource."""
    return tf.compat.v1.get_variable(
        name,
        initializer=numpy.asarray(value, numpy.float32),
        use_resource=not reference,
    )


def network(tf: Any, scope: str = "net", reference: bool = True, seed: int = 1) -> Any:
    """``softmax(x · kernel + bias)`` in the current graph, named ``probabilities``."""
    random = numpy.random.default_rng(seed)
    x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
    with tf.compat.v1.variable_scope(scope):
        kernel = variable(tf, "kernel", random.normal(size=(4, 3)), reference)
        bias = variable(tf, "bias", random.normal(size=3), reference)
    return tf.nn.softmax(tf.matmul(x, kernel) + bias, name="probabilities")


def save(
    tf: Any,
    prefix: Path,
    build: Callable[[], Any],
    *,
    version: int = 2,
    meta: bool = True,
    sharded: bool = False,
    names: Callable[[], dict[str, Any]] | None = None,
) -> Any:
    """Build, initialise and save a graph; the outputs for X, run before saving."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        build()
        saver = tf.compat.v1.train.Saver(
            names() if names else None,
            write_version={
                1: tf.compat.v1.train.SaverDef.V1,
                2: tf.compat.v1.train.SaverDef.V2,
            }[version],
            sharded=sharded,
        )
        session.run(tf.compat.v1.global_variables_initializer())
        result = session.run("probabilities:0", {"x:0": X})
        saver.save(session, str(prefix), write_meta_graph=meta)
        if not meta:
            prefix.with_name("graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return result


def frozen(
    path: Path, tmp_path: Path, *, outputs: str = "probabilities", contract: Any = ..., **options: Any
) -> tuple[Any, ConversionResult]:
    """What the frozen graph gives for X, and what the conversion said."""
    if contract is ...:
        contract = FORMAT.contract(path, None, [outputs])
    target = tmp_path / "frozen.pb"
    job = ConversionJob(
        Artifact(path, "checkpoint", "fp32", "", contract), target, "fp32", tmp_path, options=options
    )
    result = convert(job)
    with GRAPHS.open(target, result.contract) as session:
        return session.infer({session.inputs[0].name: X})[session.outputs[0].name], result


def reference(path: Path, contract: Contract | None, **options: Any) -> Any:
    """What the checkpoint's own runtime gives for X."""
    with CHECKPOINTS.open(path, contract, options=options) as session:
        return session.infer({session.inputs[0].name: X})[session.outputs[0].name]


@pytest.mark.parametrize("kept", ["ref", "resource"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("sharded", [False, True])
def test_every_kind_of_checkpoint_gives_what_was_saved(
    tf: Any, tmp_path: Path, kept: str, version: int, sharded: bool
) -> None:
    prefix = tmp_path / "model.ckpt"
    expected = save(
        tf, prefix, lambda: network(tf, reference=kept == "ref"), version=version, sharded=sharded
    )
    value, _ = frozen(prefix, tmp_path)
    numpy.testing.assert_allclose(value, expected, atol=1e-6)
    contract = FORMAT.contract(prefix, None, ["probabilities"])
    numpy.testing.assert_allclose(reference(prefix, contract), expected, atol=1e-6)


def test_a_graph_of_before_tensorflow_1_is_frozen_whole(tf: Any, tmp_path: Path) -> None:
    """The op Variable, which TensorFlow's own freezing silently leaves in the graph."""
    prefix = tmp_path / "old"
    expected = save(tf, prefix, lambda: network(tf))
    meta = tf.compat.v1.MetaGraphDef.FromString((tmp_path / "old.meta").read_bytes())
    for node in meta.graph_def.node:
        if node.op == "VariableV2":
            node.op = "Variable"
    meta.meta_info_def.tensorflow_version = "0.12.head"
    (tmp_path / "old.meta").write_bytes(meta.SerializeToString())
    value, _ = frozen(prefix, tmp_path)
    numpy.testing.assert_allclose(value, expected, atol=1e-6)
    assert b"Variable" not in (tmp_path / "frozen.pb").read_bytes()


def test_collections_of_variables_are_not_needed(tf: Any, tmp_path: Path) -> None:
    """The Object Detection API exports metagraphs without any."""
    prefix = tmp_path / "model.ckpt"
    expected = save(tf, prefix, lambda: network(tf))
    meta = tf.compat.v1.MetaGraphDef.FromString((tmp_path / "model.ckpt.meta").read_bytes())
    meta.ClearField("collection_def")
    (tmp_path / "model.ckpt.meta").write_bytes(meta.SerializeToString())
    numpy.testing.assert_allclose(frozen(prefix, tmp_path)[0], expected, atol=1e-6)


@pytest.mark.parametrize("version", [1, 2])
def test_a_partitioned_variable_is_put_together_from_its_slices(
    tf: Any, tmp_path: Path, version: int
) -> None:
    def build() -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        with tf.compat.v1.variable_scope(
            "net", partitioner=tf.compat.v1.fixed_size_partitioner(2), use_resource=False
        ):
            kernel = tf.compat.v1.get_variable(
                "kernel", [4, 3], initializer=tf.compat.v1.random_normal_initializer()
            )
        return tf.nn.softmax(tf.matmul(x, tf.convert_to_tensor(kernel)), name="probabilities")

    prefix = tmp_path / "model.ckpt"
    expected = save(tf, prefix, build, version=version)
    numpy.testing.assert_allclose(frozen(prefix, tmp_path)[0], expected, atol=1e-6)
    numpy.testing.assert_allclose(
        reference(prefix, FORMAT.contract(prefix, None, ["probabilities"])), expected, atol=1e-6
    )


def test_a_graphdef_is_restored_as_the_saver_in_it_says(tf: Any, tmp_path: Path) -> None:
    """The values are called otherwise in the checkpoint, and only the graph's restore ops know it."""
    prefix = tmp_path / "model.ckpt"

    def names() -> dict[str, Any]:
        return {f"v{i}": v for i, v in enumerate(tf.compat.v1.global_variables())}

    expected = save(tf, prefix, lambda: network(tf), names=names, meta=False)
    graph_def = tf.compat.v1.GraphDef.FromString((tmp_path / "graph.pb").read_bytes())
    contract = contract_for_graph(graph_def, None, ["probabilities"])
    value, _ = frozen(prefix, tmp_path, contract=contract, graph=str(tmp_path / "graph.pb"))
    numpy.testing.assert_allclose(value, expected, atol=1e-6)


def test_a_variable_inside_a_loop_is_frozen(tf: Any, tmp_path: Path) -> None:
    def build() -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        tf.compat.v1.disable_control_flow_v2()
        try:
            step = variable(tf, "step", numpy.eye(4) * 0.5)
            _, y = tf.while_loop(
                lambda i, _: i < 3, lambda i, y: (i + 1, tf.matmul(y, step)), [tf.constant(0), x]
            )
        finally:
            tf.compat.v1.enable_control_flow_v2()
        return tf.identity(y, name="probabilities")

    prefix = tmp_path / "model.ckpt"
    expected = save(tf, prefix, build)
    numpy.testing.assert_allclose(frozen(prefix, tmp_path)[0], expected, atol=1e-6)
    numpy.testing.assert_allclose(expected, X / 8, atol=1e-6)


def test_names_in_the_checkpoint_are_those_that_the_saver_gave(tf: Any, tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt"
    expected = save(
        tf,
        prefix,
        lambda: network(tf),
        names=lambda: {f"v{i}": v for i, v in enumerate(tf.compat.v1.global_variables())},
    )
    numpy.testing.assert_allclose(frozen(prefix, tmp_path)[0], expected, atol=1e-6)


def test_a_checkpoint_without_a_graph_says_what_to_name(tf: Any, tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt"
    save(tf, prefix, lambda: network(tf), meta=False)
    with pytest.raises(UsageError) as caught:
        frozen(prefix, tmp_path)
    assert "--graph FILE" in str(caught.value.hint)
    assert "--model-builder" in str(caught.value.hint)


@pytest.mark.parametrize("text", [False, True])
def test_a_graph_from_another_file_gets_the_values(tf: Any, tmp_path: Path, text: bool) -> None:
    prefix = tmp_path / "model.ckpt"
    expected = save(tf, prefix, lambda: network(tf), meta=False)
    graph = tmp_path / "graph.pb"
    graph_def = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    if text:
        graph.write_text(str(graph_def))
    contract = contract_for_graph(graph_def, None, ["probabilities"])
    value, _ = frozen(prefix, tmp_path, contract=contract, graph=str(graph))
    numpy.testing.assert_allclose(value, expected, atol=1e-6)
    numpy.testing.assert_allclose(reference(prefix, contract, graph=str(graph)), expected, atol=1e-6)


def test_a_checkpoint_of_another_graph_is_refused_with_a_renaming_that_works(tf: Any, tmp_path: Path) -> None:
    prefix, other = tmp_path / "model.ckpt", tmp_path / "other.ckpt"
    expected = save(tf, prefix, lambda: network(tf, "module/net"), meta=False)
    save(tf, other, lambda: network(tf, "net", seed=2))
    contract = FORMAT.contract(other, None, ["probabilities"])
    meta = f"{other}.meta"
    with pytest.raises(ConversionError) as caught:
        frozen(prefix, tmp_path, contract=contract, graph=meta)
    assert "net/kernel [4, 3] (nearest: module/net/kernel" in str(caught.value.why)
    assert caught.value.hint == "add --map-variable '^=module/'"
    rules = {"graph": meta, "map_variable": ["^=module/"]}
    value, _ = frozen(prefix, tmp_path, contract=contract, **rules)
    numpy.testing.assert_allclose(value, expected, atol=1e-6)
    numpy.testing.assert_allclose(reference(prefix, contract, **rules), expected, atol=1e-6)


def test_moving_averages_take_the_place_of_the_variables_where_asked_for(tf: Any, tmp_path: Path) -> None:
    def build() -> Any:
        result = network(tf)
        averages = tf.compat.v1.train.ExponentialMovingAverage(0.9)
        averages.apply(tf.compat.v1.trainable_variables())
        for each in tf.compat.v1.trainable_variables():
            averages.average(each)
        return result

    prefix = tmp_path / "model.ckpt"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        build()
        session.run(tf.compat.v1.variables_initializer(tf.compat.v1.trainable_variables()))
        session.run(tf.compat.v1.global_variables_initializer())
        shadows = [v for v in tf.compat.v1.global_variables() if "ExponentialMovingAverage" in v.name]
        assert shadows
        session.run([shadow.assign(shadow * 2 + 1) for shadow in shadows])
        originals = {v.name: v for v in tf.compat.v1.trainable_variables()}
        plain = session.run("probabilities:0", {"x:0": X})
        tf.compat.v1.train.Saver().save(session, str(prefix))
        averaged = session.run([originals[n].assign(originals[n] * 2 + 1) for n in originals])
        assert averaged
        doubled = session.run("probabilities:0", {"x:0": X})
    value, result = frozen(prefix, tmp_path)
    numpy.testing.assert_allclose(value, plain, atol=1e-6)
    assert any("--moving-averages" in note for note in result.notes)
    value, result = frozen(prefix, tmp_path, moving_averages=True)
    numpy.testing.assert_allclose(value, doubled, atol=1e-6)
    contract = FORMAT.contract(prefix, None, ["probabilities"])
    numpy.testing.assert_allclose(reference(prefix, contract, moving_averages=True), doubled, atol=1e-6)
    assert "moving-averages" in {finding.code for finding in FORMAT.describe(prefix).findings}


def test_a_part_is_restored_into_a_frozen_graph_of_the_same_network(tf: Any, tmp_path: Path) -> None:
    """The kernel comes from the checkpoint, the bias stays that of the frozen graph."""
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    save(tf, first, lambda: network(tf, seed=1))
    save(tf, second, lambda: network(tf, seed=2))
    _, result = frozen(first, tmp_path)
    graph = tmp_path / "base.pb"
    (tmp_path / "frozen.pb").rename(graph)
    rules = {"graph": str(graph), "restore": ["kernel$"]}
    value, made = frozen(second, tmp_path, contract=result.contract, **rules)
    kernel = numpy.random.default_rng(2).normal(size=(4, 3)).astype(numpy.float32)
    random = numpy.random.default_rng(1)
    random.normal(size=(4, 3))
    logits = X @ kernel + random.normal(size=3).astype(numpy.float32)
    expected = numpy.exp(logits) / numpy.exp(logits).sum(-1, keepdims=True)
    numpy.testing.assert_allclose(value, expected, atol=1e-6)
    assert any("1 constants of the graph" in note for note in made.notes)
    numpy.testing.assert_allclose(reference(second, result.contract, **rules), expected, atol=1e-6)


def test_a_part_is_restored_over_what_the_graph_begins_with(tf: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    save(tf, first, lambda: network(tf, seed=1))
    save(tf, second, lambda: network(tf, seed=2), meta=False)
    contract = FORMAT.contract(first, None, ["probabilities"])
    rules = {"graph": f"{first}.meta", "restore": ["kernel"]}
    value, result = frozen(second, tmp_path, contract=contract, **rules)
    numpy.testing.assert_allclose(value, reference(second, contract, **rules), atol=1e-6)
    assert any("keep the value that the graph begins with" in note for note in result.notes)


def test_an_initial_value_that_is_drawn_by_chance_is_no_value(tf: Any, tmp_path: Path) -> None:
    def build() -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        kernel = tf.compat.v1.get_variable(
            "kernel", [4, 4], initializer=tf.compat.v1.random_normal_initializer()
        )
        scale = variable(tf, "scale", 2.0)
        return tf.multiply(tf.matmul(x, kernel), scale, name="probabilities")

    prefix = tmp_path / "model.ckpt"
    save(tf, prefix, build)
    with pytest.raises(ConversionError, match="draws random numbers"):
        frozen(prefix, tmp_path, restore=["scale"])


def test_a_builder_of_tensorflow_1_gives_the_graph_and_the_contract(tf: Any, tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt"
    expected = save(tf, prefix, lambda: network(tf), meta=False)
    builder = tmp_path / "net_of_test.py"
    builder.write_text(
        "import tensorflow as tf\n"
        "def build():\n"
        "    x = tf.compat.v1.placeholder(tf.float32, [None, 4])\n"
        "    with tf.compat.v1.variable_scope('net'):\n"
        "        kernel = tf.compat.v1.get_variable('kernel', [4, 3])\n"
        "        bias = tf.compat.v1.get_variable('bias', [3])\n"
        "    return {'features': x}, {'scores': tf.nn.softmax(tf.matmul(x, kernel) + bias)}\n"
        "def outputs_only():\n"
        "    return build()[1]['scores']\n"
        "def nothing():\n"
        "    build()\n"
    )
    value, result = frozen(prefix, tmp_path, contract=None, model_builder=f"{builder}:build")
    assert [spec.name for spec in result.contract.inputs] == ["features"]
    assert [spec.name for spec in result.contract.outputs] == ["scores"]
    numpy.testing.assert_allclose(value, expected, atol=1e-6)
    value = reference(prefix, None, model_builder=f"{builder}:outputs_only")
    numpy.testing.assert_allclose(value, expected, atol=1e-6)
    with pytest.raises(EdgeconvError, match="returned NoneType, not tensors"):
        frozen(prefix, tmp_path, contract=None, model_builder=f"{builder}:nothing")


def test_training_batch_norm_of_a_checkpoint_uses_the_moving_statistics(tf: Any, tmp_path: Path) -> None:
    """The proof needs them as well: the reference feeds what the formulas make of the restored values."""

    def build() -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        image = tf.reshape(x, [-1, 1, 2, 2])
        gamma, beta = variable(tf, "bn/gamma", [1.5, 0.5]), variable(tf, "bn/beta", [0.1, -0.1])
        mean, deviation = (
            variable(tf, "bn/moving_mean", [0.3, 0.2]),
            variable(tf, "bn/moving_variance", [2, 3]),
        )
        y, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNorm(
            x=image, scale=gamma, offset=beta, mean=[], variance=[], epsilon=1e-3, is_training=True
        )
        tf.compat.v1.assign_sub(mean, (mean - batch_mean) * 0.1)
        tf.compat.v1.assign_sub(deviation, (deviation - batch_variance) * 0.1)
        return tf.reshape(y, [-1, 4], name="probabilities")

    prefix = tmp_path / "model.ckpt"
    save(tf, prefix, build)
    value, result = frozen(prefix, tmp_path)
    scaled = (X.reshape(-1, 2, 2) - [0.3, 0.2]) / numpy.sqrt(numpy.array([2, 3]) + 1e-3)
    expected = (scaled * [1.5, 0.5] + [0.1, -0.1]).reshape(-1, 4)
    numpy.testing.assert_allclose(value, expected, atol=1e-5)
    replaced = [item for change in result.changes for item in change.replaced]
    assert replaced
    from edgeconv.formats.base import to_json

    contract = FORMAT.contract(prefix, None, ["probabilities"])
    told = [to_json(item) for item in replaced]
    numpy.testing.assert_allclose(reference(prefix, contract, replaced=told), expected, atol=1e-5)


def test_a_shard_that_is_missing_is_named(tf: Any, tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt"
    save(tf, prefix, lambda: network(tf))
    (tmp_path / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(InvalidModelError, match="data-00000-of-00001' is missing"):
        frozen(prefix, tmp_path)
