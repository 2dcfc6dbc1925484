"""SavedModels from Keras files and from checkpoints: same numbers, same names, weights once, no code run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.conversions.saved_model_from_checkpoint import CONVERSION as FROM_CHECKPOINT
from edgeconv.conversions.saved_model_from_keras import CONVERSION as FROM_KERAS
from edgeconv.errors import ConversionError, InvalidModelError, UntrustedModelError, UsageError
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.runtimes.tensorflow_saved_model import RUNTIME


def job(
    source: Path, tmp_path: Path, form: str, contract: Contract | None = None, **options: Any
) -> ConversionJob:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    artifact = Artifact(source, form, "fp32", "", contract)
    return ConversionJob(artifact, tmp_path / "saved_model", "fp32", scratch, None, options)


def run(folder: Path, result: ConversionResult, **inputs: Any) -> dict[str, Any]:
    with RUNTIME.open(folder, result.contract) as session:
        return session.infer(inputs)


def small_model(library: Any, batch: int | None = None) -> Any:
    library.utils.set_random_seed(3)
    image = library.Input((6, 6, 2), batch_size=batch, name="image")
    x = library.layers.Conv2D(4, 3, name="conv")(image)
    x = library.layers.BatchNormalization(name="norm")(x)
    x = library.layers.Dropout(0.5, name="drop")(x)
    x = library.layers.GlobalAveragePooling2D(name="pool")(x)
    return library.Model(image, [library.layers.Dense(3, name=name)(x) for name in ("left", "right")])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_of_keras_3_keeps_names_order_and_numbers(tmp_path: Path, suffix: str) -> None:
    import keras

    model = small_model(keras)
    file = tmp_path / f"model{suffix}"
    model.save(file)
    result = FROM_KERAS.convert(job(file, tmp_path, "keras"))
    data = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype("float32")
    found = run(tmp_path / "saved_model", result, image=data)
    assert [spec.name for spec in result.contract.inputs] == ["image"]
    assert list(found) == ["left", "right"]
    for value, wanted in zip(found.values(), model(data, training=False), strict=True):
        np.testing.assert_allclose(value, np.asarray(wanted), atol=1e-6)


def test_stores_every_weight_once(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((500,)), keras.layers.Dense(500)])
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    FROM_KERAS.convert(job(tmp_path / "m.keras", tmp_path, "keras"))
    stored = sum(f.stat().st_size for f in (tmp_path / "saved_model" / "variables").iterdir())
    assert stored < 1.1 * 4 * model.count_params()


def test_keeps_a_static_batch_and_pins_what_the_contract_pins(tmp_path: Path) -> None:
    import keras

    small_model(keras, batch=3).save(tmp_path / "m.keras")
    result = FROM_KERAS.convert(job(tmp_path / "m.keras", tmp_path, "keras"))
    assert result.contract.inputs[0].shape == (3, 6, 6, 2)
    assert result.contract.outputs[0].shape == (3, 3)


def test_takes_the_names_and_shapes_of_the_contract(tmp_path: Path) -> None:
    import keras

    small_model(keras).save(tmp_path / "m.keras")
    contract = Contract(
        inputs=(TensorSpec("photo", "float32", (1, 6, 6, 2)),),
        outputs=(TensorSpec("a", "float32", None), TensorSpec("b", "float32", None)),
    )
    result = FROM_KERAS.convert(job(tmp_path / "m.keras", tmp_path, "keras", contract))
    assert [(s.name, s.shape) for s in result.contract.inputs] == [("photo", (1, 6, 6, 2))]
    assert [(s.name, s.shape) for s in result.contract.outputs] == [("a", (1, 3)), ("b", (1, 3))]


def test_of_keras_2_is_opened_by_tf_keras_where_keras_3_cannot(tmp_path: Path) -> None:
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential(
        [tf_keras.Input((5, 5, 2), name="x"), tf_keras.layers.DepthwiseConv2D(3, name="depthwise")]
    )
    model.save(tmp_path / "weights.hdf5")
    result = FROM_KERAS.convert(job(tmp_path / "weights.hdf5", tmp_path, "keras"))
    data = np.random.default_rng(0).normal(size=(1, 5, 5, 2)).astype("float32")
    found = run(tmp_path / "saved_model", result, x=data)
    np.testing.assert_allclose(found["depthwise"], model(data).numpy(), atol=1e-6)


def test_of_keras_1_is_upgraded(tmp_path: Path) -> None:
    import json

    import h5py

    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 3, 1, 2)).astype("float32"), np.ones(2, "float32")
    layer = {
        "class_name": "Convolution2D",
        "config": {
            "name": "conv",
            "nb_filter": 2,
            "nb_row": 3,
            "nb_col": 3,
            "border_mode": "valid",
            "subsample": [1, 1],
            "dim_ordering": "tf",
            "init": "glorot_uniform",
            "activation": "relu",
            "bias": True,
            "W_regularizer": None,
            "b_regularizer": None,
            "W_constraint": None,
            "b_constraint": None,
            "activity_regularizer": None,
            "batch_input_shape": [None, 4, 4, 1],
            "input_dtype": "float32",
            "trainable": True,
        },
    }
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": [layer]}).encode()
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"conv"]
        group = weights.create_group("conv")
        group.attrs["weight_names"] = [b"conv_W", b"conv_b"]
        group["conv_W"], group["conv_b"] = kernel, bias
    result = FROM_KERAS.convert(job(tmp_path / "old.h5", tmp_path, "keras"))
    image = rng.normal(size=(1, 4, 4, 1)).astype("float32")
    found = run(tmp_path / "saved_model", result, **{result.contract.inputs[0].name: image})
    wanted = sum(
        image[0, i : i + 2, j : j + 2, 0, None] * kernel[i, j, 0] for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(found["conv"][0], np.maximum(wanted + bias, 0), atol=1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_needs_trust(tmp_path: Path, suffix: str) -> None:
    import keras

    model = keras.Sequential(
        [
            keras.Input((2,), name="x"),
            keras.layers.Lambda(lambda t: t * 2.0, name="double", output_shape=(2,)),
        ]
    )
    file = tmp_path / f"m{suffix}"
    model.save(file)
    with pytest.raises(UntrustedModelError, match="double") as caught:
        FROM_KERAS.convert(job(file, tmp_path, "keras"))
    assert "--trust" in (caught.value.hint or "")
    if suffix == ".keras":
        result = FROM_KERAS.convert(job(file, tmp_path, "keras", trust=True))
        assert run(tmp_path / "saved_model", result, x=np.ones((1, 2), "float32"))["double"].tolist() == [
            [2, 2]
        ]


def test_a_custom_layer_is_named(tmp_path: Path) -> None:
    import keras

    class Swirl(keras.layers.Layer):  # type: ignore[misc,name-defined]
        def call(self, x: Any) -> Any:
            return x

    keras.Sequential([keras.Input((2,)), Swirl()]).save(tmp_path / "m.h5")
    with pytest.raises((UsageError, ConversionError), match="Swirl"):
        FROM_KERAS.convert(job(tmp_path / "m.h5", tmp_path, "keras"))


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(1)])
    model.save_weights(tmp_path / "only.h5")
    with pytest.raises(InvalidModelError, match="weights"):
        FROM_KERAS.convert(job(tmp_path / "only.h5", tmp_path, "keras"))


BUILDER = """
import {library} as library
def build():
    layers = library.layers
    return library.Sequential([library.Input((4,), name='x'), layers.Dense({units}, name='a'),
                               layers.BatchNormalization(name='b'), layers.Dense(2, name='y')])
