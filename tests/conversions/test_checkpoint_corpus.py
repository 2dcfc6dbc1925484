"""Real checkpoints of TensorFlow 1 give what TensorFlow gave for them, or say truly why they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

from edgeconv.conversions.base import ConversionJob
from edgeconv.conversions.frozen_graph_from_checkpoint import convert
from edgeconv.errors import ConversionError, EdgeconvError
from edgeconv.formats.base import Artifact, Contract, contract_of
from edgeconv.formats.checkpoint import FORMAT
from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.formats.graph_candidates import contract_for_graph
from edgeconv.runtimes.tensorflow_graph import RUNTIME as GRAPHS
from edgeconv.runtimes.tf_checkpoint import RUNTIME as CHECKPOINTS

pytestmark = pytest.mark.corpus


def frozen(path: Path, tmp_path: Path, contract: Contract | None, **options: Any) -> Any:
    """A session of the frozen graph of a checkpoint."""
    target = tmp_path / "frozen.pb"
    source = Artifact(path, "checkpoint", "fp32", "", contract)
    result = convert(ConversionJob(source, target, "fp32", tmp_path, options=options))
    return GRAPHS.open(target, result.contract)


def contract(path: Path, *outputs: str, inputs: list[str] | None = None) -> Contract:
    found = FORMAT.contract(path, inputs, list(outputs) or None)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "outputs", "golden"),
    [
        ("ckpt1-lenet5-tftrt/model/tensorflow/small", ["output_tensor/Softmax"], "ck-lenet5"),
        ("mlnet-cifar/cifar_model/model.ckpt", ["add_1"], "ck-mlnet-cifar"),
        pytest.param(
            "odapi-mediapipe-ssdlite-random-weights/model.ckpt",
            ["detection_boxes", "detection_scores", "detection_classes", "num_detections"],
            "odsyn-mediapipe-ssdlite",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_frozen_graph_gives_the_known_outputs(
    corpus: Path, tmp_path: Path, model: str, outputs: list[str], golden: str
) -> None:
    known = numpy.load(corpus / "golden" / f"{golden}.npz")
    values = {key.replace("|", "/").partition("__")[::2]: known[key] for key in known.files}
    feeds = {name.removesuffix(":0"): value for (role, name), value in values.items() if role == "in"}
    wanted = {name.removesuffix(":0"): value for (role, name), value in values.items() if role == "out"}
    with frozen(corpus / model, tmp_path, contract(corpus / model, *outputs)) as session:
        found = session.infer({spec.name: feeds[spec.name] for spec in session.inputs})
    assert set(wanted) == set(found)
    for name, value in wanted.items():
        numpy.testing.assert_allclose(found[name], value, atol=2e-5)


def test_a_network_of_tensorflow_0_11_in_a_single_file_gives_the_known_answer(
    corpus: Path, tmp_path: Path
) -> None:
    path = corpus / "ckpt1-har-v1format" / "HAR_v4_2" / "model.ckpt"
    with frozen(path, tmp_path, contract(path, "add_6")) as session:
        (value,) = session.infer({"Placeholder": numpy.zeros((1, 32, 36), numpy.float32)}).values()
    numpy.testing.assert_allclose(value[0, :4], [0.7373, 0.3295, -1.2716, -0.5507], atol=1e-4)


def test_session_bundles_give_the_known_answers(corpus: Path, tmp_path: Path) -> None:
    folder = corpus / "ckpt1-session-bundle"
    path = folder / "bad_half_plus_two" / "00000123" / "export"
    with frozen(path, tmp_path, contract(path, "Add")) as session:
        (value,) = session.infer({"Placeholder": numpy.array([2, 4], numpy.float32)}).values()
    assert value.tolist() == [3, 4]
    path = folder / "half_plus_two" / "00000123"
    signatures = {signature.name: signature for signature in FORMAT.describe(path).signatures}
    assert list(signatures) == ["serving_default", "predict"]
    assert [spec.tensor for spec in signatures["serving_default"].inputs] == ["tf_example:0"]
    with frozen(path, tmp_path, contract_of(signatures["predict"])) as session:
        (value,) = session.infer({"x": numpy.array([[2], [4]], numpy.float32)}).values()
    assert value.tolist() == [[3], [4]]


def test_a_graphdef_is_completed_from_its_checkpoint(corpus: Path, tmp_path: Path) -> None:
    folder = corpus / "ckpt1-mediapipe-v1" / "testdata"
    graph = folder / "tf_graph_def.pb"
    found = contract_for_graph(read_graph_def(graph), None, ["multiplied"])
    with frozen(folder / "model.chkpt-0", tmp_path, found, graph=str(graph)) as session:
        feeds = {spec.name: numpy.ones((1, 3), numpy.int32) for spec in session.inputs}
        value = session.infer(feeds)
    with CHECKPOINTS.open(folder / "model.chkpt-0", found, options={"graph": str(graph)}) as reference:
        assert {k: v.tolist() for k, v in reference.infer(feeds).items()} == {
            k: v.tolist() for k, v in value.items()
        }


def test_a_text_graph_that_is_not_frozen_names_what_the_checkpoint_lacks(
    corpus: Path, tmp_path: Path
) -> None:
    graph = corpus / "fz-openpose" / "mobilenet_thin" / "graph.pb"
    found = contract_for_graph(read_graph_def(graph), ["image"], ["Openpose/concat_stage7"])
    values = corpus / "mlnet-cifar" / "cifar_model" / "model.ckpt"
    with pytest.raises(ConversionError, match=r"the checkpoint lacks .*MobilenetV1/"):
        frozen(values, tmp_path, found, graph=str(graph))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ckpt1-nometa-t2t/transformer_test_ckpt/model.ckpt-1", "graph that they belong to is missing"),
        ("ckpt1-mediapipe-v1/testdata/bundle/00000000", "once treated as text"),
        ("neg-missing-data/pretrained_model/MobileFaceNet_TF.ckpt", "data-00000-of-00001' is missing"),
        ("odapi-meta-mediapipe-ssdlite/object_detection_saved_model/model.ckpt", "shard '.*' is missing"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(
    corpus: Path, tmp_path: Path, model: str, message: str
) -> None:
    def described_and_frozen() -> None:
        FORMAT.describe(corpus / model)
        frozen(corpus / model, tmp_path, None)

    with pytest.raises(EdgeconvError, match=message):
        described_and_frozen()


def test_a_checkpoint_without_a_graph_lists_its_variables(corpus: Path) -> None:
    path = corpus / "ckpt1-nometa-t2t" / "transformer_test_ckpt" / "model.ckpt-1"
    described = FORMAT.describe(path)
    assert len(described.metadata["variables"]) == 250
    assert described.metadata["shards"] == 2
    assert [finding.code for finding in described.findings] == ["no-graph"]
