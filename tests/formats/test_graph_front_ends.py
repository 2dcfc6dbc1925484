"""Where a graph is cut: behind the last op that no edge format has, at as few tensors as can be."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from front_ends.written import graph_of

from edgeconv.formats._graph_calls import looked_through
from edgeconv.formats._graph_front_ends import find_front_end
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import pruned
from edgeconv.surgery.graph_editing import inlined

v1 = tf.compat.v1
raw = tf.raw_ops


def _cut(graph_def: Any, contract: Contract) -> list[str]:
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    return [spec.inner_name for spec in front_end.cut]


def test_a_graph_of_numbers_has_no_front_end() -> None:
    graph_def, contract = graph_of(lambda x: tf.nn.relu(x), x=("float32", [1, 4]))
    assert find_front_end(graph_def, contract) is None


def test_the_cut_is_behind_the_last_op_of_an_audio_front_end() -> None:
    def build(s: Any) -> Any:
        audio, rate = raw.DecodeWav(contents=s, desired_channels=1, desired_samples=16000)
        spectrum = raw.AudioSpectrogram(input=audio, window_size=480, stride=320, magnitude_squared=True)
        features = raw.Mfcc(spectrogram=spectrum, sample_rate=rate, dct_coefficient_count=10, name="features")
        return tf.reshape(features, [1, -1]) @ tf.ones([490, 3])

    graph_def, contract = graph_of(build, s=("string", []))
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    assert [(spec.inner_name, spec.dtype, spec.shape) for spec in front_end.cut] == [
        ("features:0", "float32", (1, 49, 10))
    ]
    assert [spec.name for spec in front_end.inputs] == ["s"]
    assert list(front_end.ops) == ["DecodeWav", "AudioSpectrogram", "Mfcc"]
    assert [spec.name for spec in front_end.contract(contract).inputs] == ["features"]


def test_an_input_of_numbers_beside_the_strings_is_kept() -> None:
    graph_def, contract = graph_of(
        lambda s, x: tf.cast(tf.strings.length(s, name="sizes"), tf.float32) + x,
        s=("string", [None]),
        x=("float32", [None]),
    )
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    assert ([i.name for i in front_end.kept], [c.name for c in front_end.cut]) == (["x"], ["sizes"])


def test_a_path_that_forks_is_cut_at_each_branch() -> None:
    def build(s: Any) -> Any:
        parsed = v1.parse_example(
            s, {"a": tf.io.FixedLenFeature([2], tf.float32), "b": tf.io.FixedLenFeature([3], tf.float32)}
        )
        return parsed["a"] @ tf.ones([2, 2]) + parsed["b"] @ tf.ones([3, 2])

    graph_def, contract = graph_of(build, s=("string", [None]))
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    assert [(spec.dtype, spec.shape) for spec in front_end.cut] == [
        ("float32", (None, 2)),
        ("float32", (None, 3)),
    ]


def test_what_only_moves_and_counts_is_taken_in_where_fewer_tensors_then_cross() -> None:
    def build(s: Any) -> Any:
        image = tf.image.decode_jpeg(s, channels=3)
        size = tf.shape(image)
        return tf.cast(tf.reshape(image, [1, size[0] * size[1] * 3]), tf.float32) * 2.0

    graph_def, contract = graph_of(build, s=("string", []))
    assert len(_cut(graph_def, contract)) == 1


def test_a_loop_with_a_decoder_in_it_is_cut_behind_the_loop() -> None:
    graph_def, contract = graph_of(
        lambda s: (
            v1.map_fn(
                lambda each: tf.reshape(tf.cast(tf.image.decode_jpeg(each), tf.float32), [8, 8, 3]),
                s,
                dtype=tf.float32,
                name="map",
            )
            * 2.0
        ),
        s=("string", [None]),
    )
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    assert [(spec.inner_name, spec.shape) for spec in front_end.cut] == [
        ("map/TensorArrayStack/TensorArrayGatherV3:0", (None, 8, 8, 3))
    ]


def test_a_loop_over_numbers_stays_in_the_model() -> None:
    def build(s: Any) -> Any:
        numbers = tf.strings.to_number(s, name="numbers")
        return v1.map_fn(lambda x: x * 2.0, numbers)

    graph_def, contract = graph_of(build, s=("string", [None]))
    assert _cut(graph_def, contract) == ["numbers:0"]


def test_text_outputs_are_left_out_and_told() -> None:
    graph_def, contract = graph_of(lambda x: (x * 2.0, tf.strings.as_string(x)), x=("float32", [None]))
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    assert [spec.name for spec in front_end.outputs] == ["out0"]
    assert front_end.cut == ()
    assert front_end.said() == ("the output 'out1' is text, which no edge format has: it is left out",)


def test_where_nothing_is_left_it_is_told() -> None:
    graph_def, contract = graph_of(lambda s: tf.strings.upper(s), s=("string", [None]))
    front_end = find_front_end(graph_def, contract)
    assert front_end is not None
    assert front_end.whole


def test_inside_functions_the_names_are_those_of_tensorflows_own_inlining() -> None:
    @tf.function
    def inner(s: Any) -> Any:
        parsed = tf.io.parse_example(
            s, {"n": tf.io.VarLenFeature(tf.int64), "x": tf.io.FixedLenFeature([2], tf.float32)}
        )
        values, order = tf.math.top_k(parsed["x"], 2)
        return values + tf.cast(order, tf.float32) + tf.cast(tf.size(parsed["n"].values), tf.float32)

    @tf.function
    def outer(s: Any) -> Any:
        return inner(s) * 2.0

    graph = outer.get_concrete_function(tf.TensorSpec([None], tf.string, name="s")).graph
    graph_def = graph.as_graph_def()
    outputs = tuple(TensorSpec("y", "float32", None, tensor.name) for tensor in graph.outputs)
    contract = Contract((TensorSpec("s", "string", (None,), "s:0"),), outputs)
    by_us, by_tensorflow = looked_through(graph_def), inlined(pruned(graph_def, ["Identity"]), ["Identity"])
    known = {node.name: node.op for node in by_tensorflow.node}
    ours = {
        node.name: node.op for node in by_us.node if "/" in node.name and node.op not in ("NoOp", "IdentityN")
    }
    kept = {name: op for name, op in ours.items() if name in known}
    assert set(kept.values()) >= {"ParseExampleV2", "TopKV2", "AddV2"}
    assert all(known[name] == op for name, op in kept.items())
    for spec in _cut(graph_def, contract):
        assert spec.rpartition(":")[0] in known


def test_ports_inside_functions_are_counted_over_lists() -> None:
    @tf.function
    def inner(s: Any) -> Any:
        parsed = tf.io.parse_example(
            s,
            {
                "n": tf.io.VarLenFeature(tf.int64),
                "x": tf.io.FixedLenFeature([2], tf.float32),
                "y": tf.io.FixedLenFeature([3], tf.float32),
            },
        )
        return parsed["y"] * 2.0

    graph = inner.get_concrete_function(tf.TensorSpec([None], tf.string, name="s")).graph

    @tf.function
    def outer(s: Any) -> Any:
        return inner(s) + 0.0

    graph = outer.get_concrete_function(tf.TensorSpec([None], tf.string, name="s")).graph
    outputs = tuple(TensorSpec("y", "float32", None, tensor.name) for tensor in graph.outputs)
    contract = Contract((TensorSpec("s", "string", (None,), "s:0"),), outputs)
    front_end = find_front_end(graph.as_graph_def(), contract)
    assert front_end is not None
    [spec] = front_end.cut
    assert (spec.dtype, spec.shape) == ("float32", (None, 3))
    assert spec.inner_name.endswith(":4")  # indices, values, shapes of 'n', then 'x', then 'y'
