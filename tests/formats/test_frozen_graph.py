"""Frozen graphs are recognised, described and asked for their inputs and outputs without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats._graph_index_ranges import index_ranges
from edgeconv.formats._graph_view import output_dtypes
from edgeconv.formats._tensorflow_protos import tensorflow_protos
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.frozen_graph import FORMAT, read_graph_def
from edgeconv.formats.graph_candidates import (
    candidate_inputs,
    candidate_outputs,
    contract_for_graph,
    unambiguous,
)

FLOAT, INT32, BOOL = 1, 3, 10


def node(graph: Any, name: str, op: str, *inputs: str, **attributes: Any) -> None:
    """Add a node; attributes are types (int), shapes (tuple), booleans, bytes or lists of ints."""
    added = graph.node.add(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, bool):
            added.attr[key].b = value
        elif isinstance(value, int):
            added.attr[key].type = value
        elif isinstance(value, bytes):
            added.attr[key].s = value
        elif isinstance(value, tuple):
            added.attr[key].shape.SetInParent()
            for size in value:
                added.attr[key].shape.dim.add(size=-1 if size is None else size)
        else:
            added.attr[key].list.i.extend(value)


def constant(graph: Any, name: str, shape: tuple[int, ...], dtype: int = FLOAT) -> None:
    added = graph.node.add(name=name, op="Const")
    added.attr["dtype"].type = dtype
    tensor = added.attr["value"].tensor
    tensor.dtype = dtype
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.append(0.5)


def one_line(error: InvalidModelError) -> None:
    if "\n" in str(error):
        raise AssertionError(f"more than one line: {error!r}")


def classifier() -> Any:
    """image -> Conv2D -> BiasAdd -> Relu -> probs, 28x28 to 26x26 with 8 channels."""
    graph = tensorflow_protos().GraphDef()
    graph.versions.producer = 27
    node(graph, "image", "Placeholder", dtype=FLOAT, shape=(None, 28, 28, 1))
    constant(graph, "kernel", (3, 3, 1, 8))
    constant(graph, "bias", (8,))
    node(graph, "conv", "Conv2D", "image", "kernel", T=FLOAT, strides=[1, 1, 1, 1], padding=b"VALID")
    node(graph, "add", "BiasAdd", "conv", "bias", T=FLOAT)
    node(graph, "probs", "Softmax", "add", T=FLOAT)
    return graph


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(classifier().SerializeToString(deterministic=True))
    return path


def test_it_is_recognised_by_its_first_node_and_not_by_its_name(frozen: Path) -> None:
    assert FORMAT.recognise(frozen, frozen.read_bytes()[:4096]) > 0.5


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x1c\0\0\0TFL3",
        b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n",
        b"hello world",
        b"\x08\x07\x12\x07pytorch",
        b"\x0a",
    ],
)
def test_other_files_are_not_taken_for_graphs(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(head)
    assert FORMAT.recognise(path, head) == 0


def test_describe_tells_inputs_outputs_weights_and_work(frozen: Path) -> None:
    description = FORMAT.describe(frozen)
    assert [(c.role, c.tensor.name) for c in description.candidates] == [
        ("input", "image"),
        ("output", "probs"),
    ]
    assert description.candidates[0].tensor.shape == (None, 28, 28, 1)
    assert description.parameters == 3 * 3 * 8 + 8
    assert description.macs == 26 * 26 * 8 * 9
    assert description.ops["Conv2D"] == 1
    assert description.producer is not None
    assert "1.13" in description.producer
    assert description.findings == ()


def test_a_text_graph_says_the_same_as_its_binary_form(frozen: Path, tmp_path: Path) -> None:
    from google.protobuf import text_format

    text = tmp_path / "text.pb"
    text.write_text("# exported\n" + text_format.MessageToString(classifier()))
    assert FORMAT.recognise(text, text.read_bytes()[:4096]) > 0.5
    one, two = FORMAT.describe(frozen), FORMAT.describe(text)
    assert (one.candidates, one.parameters, one.macs, one.ops) == (
        two.candidates,
        two.parameters,
        two.macs,
        two.ops,
    )


def test_a_training_graph_offers_what_the_loss_takes_and_not_the_loss() -> None:
    graph = classifier()
    node(graph, "labels_in", "Placeholder", dtype=FLOAT, shape=(None, 8))
    node(graph, "xent", "SoftmaxCrossEntropyWithLogits", "add", "labels_in", T=FLOAT)
    node(graph, "mean", "Mean", "xent", T=FLOAT)
    node(graph, "gradients/mean_grad/Shape", "Shape", "xent", T=FLOAT)
    node(graph, "train", "NoOp", "^gradients/mean_grad/Shape")
    node(graph, "summary", "ScalarSummary", "mean", T=FLOAT)
    outputs = unambiguous(candidate_outputs(graph))
    assert outputs is not None
    assert [spec.name for spec in outputs] == ["probs"]
    scores = {c.tensor.name: c.score for c in candidate_inputs(graph)}
    assert scores["image"] > 0.5 > scores["labels_in"]


def test_the_steps_of_moving_averages_are_no_outputs() -> None:
    """The training graph of a network with batch normalisation: each layer offered two of them."""
    graph = classifier()
    node(graph, "loss", "L2Loss", "probs", T=FLOAT)
    node(graph, "train", "ApplyGradientDescent", "bias", "loss", "loss", T=FLOAT)
    node(graph, "moving_mean", "VariableV2", dtype=FLOAT, shape=(8,))
    node(graph, "difference", "Sub", "moving_mean", "add", T=FLOAT)
    node(graph, "step", "Mul", "difference", "bias", T=FLOAT)
    node(graph, "AssignMovingAvg", "AssignSub", "moving_mean", "step", T=FLOAT)
    assert [c.tensor.name for c in candidate_outputs(graph) if c.score >= 0.3] == ["probs"]


def test_a_list_that_a_loop_leaves_behind_is_no_output() -> None:
    """A recurrent network of which only the last state is used: the list of all states dangles."""
    graph = classifier()
    node(graph, "length", "Const", dtype=INT32)
    node(graph, "states", "TensorArrayV3", "length", dtype=FLOAT)
    for name, start in (("list", "states:1"), ("state", "probs")):
        node(graph, f"while/{name}/Enter", "Enter", start, T=FLOAT)
        node(graph, f"while/{name}/Merge", "Merge", f"while/{name}/Enter", f"while/{name}/Next", T=FLOAT)
        node(graph, f"while/{name}/Switch", "Switch", f"while/{name}/Merge", "while/LoopCond", T=FLOAT)
        node(graph, f"while/{name}/Exit", "Exit", f"while/{name}/Switch", T=FLOAT)
    node(graph, "while/Sum", "Sum", "while/state/Merge", "length", T=FLOAT)
    node(graph, "while/Less", "Less", "while/Sum", "while/Sum", T=FLOAT)
    node(graph, "while/LoopCond", "LoopCond", "while/Less")
    node(graph, "while/Tanh", "Tanh", "while/state/Switch:1", T=FLOAT)
    node(
        graph,
        "while/Write",
        "TensorArrayWriteV3",
        "states",
        "length",
        "while/Tanh",
        "while/list/Switch:1",
        T=FLOAT,
    )
    node(graph, "while/list/Next", "NextIteration", "while/Write", T=FLOAT)
    node(graph, "while/state/Next", "NextIteration", "while/Tanh", T=FLOAT)
    outputs = unambiguous(candidate_outputs(graph))
    assert outputs is not None
    assert [spec.name for spec in outputs] == ["while/state/Exit"]


def test_what_depends_on_no_input_and_what_lies_inside_a_loop_is_no_output() -> None:
    graph = classifier()
    node(graph, "unused", "Mul", "bias", "bias", T=FLOAT)
    node(graph, "while/Enter", "Enter", "add", T=FLOAT)
    node(graph, "while/body", "Relu", "while/Enter", T=FLOAT)
    outputs = unambiguous(candidate_outputs(graph))
    assert outputs is not None
    assert [spec.name for spec in outputs] == ["probs"]


def test_rivals_make_the_outputs_ambiguous_and_the_error_lists_them() -> None:
    graph = classifier()
    node(graph, "weights", "VariableV2", dtype=FLOAT, shape=(8,))
    node(graph, "side", "Relu", "add", T=FLOAT)
    with pytest.raises(UsageError) as caught:
        contract_for_graph(graph, None, None)
    assert "probs" in str(caught.value)
    assert "side" in str(caught.value)
    assert "--outputs" in (caught.value.hint or "")
    assert contract_for_graph(graph, None, ["side"]).outputs[0].tensor == "side:0"


def test_several_real_outputs_are_all_taken_in_graph_order() -> None:
    graph = classifier()
    node(graph, "boxes", "Identity", "conv", T=FLOAT)
    contract = contract_for_graph(graph)
    assert [spec.name for spec in contract.outputs] == ["probs", "boxes"]


def test_a_name_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        contract_for_graph(classifier(), None, ["prob"])
    assert caught.value.exit_code == 2
    assert "probs" in str(caught.value)
    with pytest.raises(UsageError, match="no port 3"):
        contract_for_graph(classifier(), None, ["probs:3"])


def test_naming_an_inner_tensor_as_input_cuts_the_graph_there() -> None:
    contract = contract_for_graph(classifier(), ["conv:0"], ["probs"])
    assert [spec.tensor for spec in contract.inputs] == ["conv:0"]
    assert contract.inputs[0].dtype == "float32"


def test_an_input_that_is_not_fed_or_not_needed_is_refused() -> None:
    graph = classifier()
    node(graph, "scale", "Placeholder", dtype=FLOAT, shape=(1,))
    node(graph, "scaled", "Mul", "probs", "scale", T=FLOAT)
    with pytest.raises(UsageError, match="scale"):
        contract_for_graph(graph, ["image"], ["scaled"])
    with pytest.raises(UsageError, match="no output depends"):
        contract_for_graph(graph, ["image", "scale"], ["probs"])


def test_an_empty_shape_of_an_old_graph_means_that_nothing_is_known() -> None:
    graph = tensorflow_protos().GraphDef()
    node(graph, "x", "Placeholder", dtype=FLOAT, shape=())
    node(graph, "y", "Relu", "x", T=FLOAT)
    graph.versions.producer = 21
    assert candidate_inputs(graph)[0].tensor.shape is None
    graph.versions.producer = 27
    assert candidate_inputs(graph)[0].tensor.shape == ()


def findings(graph: Any, tmp_path: Path) -> dict[str, str | None]:
    path = tmp_path / "graph.pb"
    path.write_bytes(graph.SerializeToString())
    return {f.code: f.where for f in FORMAT.describe(path).findings}


def test_leftovers_of_training_are_found_and_located(tmp_path: Path) -> None:
    graph = classifier()
    node(graph, "keep_prob", "Placeholder", dtype=FLOAT, shape=())
    node(graph, "shape", "Shape", "probs", T=FLOAT)
    node(graph, "dropout/random_uniform", "RandomUniform", "shape", T=INT32, dtype=FLOAT)
    node(graph, "dropout/mul", "Mul", "probs", "dropout/random_uniform", T=FLOAT)
    node(graph, "dropout/div", "RealDiv", "dropout/mul", "keep_prob", T=FLOAT)
    node(graph, "bn", "FusedBatchNorm", "dropout/div", "bias", "bias", "bias", "bias", T=FLOAT)
    node(graph, "moving", "VariableV2", dtype=FLOAT, shape=(8,))
    node(graph, "out", "AddV2", "bn", "moving", T=FLOAT)
    found = findings(graph, tmp_path)
    assert found["live-dropout"] == "dropout/random_uniform"
    assert found["training-switch"] == "keep_prob"
    assert found["training-batch-norm"] == "bn"
    assert found["not-frozen"] == "moving"


def test_a_batch_norm_in_inference_mode_is_no_finding(tmp_path: Path) -> None:
    graph = classifier()
    node(graph, "bn", "FusedBatchNorm", "conv", "bias", "bias", "bias", "bias", T=FLOAT, is_training=False)
    assert "training-batch-norm" not in findings(graph, tmp_path)


def test_ops_that_touch_files_or_run_code_are_found_only_where_they_would_run(tmp_path: Path) -> None:
    graph = classifier()
    constant(graph, "save/Const", ())
    node(graph, "save/SaveV2", "SaveV2", "save/Const")
    assert "untrusted-op" not in findings(graph, tmp_path)
    node(graph, "code", "PyFunc", "probs")
    assert findings(graph, tmp_path)["untrusted-op"] == "code"


def test_a_queue_as_input_is_found_and_where_to_cut_it(tmp_path: Path) -> None:
    graph = tensorflow_protos().GraphDef()
    node(graph, "queue", "FIFOQueueV2")
    node(graph, "dequeue", "QueueDequeueManyV2", "queue")
    node(graph, "out", "Relu", "dequeue", T=FLOAT)
    assert findings(graph, tmp_path)["queue-input"] == "dequeue"
    with pytest.raises(UsageError, match="does not say what it holds") as caught:
        contract_for_graph(graph, None, ["out"])
    assert "takes from dequeue" in (caught.value.hint or "")
    assert contract_for_graph(graph, ["dequeue:0"], ["out"]).inputs[0].name == "dequeue"


def test_a_graph_whose_variables_have_no_values_is_no_frozen_graph(tmp_path: Path) -> None:
    graph = tensorflow_protos().GraphDef()
    node(graph, "x", "Placeholder", dtype=FLOAT, shape=(None, 4))
    node(graph, "w", "VariableV2", dtype=FLOAT, shape=(4, 2))
    node(graph, "scores", "MatMul", "x", "w", T=FLOAT)
    node(graph, "prepared", "Relu", "x", T=FLOAT)
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(
        InvalidModelError, match="not frozen: it needs w, whose values are not in it"
    ) as caught:
        FORMAT.contract(tmp_path / "graph.pb", None, ["scores"])
    assert caught.value.hint
    assert "SavedModel" in caught.value.hint
    assert FORMAT.contract(tmp_path / "graph.pb", None, ["prepared"]).inputs[0].name == "x"
    assert FORMAT.contract(tmp_path / "graph.pb", ["x", "w"], ["scores"]).inputs[1].name == "w"


def test_functions_that_are_called_count(tmp_path: Path) -> None:
    graph = tensorflow_protos().GraphDef()
    node(graph, "x", "Placeholder", dtype=FLOAT, shape=(None, 4))
    graph.node.add(name="call", op="PartitionedCall", input=["x"]).attr["f"].func.name = "inner"
    graph.node[-1].attr["Tout"].list.type.append(FLOAT)
    function = graph.library.function.add()
    function.signature.name = "inner"
    function.node_def.add(name="bad", op="ReadFile")
    path = tmp_path / "graph.pb"
    path.write_bytes(graph.SerializeToString())
    description = FORMAT.describe(path)
    assert description.ops == {"PartitionedCall": 1, "Placeholder": 1, "ReadFile": 1}
    assert [f.code for f in description.findings] == ["untrusted-op"]


def test_a_node_that_takes_what_is_not_there_makes_the_graph_invalid(tmp_path: Path) -> None:
    graph = classifier()
    node(graph, "lost", "Relu", "nowhere", T=FLOAT)
    path = tmp_path / "graph.pb"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(InvalidModelError, match="nowhere"):
        FORMAT.describe(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=4)
)
def test_damaged_files_are_described_or_refused_and_never_crash(
    tmp_path: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(classifier().SerializeToString(deterministic=True))
    for place, mask in flips:
        data[place % len(data)] ^= mask
    path = tmp_path / "damaged.pb"
    path.write_bytes(data[: len(data) - cut % len(data)])
    FORMAT.recognise(path, path.read_bytes()[:4096])
    try:
        FORMAT.describe(path)
    except InvalidModelError as error:
        one_line(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 2000), place=st.integers(0, 2000), byte=st.integers(0, 255))
def test_damaged_text_is_described_or_refused_and_never_crashes(
    tmp_path: Path, cut: int, place: int, byte: int
) -> None:
    from google.protobuf import text_format

    data = bytearray(text_format.MessageToString(classifier()).encode())
    data[place % len(data)] = byte
    path = tmp_path / "damaged.pbtxt"
    path.write_bytes(data[: len(data) - cut % len(data)])
    try:
        FORMAT.describe(path)
    except InvalidModelError as error:
        one_line(error)


def test_messages_come_without_tensorflow_and_are_its_own_when_it_comes_later() -> None:
    code = (
        "import sys, time; start = time.perf_counter();"
        "from edgeconv.formats._tensorflow_protos import tensorflow_protos as p; kind = p().GraphDef;"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'tensorflow'];"
        "print(time.perf_counter() - start)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("first", ["messages", "tensorflow"])
def test_the_message_classes_are_shared_with_tensorflow_in_both_orders(first: str) -> None:
    ours = "from edgeconv.formats._tensorflow_protos import tensorflow_protos as p; kind = p().GraphDef"
    theirs = "import tensorflow as tf"
    lines = [ours, theirs] if first == "messages" else [theirs, ours]
    code = "\n".join(
        [*lines, "g = tf.Graph().as_graph_def(); assert type(g) is kind", "print(tf.add(1, 1).numpy())"]
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "2"


@pytest.mark.corpus
def test_the_outputs_of_real_frozen_graphs_are_found(corpus: Path) -> None:
    cases = json.loads((corpus / "cases.json").read_text())
    frozen_cases = {name: case for name, case in cases.items() if case["file"].endswith(".pb")}
    assert frozen_cases
    for name, case in frozen_cases.items():
        outputs = unambiguous(candidate_outputs(read_graph_def(corpus / case["file"])))
        assert outputs is not None, name
        assert [spec.name for spec in outputs] == case["outputs"], name


@pytest.mark.corpus
def test_real_operator_graphs_are_all_described(corpus: Path) -> None:
    graphs = sorted((corpus / "dl4j-opgraphs").rglob("*.pb"))
    assert graphs
    for path in graphs:
        description = FORMAT.describe(path)
        recorded = {p.name.removesuffix(".prediction.shape") for p in path.parent.glob("*.prediction.shape")}
        offered = {c.tensor.name for c in description.candidates if c.role == "output" and c.score >= 0.5}
        single = {name for name in recorded if "." not in name and "____" not in name}
        assert single <= offered or not offered, path
        assert all(c.tensor.dtype != "unknown" for c in description.candidates), path


@pytest.mark.corpus
def test_real_graphs_say_what_is_hard_about_them(corpus: Path) -> None:
    def codes(path: str) -> set[str]:
        return {f.code for f in FORMAT.describe(corpus / path).findings}

    assert "front-end-op" in codes("fz-kws-armmcu/DS_CNN_S.pb")
    assert {"live-dropout", "training-switch"} <= codes("fz-t2onnx-tests/models/lstm/frozen.pb")
    assert "training-batch-norm" in codes("fz-openpose/mobilenet_v2_small/graph_opt.pb")
    assert "not-frozen" in codes("fz-openpose/mobilenet_thin/graph.pb")
    assert "not-frozen" in codes("sm-tf-rust/regression_checkpoint/model.pb")
    assert not codes("fz-facemask-ssd/face_mask_detection.pb")
    # The same network frozen, and trained again as a SavedModel, does the same work.
    assert FORMAT.describe(corpus / "fz-kws-armmcu/DS_CNN_S.pb").macs == 2_656_768


def test_where_all_ends_in_a_loss_the_last_layers_before_it_are_offered() -> None:
    """The training graph of a regression, of an autoencoder, of Q-learning: nothing is left for a person."""
    graph = tensorflow_protos().GraphDef()
    node(graph, "state", "Placeholder", dtype=FLOAT, shape=(None, 4))
    node(graph, "aim", "Placeholder", dtype=FLOAT, shape=(None, 2))
    for name, shape in {"w1": (4, 8), "w2": (8, 2), "b2": (2,)}.items():
        node(graph, name, "VariableV2", dtype=FLOAT, shape=shape)
        node(graph, f"{name}/read", "Identity", name, T=FLOAT)
    node(graph, "hidden", "MatMul", "state", "w1/read", T=FLOAT)
    node(graph, "product", "MatMul", "hidden", "w2/read", T=FLOAT)
    node(graph, "sum", "BiasAdd", "product", "b2/read", T=FLOAT)
    node(graph, "answer", "Tanh", "sum", T=FLOAT)
    node(graph, "error", "SquaredDifference", "answer", "aim", T=FLOAT)
    node(graph, "mean", "Mean", "error", T=FLOAT)
    node(graph, "gradients/mean_grad/Tile", "Tile", "aim", T=FLOAT)
    node(graph, "update", "ApplyGradientDescent", "w1", "gradients/mean_grad/Tile", T=FLOAT)
    first = candidate_outputs(graph)[0]
    assert first.tensor.name == "answer"
    assert "the last layer before a loss" in first.evidence
    with pytest.raises(UsageError) as caught:
        contract_for_graph(graph)
    assert "--outputs answer" in (caught.value.hint or "")


def test_the_steps_of_moving_averages_are_no_outputs_without_an_optimiser_either() -> None:
    graph = classifier()
    node(graph, "moving_mean", "VariableV2", dtype=FLOAT, shape=(8,))
    node(graph, "difference", "Sub", "moving_mean", "add", T=FLOAT)
    node(graph, "AssignMovingAvg", "AssignSub", "moving_mean", "difference", T=FLOAT)
    assert [c.tensor.name for c in candidate_outputs(graph) if c.score >= 0.3] == ["probs"]


def test_the_types_of_what_a_ctc_decoder_gives_are_known() -> None:
    graph = classifier()
    node(graph, "beams", "CTCBeamSearchDecoder", "add", "lengths", T=FLOAT)
    graph.node[-1].attr["top_paths"].i = 2
    node(graph, "greedy", "CTCGreedyDecoder", "add", "lengths", T=FLOAT)
    assert output_dtypes(graph.node[-2]) == ("int64",) * 6 + ("float32",)
    assert output_dtypes(graph.node[-1]) == ("int64",) * 3 + ("float32",)


def test_the_indices_that_an_input_can_carry_are_those_of_the_shortest_table() -> None:
    graph = tensorflow_protos().GraphDef()
    node(graph, "words", "Placeholder", dtype=INT32, shape=(None, 4))
    node(graph, "kinds", "Placeholder", dtype=INT32, shape=(None, 4))
    node(graph, "free", "Placeholder", dtype=INT32, shape=(None, 4))
    constant(graph, "long", (100, 8))
    node(graph, "short", "VariableV2", dtype=FLOAT, shape=(30, 8))
    node(graph, "read", "Identity", "short", T=FLOAT)
    for name, value in {"axis": 0, "depth": 2}.items():
        constant(graph, name, (), INT32)
        graph.node[-1].attr["value"].tensor.int_val.append(value)
        del graph.node[-1].attr["value"].tensor.float_val[:]
    node(graph, "flat", "Reshape", "words", "free", T=INT32)
    node(graph, "first", "GatherV2", "long", "flat", "axis", Tparams=FLOAT)
    node(graph, "second", "GatherV2", "read", "words", "axis", Tparams=FLOAT)
    node(graph, "hot", "OneHot", "kinds", "depth", T=FLOAT)
    inputs = tuple(TensorSpec(name, "int32", (None, 4), f"{name}:0") for name in ("words", "kinds", "free"))
    assert index_ranges(graph, Contract(inputs, ())) == {"words": [0, 29], "kinds": [0, 1]}
