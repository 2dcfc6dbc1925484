"""Keras files of generations 2 and 3 give the numbers of the model that was saved, or say what to supply."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeconv.errors import ConversionError, EdgeconvError, InvalidModelError, UntrustedModelError, UsageError
from edgeconv.runtimes._keras_loading import load_keras_program
from edgeconv.runtimes._programs import ProgramSession

Config = dict[str, Any]


def run(path: Path, *arrays: Any, **options: Any) -> tuple[list[Any], tuple[str, ...]]:
    """What a file gives on these inputs, and what is said about it."""
    program, notes = load_keras_program(path, options)
    with ProgramSession(program, str(path)) as session:
        feeds = {spec.name: array for spec, array in zip(session.inputs, arrays, strict=True)}
        return list(session.infer(feeds).values()), notes


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


# Keras 2 -----------------------------------------------------------------------------------------------


def randomised(model: Any) -> Any:
    for number, variable in enumerate(model.weights):
        values = numbers(*variable.shape, seed=number) * 0.3
        variable.assign(np.abs(values) + 0.1 if "variance" in variable.name else values)
    return model


def keras_2(
    path: Path, model: Any, edit: Callable[[Config], None] = lambda entry: None, version: str = "2.2.4"
) -> Path:
    """A file of tf_keras, each layer's entry edited to what older versions wrote."""
    randomised(model).save(path)
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        for entry in every(config):
            edit(entry)
        file.attrs["model_config"] = json.dumps(config).encode()
        for owner in (file, file["model_weights"]):
            owner.attrs["keras_version"] = version.encode()
    return path


def every(value: Any) -> Any:
    if isinstance(value, dict):
        if "class_name" in value and isinstance(value.get("config"), dict):
            yield value
        for inner in list(value.values()):
            yield from every(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every(inner)


def same(path: Path, model: Any, *arrays: Any, **options: Any) -> tuple[str, ...]:
    """Assert that the file gives what the model gives; what was said about it."""
    found, notes = run(path, *arrays, **options)
    wanted = model(list(arrays) if len(arrays) > 1 else arrays[0], training=False)
    for mine, theirs in zip(found, wanted if isinstance(wanted, list) else [wanted], strict=True):
        np.testing.assert_allclose(mine, np.asarray(theirs), atol=1e-5)
    return notes


def test_layers_of_cudnn_become_those_of_the_cpu(tmp_path: Path) -> None:
    import tf_keras as keras
    from tf_keras.src.saving.legacy.hdf5_format import _convert_rnn_weights

    layers = keras.layers
    model = keras.Sequential(
        [layers.LSTM(4, input_shape=(5, 3), return_sequences=True, name="a"), layers.GRU(4, name="b")]
    )

    def edit(entry: Config) -> None:
        if entry["class_name"] in ("LSTM", "GRU"):
            entry["class_name"] = f"CuDNN{entry['class_name']}"
            for key in ("activation", "recurrent_activation", "use_bias", "reset_after", "unroll"):
                entry["config"].pop(key, None)

    path = keras_2(tmp_path / "m.h5", model, edit)
    with h5py.File(path, "a") as file:
        for rnn in model.layers:
            group = file["model_weights"][rnn.name]
            likeness = type(f"CuDNN{type(rnn).__name__}", (), {})()
            values = _convert_rnn_weights(likeness, rnn.get_weights())
            for name, value in zip(group.attrs["weight_names"], values, strict=True):
                del group[name]
                group[name] = value
    same(path, model, numbers(2, 5, 3))


@pytest.mark.parametrize(
    ("library", "suffix"), [("tf_keras", "h5"), ("tf_keras", "keras"), ("keras", "keras")]
)
def test_mixed_precision_computes_in_the_type_of_the_variables(
    library: str, suffix: str, tmp_path: Path
) -> None:
    """TFLite has no kernels for half floats, and no float32 artifact equals what was rounded to 11 bits."""
    import importlib

    keras = importlib.import_module(library)

    def network(policy: str) -> Any:
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                layers.Conv2D(4, 3, activation="relu", dtype=policy),
                layers.BatchNormalization(dtype=policy),
                layers.Flatten(dtype=policy),
                layers.Dense(2, dtype="float32"),
            ]
        )

    mixed, plain = randomised(network("mixed_float16")), network("float32")
    mixed.save(tmp_path / f"m.{suffix}")
    plain.set_weights(mixed.get_weights())

    notes = same(tmp_path / f"m.{suffix}", plain, numbers(2, 6, 6, 3))
    assert any("3 layers of mixed precision (mixed_float16) compute in float32" in note for note in notes)