"""


@pytest.mark.parametrize(
    ("library", "root"), [("keras", "model"), ("keras", "net"), ("keras", ""), ("tf_keras", "save_weights")]
)
def test_of_a_checkpoint_restores_under_whatever_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, root: str
) -> None:
    import tensorflow as tf

    (tmp_path / "maker.py").write_text(BUILDER.format(library=library, units=3))
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(BUILDER.format(library=library, units=3), scope)
    model = scope["build"]()
    model.compile("adam", "mse")
    data = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(data, data[:, :2], verbose=0)
    if root == "save_weights":
        model.save_weights(str(tmp_path / "w"))
    elif root:
        tf.train.Checkpoint(**{root: model}, optimizer=model.optimizer).write(str(tmp_path / "w"))
    else:
        tf.train.Checkpoint(model).write(str(tmp_path / "w"))
    made = FROM_CHECKPOINT.convert(
        job(tmp_path / "w", tmp_path, "checkpoint", model_builder="maker.py:build")
    )
    found = run(tmp_path / "saved_model", made, x=data)
    np.testing.assert_allclose(found["y"], np.asarray(model(data, training=False)), atol=1e-6)


def test_of_a_checkpoint_says_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    scope: dict[str, Any] = {}
    exec(BUILDER.format(library="keras", units=3), scope)
    tf.train.Checkpoint(model=scope["build"]()).write(str(tmp_path / "w"))
    (tmp_path / "other.py").write_text(BUILDER.format(library="keras", units=5))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConversionError, match="do not fit") as caught:
        FROM_CHECKPOINT.convert(job(tmp_path / "w", tmp_path, "checkpoint", model_builder="other:build"))
    why = caught.value.why or ""
    missing = why.split(";")[0]
    assert missing.index("/a/kernel [4, 5]") < missing.index("/a/bias [5]") < missing.index("/b/gamma [5]")
    assert "[4, 3]" in why


def test_of_a_module_with_a_serving_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    source = (
        "import tensorflow as tf\n"
        "class M(tf.Module):\n"
        "    def __init__(self):\n"
        "        self.w = tf.Variable([1.0, 2.0])\n"
        "    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name='x')])\n"
        "    def __call__(self, x):\n"
        "        return {'scaled': x * self.w}\n"
    )
    (tmp_path / "plain.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(source, scope)
    module = scope["M"]()
    module.w.assign([5.0, 7.0])
    tf.train.Checkpoint(module).write(str(tmp_path / "w"))
    made = FROM_CHECKPOINT.convert(job(tmp_path / "w", tmp_path, "checkpoint", model_builder="plain:M"))
    assert run(tmp_path / "saved_model", made, x=np.ones((1, 2), "float32"))["scaled"].tolist() == [[5, 7]]


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (None, "not the model"),
        ("nowhere:build", "cannot be imported"),
        ("maker:biuld", "no function 'biuld'"),
    ],
)
def test_of_a_checkpoint_needs_a_builder_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: str | None, message: str
) -> None:
    import tensorflow as tf

    tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(tmp_path / "w"))
    (tmp_path / "maker.py").write_text(BUILDER.format(library="keras", units=3))
    monkeypatch.chdir(tmp_path)
    options = {} if builder is None else {"model_builder": builder}
    with pytest.raises(UsageError, match=message) as caught:
        FROM_CHECKPOINT.convert(job(tmp_path / "w", tmp_path, "checkpoint", **options))
    assert caught.value.hint
