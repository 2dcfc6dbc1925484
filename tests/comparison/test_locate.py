"""Locating: the op that computes something else is named; drift of many ops is told from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgeconv.comparison.locate import Divergence, TensorError, diagnose, locate
from edgeconv.comparison.tensor_sources.base import open_source
from edgeconv.comparison.tolerances import TOLERANCES
from edgeconv.errors import UsageError
from tests.comparison.conftest import SmallModel

Inputs = Mapping[str, np.ndarray]


def _images(count: int = 2) -> list[tuple[Inputs, Inputs]]:
    rng = np.random.default_rng(11)
    images = [{"image": rng.random((1, 16, 16, 3), dtype=np.float32)} for _ in range(count)]
    return [(image, image) for image in images]


def _located(
    model: SmallModel, reference: str, candidate: str, precision: str, path: Path | None = None
) -> Divergence:
    kinds = {name: name.removesuffix("_int8") for name in (reference, candidate)}
    with (
        open_source(model.path(reference), kinds[reference], model.contracts[reference]) as one,
        open_source(path or model.path(candidate), kinds[candidate], model.contracts[candidate]) as two,
    ):
        return locate(one, two, _images(), TOLERANCES[precision])


def _sabotaged_tflite(source: Path, target: Path, shape: tuple[int, ...]) -> Path:
    """A copy of a TFLite file in which the weight of that shape has one output channel negated."""
    from edgeconv.formats._flatbuffer import Buffer
    from edgeconv.formats._tflite_model import read_model

    data = bytearray(source.read_bytes())
    model = read_model(Buffer(bytes(data)))
    (tensor,) = [t for t in model.subgraphs[0].tensors if t.constant and t.shape == shape]
    span = model.spans[tensor.buffer]
    weights = np.frombuffer(bytes(data[span.position : span.position + span.length]), tensor.dtype).copy()
    weights = weights.reshape(shape)
    weights[: shape[0] // 4] = -weights[: shape[0] // 4]
    data[span.position : span.position + span.length] = weights.tobytes()
    target.write_bytes(data)
    return target


def test_an_honest_fp32_file_has_no_divergence(small_model: SmallModel) -> None:
    found = _located(small_model, "frozen_graph", "tflite", "fp32")
    assert (found.kind, found.first) == ("none", None)
    assert [error.op_type for error in found.curve][:3] == ["CONV_2D"] * 3
    assert all(error.own is not None and error.own < 1e-5 for error in found.curve)


def test_an_honest_onnx_file_has_no_divergence_in_spite_of_another_layout(small_model: SmallModel) -> None:
    found = _located(small_model, "frozen_graph", "onnx", "fp32")
    assert found.kind == "none"
    assert {"Conv", "Relu"} <= {error.op_type for error in found.curve}
    assert all(error.own is not None and error.own < 1e-5 for error in found.curve)


def test_an_honest_int8_file_has_no_single_wrong_op(small_model: SmallModel) -> None:
    found = _located(small_model, "frozen_graph", "tflite_int8", "int8")
    assert found.kind in ("none", "accumulated")
    assert len(found.curve) >= 5


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_wrong_weight_of_a_tflite_file_is_named(
    small_model: SmallModel, tmp_path: Path, precision: str
) -> None:
    name = "tflite" if precision == "fp32" else "tflite_int8"
    broken = _sabotaged_tflite(small_model.path(name), tmp_path / "broken.tflite", (16, 3, 3, 8))
    found = _located(small_model, "frozen_graph", name, precision, broken)
    assert found.kind == "single-op"
    assert found.op is not None
    assert found.op.endswith("(CONV_2D)")
    assert found.first is not None
    assert "block2" in found.first
    later = [error for error in found.curve if error.candidate != found.first]
    assert all(error.own is not None and error.own < 0.15 for error in later), (
        "drift that came in through the inputs is no error of the op"
    )


def test_a_wrong_weight_of_an_onnx_file_is_named(small_model: SmallModel, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(small_model.path("onnx")))
    (weight,) = [i for i in model.graph.initializer if tuple(i.dims) == (16, 8, 3, 3)]
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] += 1.0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(tmp_path / "broken.onnx"))
    found = _located(small_model, "frozen_graph", "onnx", "fp32", tmp_path / "broken.onnx")
    assert found.kind == "single-op"
    assert found.first is not None
    assert "block2" in found.first
    again = _located(small_model, "onnx", "onnx", "fp32", tmp_path / "broken.onnx")
    assert again.kind == "single-op", "ONNX can be the reference as well"
    assert again.first == found.first


def test_where_only_the_candidate_can_be_run_in_part_it_is(small_model: SmallModel, tmp_path: Path) -> None:
    broken = _sabotaged_tflite(small_model.path("tflite"), tmp_path / "broken.tflite", (16, 3, 3, 8))
    with (
        open_source(broken, "tflite", small_model.contracts["tflite"]) as one,
        open_source(small_model.path("onnx"), "onnx", small_model.contracts["onnx"]) as two,
    ):
        found = locate(one, two, _images(), TOLERANCES["fp32"])
    assert found.kind == "single-op"
    assert found.op is not None
    assert "block2" in (found.first or "")


def test_between_two_tflite_files_the_growth_of_the_error_tells(
    small_model: SmallModel, tmp_path: Path
) -> None:
    broken = _sabotaged_tflite(small_model.path("tflite"), tmp_path / "broken.tflite", (16, 3, 3, 8))
    found = _located(small_model, "tflite", "tflite", "fp32", broken)
    assert found.kind == "single-op"
    assert "block2" in (found.first or "")
    assert "growth" in found.explanation


def test_a_format_without_visible_tensors_is_refused(small_model: SmallModel) -> None:
    with pytest.raises(UsageError, match="cannot be seen") as caught:
        open_source(small_model.path("onnx"), "ort", small_model.contracts["onnx"])
    assert "onnx" in (caught.value.hint or "")


def test_no_probe_is_refused(small_model: SmallModel) -> None:
    with (
        open_source(small_model.path("tflite"), "tflite", small_model.contracts["tflite"]) as one,
        pytest.raises(UsageError, match="nothing to run"),
    ):
        locate(one, one, [], TOLERANCES["fp32"])


def _curve(own: list[float], accumulated: list[float]) -> list[TensorError]:
    return [
        TensorError(f"r{i}", f"c{i}", f"op{i}", "Conv", total, single, (f"c{i - 1}",) if i else (), "name")
        for i, (single, total) in enumerate(zip(own, accumulated, strict=True))
    ]


def test_rounding_that_adds_up_is_accumulated_drift() -> None:
    found = diagnose(_curve([0.05] * 80, [0.05 * (i + 1) ** 0.5 for i in range(80)]), TOLERANCES["int8"])
    assert found.kind == "accumulated"
    assert found.first == "c39", "the first tensor beyond the tolerance of 10 dB, an error of 0.316"


def test_one_op_far_beyond_all_others_is_to_blame_even_if_the_output_hides_it() -> None:
    found = diagnose(_curve([1e-7, 0.9, 1e-7], [1e-7, 0.9, 1e-9]), TOLERANCES["fp32"])
    assert (found.kind, found.first) == ("single-op", "c1")


def test_small_errors_everywhere_are_none() -> None:
    assert diagnose(_curve([1e-7] * 5, [1e-6] * 5), TOLERANCES["fp32"]).kind == "none"