def test_a_gru_of_keras_2_0_resets_before_the_product(tmp_path: Path) -> None:
    import tf_keras as keras

    gru = keras.layers.GRU(
        4, reset_after=False, use_bias=False, recurrent_activation="hard_sigmoid", input_shape=(5, 3)
    )
    model = keras.Sequential([gru])
    path = keras_2(tmp_path / "m.h5", model, lambda entry: entry["config"].pop("reset_after", None), "2.0.8")
    same(path, model, numbers(2, 5, 3))


def test_names_that_everybody_knows_need_no_code(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras as keras

    def h_swish(x: Any) -> Any:
        return x * tf.nn.relu6(x + 3) / 6

    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.ReLU(6.0)(keras.layers.Conv2D(4, 3)(image))
    x = keras.layers.Activation(h_swish)(x)
    x = keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3)(x))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))

    def edit(entry: Config) -> None:
        name = entry["config"].get("name")
        if entry["class_name"] == "ReLU":
            entry.update(class_name="Activation", config={"name": name, "activation": "relu6"})
        if entry["class_name"] == "BatchNormalization":
            entry["class_name"] = "BatchNormalizationV1"
        if entry["class_name"] == "Functional":
            entry["class_name"] = "Model"

    notes = same(keras_2(tmp_path / "m.h5", model, edit), model, numbers(1, 8, 8, 3))
    assert notes == ("the activation 'h_swish' is not in the file: x * relu6(x + 3) / 6 was taken",)


def test_what_only_training_needs_may_be_of_the_authors_own(tmp_path: Path) -> None:
    import tf_keras as keras

    class Trainer(keras.Model):  # type: ignore[misc,name-defined]
        pass

    x = keras.Input((3,), name="x")
    model = Trainer(x, keras.layers.Dense(4, kernel_regularizer="l2")(x))

    def edit(entry: Config) -> None:
        for key in entry["config"]:
            if key.endswith(("initializer", "regularizer")):
                entry["config"][key] = {"class_name": "OfMine", "config": {}}

    notes = same(keras_2(tmp_path / "m.h5", model, edit), model, numbers(2, 3))
    assert "class 'Trainer' is not in the file" in notes[0]


def test_models_in_models_shared_layers_and_names_of_any_letters(tmp_path: Path) -> None:
    import tf_keras as keras

    layers = keras.layers
    a, b = keras.Input((4,), name="größe 1"), keras.Input((4,), name="b/x")
    shared = layers.Dense(3, name="shared")
    inner = keras.Sequential([layers.Dense(4, input_shape=(9,)), layers.LeakyReLU(0.1), layers.PReLU()])
    joined = layers.Concatenate()([shared(a), shared(b), layers.Multiply()([shared(a), shared(b)])])
    model = keras.Model([a, b], [inner(joined), layers.Dot(1)([shared(a), shared(b)])])

    def edit(entry: Config) -> None:
        if entry["class_name"] == "LeakyReLU":
            entry["config"]["alpha"] = {"type": "ndarray", "value": 0.1}

    path = keras_2(tmp_path / "m.h5", model, edit, "2.1.6-tf")
    same(path, model, numbers(2, 4), numbers(2, 4, seed=1))


def test_resizing_that_tensorflow_1_did_otherwise_is_said(tmp_path: Path) -> None:
    import tf_keras as keras

    up = keras.layers.UpSampling2D(2, interpolation="bilinear", name="up", input_shape=(3, 3, 2))
    model = keras.Sequential([up])
    assert "resizing of up" in same(keras_2(tmp_path / "m.h5", model), model, numbers(1, 3, 3, 2))[0]
    assert same(keras_2(tmp_path / "n.h5", model, version="2.4.0"), model, numbers(1, 3, 3, 2)) == ()


