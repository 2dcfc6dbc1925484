"""Keras files of all generations are described from configuration and weight shapes; nothing is run."""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeconv.errors import InvalidModelError
from edgeconv.formats.keras_file import FORMAT, read_model_config


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **config}}


SEQUENTIAL = {
    "class_name": "Sequential",
    "config": {
        "name": "net",
        "layers": [
            layer("Conv2D", "conv", batch_input_shape=[None, 8, 8, 3], trainable=False),
            layer("Flatten", "flat"),
            layer("Dense", "logits", units=10),
        ],
    },
}
WEIGHTS = {
    "conv/conv/kernel:0": (3, 3, 3, 4),
    "logits/logits/kernel:0": (256, 10),
    "logits/logits/bias:0": (10,),
}


def write_h5(path: Path, config: Any, weights: dict[str, tuple[int, ...]], version: str = "2.4.0") -> Path:
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
            file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = version.encode()
        file.attrs["layer_names"] = [b"conv"]
        root = file.create_group("model_weights") if config is not None else file
        for name, shape in weights.items():
            root.create_dataset(name, data=np.zeros(shape, np.float32))
        file.create_group("optimizer_weights").create_dataset("m", data=np.zeros(99, np.float32))
    return path


def write_zip(path: Path, config: Any, version: str = "3.5.0", extra: dict[str, bytes] | None = None) -> Path:
    inner = path.with_suffix(".inner")
    with h5py.File(inner, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.zeros((4, 2), np.float32))
        file.create_dataset("layers/dropout/seed_generator/vars/0", data=np.zeros(2, np.uint32))
        file.create_dataset("optimizer/vars/0", data=np.zeros(50, np.float32))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(inner, "model.weights.h5")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return path


