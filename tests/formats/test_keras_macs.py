"""Work and output shapes of Keras models from their configuration, held to Keras itself and to TFLite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeconv.formats._keras_macs import UnknownCostError, count_macs
from edgeconv.formats.registry import describe


def model(*layers: tuple[str, dict[str, Any]], shape: list[int | None]) -> dict[str, Any]:
    first = {"class_name": "InputLayer", "config": {"name": "input", "batch_shape": shape}}
    rest = [{"class_name": kind, "config": {"name": kind.lower(), **c}} for kind, c in layers]
    return {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *rest]}}


CONV = {"filters": 8, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same"}


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "out"),
    [
        (("Dense", {"units": 5}), [None, 7], 35, (5,)),
        (("Conv2D", CONV), [None, 9, 9, 4], 5 * 5 * 8 * 36, (5, 5, 8)),
        (("Conv2D", {**CONV, "groups": 2}), [None, 9, 9, 4], 5 * 5 * 8 * 18, (5, 5, 8)),
        (("Conv2D", {**CONV, "padding": "valid"}), [None, 9, 9, 4], 4 * 4 * 8 * 36, (4, 4, 8)),
        (("Conv2D", {**CONV, "data_format": "channels_first"}), [None, 4, 9, 9], 7200, (8, 5, 5)),
        (
            ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}),
            [None, 5, 5, 4],
            9 * 8 * 9,
            (3, 3, 8),
        ),
        (("Conv2DTranspose", CONV), [None, 4, 4, 3], 16 * 3 * 9 * 8, (8, 8, 8)),
        (("LSTM", {"units": 6}), [None, 10, 4], 10 * 4 * 6 * 10, (6,)),
        (("GRU", {"units": 6, "return_sequences": True}), [None, 10, 4], 10 * 3 * 6 * 10, (10, 6)),
        (("Flatten", {}), [None, 3, 4, 5], 0, (60,)),
        (("Reshape", {"target_shape": [5, -1]}), [None, 3, 4, 5], 0, (5, 12)),
        (("ZeroPadding2D", {"padding": [[0, 1], [0, 1]]}), [None, 4, 4, 2], 0, (5, 5, 2)),
    ],
)
def test_a_layer_costs_what_its_definition_says(
    layer: tuple[str, dict[str, Any]], shape: list[int | None], macs: int, out: tuple[int, ...]
) -> None:
    assert count_macs(model(layer, shape=shape)) == (macs, [out])


def test_a_wrapped_layer_is_counted_as_often_as_it_runs() -> None:
    dense = {"class_name": "Dense", "config": {"name": "d", "units": 5}}
    lstm = {"class_name": "LSTM", "config": {"name": "l", "units": 6}}
    assert count_macs(model(("TimeDistributed", {"layer": dense}), shape=[None, 3, 7])) == (105, [(3, 5)])
    assert count_macs(model(("Bidirectional", {"layer": lstm}), shape=[None, 10, 4])) == (4800, [(12,)])


@pytest.mark.parametrize(
    "layer", [("Secret", {}), ("Dense", {}), ("Conv2D", {"filters": 2, "kernel_size": [3, 3, 3]})]
)
def test_what_is_not_known_is_said_and_never_counted_as_nothing(layer: tuple[str, dict[str, Any]]) -> None:
    with pytest.raises(UnknownCostError, match=layer[0]):
        count_macs(model(layer, shape=[None, 8, 8, 3]))


@pytest.mark.slow
def test_counts_and_shapes_agree_with_keras_and_with_tflite_files(artifacts: Path, digits: Path) -> None:
    mine = describe(next(digits.glob("**/digits.keras")) if digits.is_dir() else digits)
    theirs = describe(artifacts / "digits.fp32.tflite")
    assert mine.macs is not None
    assert theirs.macs is not None
    # TFLite adds the multiplications of a batch normalisation that could not be folded.
    assert mine.macs <= theirs.macs <= mine.macs * 1.1
    assert mine.signatures[0].outputs[0].shape == (None, 10)


@pytest.mark.slow
def test_networks_of_the_library_have_their_published_work_and_shapes() -> None:
    import keras

    published = {"MobileNetV2": 300.8e6, "ResNet50": 3.86e9, "DenseNet121": 2.83e9}
    for name, macs in published.items():
        network = getattr(keras.applications, name)(weights=None)
        counted, shapes = count_macs(json.loads(network.to_json()))
        assert counted == pytest.approx(macs, rel=0.01)
        assert shapes == [network.output_shape[1:]]


@pytest.mark.corpus
def test_real_files_have_a_count(corpus: Path) -> None:
    files = sorted((*corpus.glob("k-face-emotion/*.hdf5"), *corpus.glob("k-handgesture/**/*.hdf5")))
    assert files
    for file in files:
        assert describe(file).macs, file