def test_channels_first_run_on_a_cpu(tmp_path: Path) -> None:
    import tf_keras as keras

    first = {"data_format": "channels_first"}
    model = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, padding="same", strides=2, input_shape=(3, 8, 8), **first),
            keras.layers.BatchNormalization(axis=1),
            keras.layers.MaxPooling2D(2, **first),
        ]
    )
    path = keras_2(tmp_path / "m.h5", model)
    image = numbers(1, 3, 8, 8)
    (found,), _ = run(path, image)
    conv, norm, _ = model.layers
    last = keras.Sequential([keras.layers.Conv2D(4, 3, padding="same", strides=2, input_shape=(8, 8, 3))])
    last.set_weights(conv.get_weights())
    gamma, beta, mean, variance = norm.get_weights()
    slid = np.asarray(last(image.transpose(0, 2, 3, 1)))
    slid = (slid - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta
    wanted = slid.reshape(1, 2, 2, 2, 2, 4).max((2, 4)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# What a person supplies ----------------------------------------------------------------------------------

SCALE = """
from keras import backend as K
from {place} import Layer
import tensorflow as tf

def twice(x):
    return x * 2.0

class Scale(Layer):
    def __init__(self, k=1.0, **kwargs):
        super().__init__(**kwargs)
        self.k = k
    def call(self, x):
        return tf.keras.backend.sigmoid(x) * self.k
"""


def scaled(keras: Any) -> Any:
    @keras.saving.register_keras_serializable(package="Mine")
    class Scale(keras.layers.Layer):  # type: ignore[misc,name-defined]
        def __init__(self, k: float = 1.0, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.k = k

        def call(self, x: Any) -> Any:
            return 1 / (1 + keras.backend.exp(-x) if hasattr(keras.backend, "exp") else keras.ops.exp(-x) + 1)

        def get_config(self) -> Config:
            return {**super().get_config(), "k": self.k}

    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(4), Scale(3.0)])
    keras.saving.get_custom_objects().clear()
    return model


@pytest.mark.parametrize(
    ("library", "suffix", "place"),
    [
        ("tf_keras", ".h5", "keras.engine.topology"),
        ("tf_keras", ".keras", "tensorflow.keras.layers"),
        ("keras", ".h5", "keras.layers"),
        ("keras", ".keras", "tensorflow.keras.layers"),
    ],
)
def test_custom_layers_come_from_the_module_that_is_named(
    tmp_path: Path, library: str, suffix: str, place: str
) -> None:
    import importlib

    model = scaled(importlib.import_module(library))
    path = tmp_path / f"m{suffix}"
    model.save(path)
    with pytest.raises(UsageError, match="Scale") as caught:
        run(path, numbers(2, 3))
    assert "--custom-objects" in (caught.value.hint or "")
    (tmp_path / "mine.py").write_text(SCALE.format(place=place))
    (found,), _ = run(path, numbers(2, 3), custom_objects=str(tmp_path / "mine.py"))
    before = np.asarray(model.layers[-2](numbers(2, 3)))
    np.testing.assert_allclose(found, 3 / (1 + np.exp(-before)), atol=1e-5)


def lambdas() -> Any:
    import tf_keras as keras

    twice = keras.layers.Lambda(lambda x: x * 2.0, name="twice")
    return keras.Sequential([keras.layers.Dense(4, input_shape=(3,)), twice])


def test_the_code_of_a_lambda_layer_runs_only_where_it_is_trusted(tmp_path: Path) -> None:
    model = lambdas()
    path = keras_2(tmp_path / "m.h5", model)
    with pytest.raises(UntrustedModelError, match="'twice'"):
        run(path, numbers(2, 3))
    same(path, model, numbers(2, 3), trust=True)


def test_the_code_of_a_lambda_layer_knows_what_people_import(tmp_path: Path) -> None:
    import tf_keras as keras

    base = keras.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    first, second = keras.Input((3,)), keras.Input((3,))
    apart = keras.layers.Lambda(lambda pair: abs(pair[0] - pair[1]))([base(first), base(second)])
    model = keras.Model([first, second], apart)
    path = keras_2(tmp_path / "m.h5", model)
    code = compile("lambda pair: K.abs(pair[0] - pair[1])", "script", "eval").co_consts[0]
    _set_code(path, code)

    same(path, model, numbers(2, 3), numbers(2, 3, seed=1), trust=True)


def _set_code(path: Path, code: Any) -> None:
    import base64
    import marshal

    text = base64.encodebytes(marshal.dumps(code)).decode("ascii")
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        for entry in every(config):
            if entry["class_name"] == "Lambda":
                entry["config"]["function"] = [text, None, None]
        file.attrs["model_config"] = json.dumps(config).encode()


def test_a_lambda_layer_is_replaced_by_a_function_of_its_name(tmp_path: Path) -> None:
    model = lambdas()
    (tmp_path / "mine.py").write_text("def twice(x):\n    return x + x\n")
    path = keras_2(tmp_path / "m.h5", model)
    assert "'twice'" in same(path, model, numbers(2, 3), custom_objects=str(tmp_path / "mine.py"))[0]


def test_code_of_another_python_is_said_to_be_that(tmp_path: Path) -> None:
    def edit(entry: Config) -> None:
        if entry["class_name"] == "Lambda":
            # How Python 2.7 began a code object: no code object of today begins so.
            entry["config"]["function"] = ["c\x01\x00\x00\x00\x01\x00\x00\x00", None, None]

    path = keras_2(tmp_path / "m.h5", lambdas(), edit)
    with pytest.raises(ConversionError, match="another version of Python") as caught:
        run(path, numbers(2, 3), trust=True)
    assert "a function with the layer's name: --custom-objects" in (caught.value.hint or "")


def test_a_custom_layer_without_get_config_names_what_is_lacking(tmp_path: Path) -> None:
    import tf_keras as keras

    class Bare(keras.layers.Layer):  # type: ignore[misc,name-defined]
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)

        def get_config(self) -> Any:
            return super().get_config()

        def call(self, x: Any) -> Any:
            return x

    path = keras_2(tmp_path / "m.h5", keras.Sequential([keras.layers.Dense(4, input_shape=(3,)), Bare(3)]))
    (tmp_path / "mine.py").write_text(
        "from keras.layers import Layer\nclass Bare(Layer):\n"
        "    def __init__(self, units, **kwargs):\n        super().__init__(**kwargs)\n"
    )
    with pytest.raises(UsageError, match="'Bare' cannot be made again: its argument 'units'") as caught:
        run(path, numbers(2, 3), custom_objects=str(tmp_path / "mine.py"))
    assert "get_config" in (caught.value.why or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [("import nowhere\n", "cannot be imported"), ("_x = 1\n", "no class and no function")],
)
def test_a_module_of_custom_objects_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        run(keras_2(tmp_path / "m.h5", lambdas()), numbers(2, 3), custom_objects=str(tmp_path / "mine.py"))