def keras3(kind: str, name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


FUNCTIONAL = {
    "module": "keras.src.models.functional",
    "class_name": "Functional",
    "config": {
        "name": "net",
        "layers": [
            keras3("InputLayer", "image", batch_shape=[None, 4], dtype="float32"),
            keras3("Dense", "scores", units=2),
        ],
        "input_layers": ["image", 0, 0],
        "output_layers": {"answer": ["scores", 0, 0]},
    },
}


def test_an_h5_of_keras_2_says_its_layers_shapes_and_weights(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "model.anything", SEQUENTIAL, WEIGHTS)
    assert FORMAT.recognise(path, path.read_bytes()[:4096]) == 1.0
    description = FORMAT.describe(path)
    assert description.producer == "Keras 2.4.0 (tensorflow)"
    assert description.parameters == 3 * 3 * 3 * 4 + 256 * 10 + 10
    assert description.metadata["trainable_parameters"] == 256 * 10 + 10
    assert description.ops == {"Conv2D": 1, "Dense": 1, "Flatten": 1}
    (signature,) = description.signatures
    assert (signature.inputs[0].name, signature.inputs[0].shape) == ("conv_input", (None, 8, 8, 3))
    assert (signature.outputs[0].name, signature.outputs[0].shape) == ("logits", (None, 10))


def test_the_list_of_layers_of_keras_1_is_read_too(tmp_path: Path) -> None:
    old = {"class_name": "Sequential", "config": SEQUENTIAL["config"]["layers"]}  # type: ignore[index]
    description = FORMAT.describe(write_h5(tmp_path / "m.h5", old, WEIGHTS, "1.2.2"))
    assert description.version == "Keras 1.2.2"
    assert len(description.metadata["layers"]) == 3


def test_an_archive_of_keras_3_counts_neither_optimiser_nor_seeds(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "model.zip", FUNCTIONAL)
    assert FORMAT.recognise(path, path.read_bytes()[:4096]) == 1.0
    description = FORMAT.describe(path)
    assert description.parameters == 8
    (signature,) = description.signatures
    assert [spec.name for spec in signature.inputs] == ["image"]
    assert [spec.name for spec in signature.outputs] == ["answer"]
    assert [finding.code for finding in description.findings] == ["macs-unknown"]  # its layers are not joined
    assert read_model_config(path)["class_name"] == "Functional"


def test_nested_models_show_their_layers_and_give_their_inputs(tmp_path: Path) -> None:
    outer = {
        "class_name": "Sequential",
        "config": {"name": "outer", "layers": [{**SEQUENTIAL}, layer("Dense", "top")]},
    }
    description = FORMAT.describe(write_h5(tmp_path / "m.h5", outer, WEIGHTS))
    assert "net/conv" in [entry["name"] for entry in description.metadata["layers"]]
    assert description.signatures[0].inputs[0].shape == (None, 8, 8, 3)


def test_layers_with_code_and_foreign_classes_are_named(tmp_path: Path) -> None:
    config = json.loads(json.dumps(FUNCTIONAL))
    config["config"]["layers"] += [keras3("Lambda", "scale"), keras3("Attention", "mine", module="my.code")]
    found = {f.code: f for f in FORMAT.describe(write_zip(tmp_path / "m.keras", config)).findings}
    assert found["untrusted-layer"].where == "scale"
    assert "my.code" in found["custom-layer"].message
    old = {
        "class_name": "Sequential",
        "config": {"layers": [layer("MyLayer", "own", batch_input_shape=[None, 2])]},
    }
    (finding,) = FORMAT.describe(write_h5(tmp_path / "m.h5", old, WEIGHTS)).findings
    assert (finding.code, finding.where) == ("custom-layer", "own")


def test_weights_without_an_architecture_say_what_to_supply(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "weights.h5", None, WEIGHTS)
    found = FORMAT.describe(path)
    assert FORMAT.recognise(path, path.read_bytes()[:4096]) > 0
    assert found.metadata["container"] == "weights"
    assert found.signatures == ()
    (finding,) = found.findings
    assert finding.code == "weights-only"
    assert "but not the architecture" in finding.message
    assert "--config model.json" in (finding.hint or "")
    assert "--model-builder MODULE:FUNCTION" in (finding.hint or "")


def test_other_hdf5_and_zip_files_are_not_taken_for_keras(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["measurements"] = np.zeros(3)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    for path in (tmp_path / "data.h5", tmp_path / "data.zip"):
        assert FORMAT.recognise(path, path.read_bytes()[:4096]) == 0.0


def test_archives_that_escape_and_versions_from_the_future_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="leads out"):
        FORMAT.describe(write_zip(tmp_path / "a.keras", FUNCTIONAL, extra={"../../evil": b"x"}))
    with pytest.raises(InvalidModelError, match=r"Keras 4\.0"):
        FORMAT.describe(write_zip(tmp_path / "b.keras", FUNCTIONAL, version="4.0.0"))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 20_000),
    flips=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 255)), max_size=3),
)
@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_damaged_files_are_described_or_refused_and_never_crash(
    tmp_path: Path, kind: str, cut: int, flips: list[tuple[int, int]]
) -> None:
    original = tmp_path / f"original.{kind}"
    if not original.exists():
        _ = write_h5(original, SEQUENTIAL, WEIGHTS) if kind == "h5" else write_zip(original, FUNCTIONAL)
    data = bytearray(original.read_bytes())
    for place, mask in flips:
        data[place % len(data)] ^= mask
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(data[: len(data) - cut % len(data)])
    FORMAT.recognise(path, path.read_bytes()[:4096])
    with contextlib.suppress(InvalidModelError):
        FORMAT.describe(path)


@pytest.mark.slow
def test_keras_counts_the_same_parameters(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((8, 8, 3), name="image")
    features = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="scores")(keras.layers.Flatten()(features)))
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    for name in ("m.keras", "m.h5"):
        description = FORMAT.describe(tmp_path / name)
        assert description.parameters == model.count_params()
        assert description.signatures[0].inputs[0].shape == (None, 8, 8, 3)
        assert not description.findings


@pytest.mark.corpus
def test_real_files_of_keras_2_and_3_are_described(corpus: Path) -> None:
    files = sorted([*corpus.rglob("*.h5"), *corpus.rglob("*.hdf5"), *corpus.rglob("*.keras")])
    assert files
    described = {path.name: FORMAT.describe(path) for path in files}
    emotion = described["fer2013_mini_XCEPTION.102-0.66.hdf5"]
    assert emotion.producer == "Keras 2.0.5 (tensorflow)"
    assert (emotion.parameters, emotion.metadata["trainable_parameters"]) == (58_423, 56_951)
    assert described["keypoint_classifier.hdf5"].signatures[0].outputs[0].shape == (None, 3)
    (finding,) = described["pre_pr22362_nested_container.keras"].findings
    assert (finding.code, "NestedDenseModel" in finding.message) == ("custom-layer", True)