# Weights alone ---------------------------------------------------------------------------------------------

BUILDER = """
import {library} as keras
def build():
    layers = [keras.Input((3,), name='x'), keras.layers.Dense(4, name='a'),
              keras.layers.BatchNormalization(name='b'), keras.layers.Dense({units}, name='y')]
    return keras.Sequential(layers)
"""


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("keras", "w.weights.h5"),
        ("keras", "w.params"),
        ("tf_keras", "w.h5"),
        ("tf_keras", "w.weights.h5"),
        ("tf_keras", "w.params"),
    ],
)
def test_weights_alone_take_an_architecture_or_a_builder(tmp_path: Path, library: str, name: str) -> None:
    scope: dict[str, Any] = {}
    code = BUILDER.format(library=library, units=2)
    exec(code, scope)
    model = randomised(scope["build"]())
    written = tmp_path / (name if name.endswith(".h5") else "other.weights.h5")
    model.save_weights(written)
    path = written.rename(tmp_path / name)
    with pytest.raises(InvalidModelError, match="weights but no model") as caught:
        run(path, numbers(2, 3))
    assert "--config model.json" in (caught.value.hint or "")
    (tmp_path / "model.json").write_text(model.to_json())
    same(path, model, numbers(2, 3), config=str(tmp_path / "model.json"))
    (tmp_path / "build.py").write_text(code)
    same(path, model, numbers(2, 3), model_builder=f"{tmp_path / 'build.py'}:build")
    (tmp_path / "build.py").write_text(BUILDER.format(library=library, units=5))
    with pytest.raises(EdgeconvError) as wrong:
        run(path, numbers(2, 3), model_builder=f"{tmp_path / 'build.py'}:build")
    assert wrong.value.hint


def test_the_weights_of_a_whole_model_go_into_what_a_builder_builds(tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(BUILDER.format(library="keras", units=2), scope)
    model = randomised(scope["build"]())
    model.save(tmp_path / "m.keras")
    (tmp_path / "build.py").write_text(BUILDER.format(library="keras", units=2))
    same(tmp_path / "m.keras", model, numbers(2, 3), model_builder=f"{tmp_path / 'build.py'}:build")


YAML = """
backend: tensorflow
class_name: Sequential
config:
- class_name: Conv2D
  config:
    batch_input_shape: !!python/tuple [null, 4, 4, 1]
    filters: 2
    kernel_size: !!python/tuple [3, 3]
    name: conv
- class_name: Flatten
  config: {name: flat}
keras_version: 2.0.8
"""


def test_an_architecture_in_yaml_is_data_and_nothing_else(tmp_path: Path) -> None:
    import tf_keras as keras

    conv = keras.layers.Conv2D(2, 3, input_shape=(4, 4, 1), name="conv")
    model = randomised(keras.Sequential([conv, keras.layers.Flatten()]))
    model.save_weights(tmp_path / "w.h5")
    (tmp_path / "m.yaml").write_text(YAML)
    same(tmp_path / "w.h5", model, numbers(1, 4, 4, 1), config=str(tmp_path / "m.yaml"))
    (tmp_path / "m.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UsageError, match="neither JSON nor plain YAML"):
        run(tmp_path / "w.h5", numbers(1, 4, 4, 1), config=str(tmp_path / "m.yaml"))


def test_weights_of_another_model_say_where_they_differ(tmp_path: Path) -> None:
    import tf_keras as keras

    def dense(units: int) -> Any:
        return keras.Sequential([keras.layers.Dense(units, input_shape=(3,), name="d")])

    dense(2).save_weights(tmp_path / "w.h5")
    (tmp_path / "m.json").write_text(dense(5).to_json())
    with pytest.raises(ConversionError, match="do not fit at the layer 'd'") as caught:
        run(tmp_path / "w.h5", numbers(1, 3), config=str(tmp_path / "m.json"))
    assert "[3, 5]" in (caught.value.why or "")
    assert "[3, 2]" in (caught.value.why or "")
