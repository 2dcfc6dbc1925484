"""Keras files of all generations give the numbers of the model that was saved, or say what to supply."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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


# Keras 1 -----------------------------------------------------------------------------------------------


def keras_1(
    path: Path,
    layers: Sequence[Config] | Config,
    weights: dict[str, list[Any]],
    backend: str | None = "tensorflow",
    version: str | None = "1.2.2",
) -> Path:
    """A file as Keras 1 wrote it: a list of layers is a Sequential model."""
    config = layers if isinstance(layers, dict) else {"class_name": "Sequential", "config": list(layers)}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for owner in (file, group):
            if version is not None:
                owner.attrs["keras_version"] = version.encode()
        if backend is not None:
            group.attrs["backend"] = backend.encode()
        for name, values in weights.items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [f"{name}_{i}".encode() for i in range(len(values))]
            for i, value in enumerate(values):
                inner[f"{name}_{i}"] = value
    return path


def layer(kind: str, name: str, **settings: Any) -> Config:
    return {"class_name": kind, "config": {"name": name, **settings}}


def dense(name: str, units: int, **settings: Any) -> Config:
    old = {"init": "glorot_uniform", "activation": "linear", "W_regularizer": None, "bias": True}
    return layer("Dense", name, output_dim=units, **old, **settings)


def correlated(image: Any, kernel: Any) -> Any:
    """A valid correlation of (rows, columns, in) with (rows, columns, in, out)."""
    rows, columns = (image.shape[d] - kernel.shape[d] + 1 for d in (0, 1))
    return sum(
        image[i : i + rows, j : j + columns] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )


CONVOLUTION = layer(
    "Convolution2D",
    "conv",
    nb_filter=3,
    nb_row=3,
    nb_col=2,
    border_mode="valid",
    subsample=[1, 1],
    dim_ordering="th",
    init="glorot_uniform",
    activation="linear",
    bias=True,
    W_regularizer=None,
    batch_input_shape=[None, 2, 6, 5],
    input_dtype="float32",
)


@pytest.mark.parametrize(("backend", "turned"), [("tensorflow", False), ("theano", True)])
def test_kernels_of_theano_are_turned_around_and_filters_come_last(
    tmp_path: Path, backend: str, turned: bool
) -> None:
    image, kernel, bias = numbers(1, 2, 6, 5), numbers(3, 2, 3, 2), numbers(3)
    path = keras_1(tmp_path / "m.h5", [CONVOLUTION], {"conv": [kernel, bias]}, backend)
    (found,), notes = run(path, image)
    used = kernel.transpose(2, 3, 1, 0)
    wanted = correlated(image[0].transpose(1, 2, 0), used[::-1, ::-1] if turned else used) + bias
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), wanted, atol=1e-5)
    assert any("turned around" in note for note in notes) == turned


def test_an_old_file_that_does_not_say_its_backend_asks_where_it_matters(tmp_path: Path) -> None:
    image, kernel, bias = numbers(1, 2, 6, 5), numbers(3, 2, 3, 2), numbers(3)
    path = keras_1(tmp_path / "m.h5", [CONVOLUTION], {"conv": [kernel, bias]}, None, None)
    with pytest.raises(UsageError, match="Theano or with TensorFlow") as caught:
        run(path, image)
    assert "--keras-backend theano" in (caught.value.hint or "")
    (given,), _ = run(path, image, keras_backend="theano")
    named = keras_1(tmp_path / "n.h5", [CONVOLUTION], {"conv": [kernel, bias]}, "theano")
    np.testing.assert_array_equal(given, run(named, image)[0][0])
    with pytest.raises(UsageError, match="contradicts the file"):
        run(named, image, keras_backend="tensorflow")


def recurrent(
    kind: str, steps: Any, kernels: Sequence[Any], states: Sequence[Any], biases: Sequence[Any]
) -> Any:
    """The last state of an LSTM (gates i, c, f, o) or GRU (z, r, h) of Keras 1."""

    def gate(x: Any) -> Any:
        return np.clip(0.2 * x + 0.5, 0, 1)

    h = c = np.zeros(states[0].shape[0])
    for x in steps:
        parts = [x @ kernel + bias for kernel, bias in zip(kernels, biases, strict=True)]
        if kind == "LSTM":
            i, new, f, o = (part + h @ state for part, state in zip(parts, states, strict=True))
            c = gate(f) * c + gate(i) * np.tanh(new)
            h = gate(o) * np.tanh(c)
        else:
            z, r = gate(parts[0] + h @ states[0]), gate(parts[1] + h @ states[1])
            h = z * h + (1 - z) * np.tanh(parts[2] + (r * h) @ states[2])
    return h


RECURRENT = {
    "init": "glorot_uniform",
    "inner_init": "orthogonal",
    "activation": "tanh",
    "inner_activation": "hard_sigmoid",
    "W_regularizer": None,
    "dropout_W": 0.1,
    "dropout_U": 0.1,
    "return_sequences": False,
    "go_backwards": False,
    "consume_less": "cpu",
    "input_dim": 3,
}


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
@pytest.mark.parametrize("both_ways", [False, True])
def test_gates_that_keras_1_stored_apart_are_joined(
    tmp_path: Path, kind: str, gates: int, both_ways: bool
) -> None:
    steps = numbers(5, 3)
    ways = [
        [[numbers(*shape, seed=10 * way + gate) for gate in range(gates)] for shape in ((3, 4), (4, 4), (4,))]
        for way in range(2 if both_ways else 1)
    ]
    stored = [array for way in ways for trio in zip(*way, strict=True) for array in trio]
    inner = layer(kind, "rnn", output_dim=4, **RECURRENT)
    inner["config"].update({"forget_bias_init": "one"} if kind == "LSTM" else {})
    model = layer("Bidirectional", "both", layer=inner, merge_mode="concat") if both_ways else inner
    model["config"]["batch_input_shape"] = [None, 5, 3]
    path = keras_1(tmp_path / "m.h5", [model], {model["config"]["name"]: stored})
    (found,), _ = run(path, steps[None])
    turned = [steps, steps[::-1]]
    wanted = np.concatenate([recurrent(kind, turned[n], *way) for n, way in enumerate(ways)])
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_a_sequential_model_that_begins_with_a_merge_becomes_one_of_several_inputs(tmp_path: Path) -> None:
    a, b, top = numbers(3, 2), numbers(4, 2), numbers(4, 1)
    zeros = np.zeros(2, "float32")
    merge = layer(
        "Merge",
        "merge_1",
        mode="concat",
        mode_type="raw",
        concat_axis=-1,
        dot_axes=-1,
        arguments={},
        layers=[
            {"class_name": "Sequential", "config": [dense(name, 2, batch_input_shape=[None, size])]}
            for name, size in (("a", 3), ("b", 4))
        ],
    )
    weights = {"a": [a, zeros], "b": [b, zeros], "merge_1": [], "top": [top, np.ones(1, "float32")]}
    path = keras_1(tmp_path / "m.h5", [merge, dense("top", 1)], weights)
    left, right = numbers(2, 3, seed=1), numbers(2, 4, seed=1)
    (found,), _ = run(path, left, right)
    np.testing.assert_allclose(found, np.concatenate([left @ a, right @ b], 1) @ top + 1, atol=1e-5)


def test_text_layers_of_keras_1(tmp_path: Path) -> None:
    table, kernel, bias, dense_kernel = numbers(10, 3), numbers(2, 1, 3, 4), numbers(4), numbers(4, 2)
    layers = [
        layer("Embedding", "embed", input_dim=10, output_dim=3, input_length=6, init="uniform", dropout=0.2)
        | {},
        layer("Convolution1D", "conv", nb_filter=4, filter_length=2, border_mode="valid", subsample_length=1),
        layer("MaxPooling1D", "pool", pool_length=2, stride=2, border_mode="valid"),
        layer("TimeDistributedDense", "each", output_dim=2, activation="linear", bias=True),
    ]
    layers[0]["config"].update(batch_input_shape=[None, 6], input_dtype="int32", mask_zero=False)
    weights = {"embed": [table], "conv": [kernel, bias], "pool": [], "each": [dense_kernel, bias[:2]]}
    ids = np.array([[1, 2, 3, 4, 5, 9]], "int32")
    (found,), _ = run(keras_1(tmp_path / "m.h5", layers, weights), ids)
    rows = table[ids[0]]
    slid = np.array([rows[i] @ kernel[0, 0] + rows[i + 1] @ kernel[1, 0] for i in range(5)]) + bias
    pooled = slid[:4].reshape(2, 2, 4).max(1)
    np.testing.assert_allclose(found[0], pooled @ dense_kernel + bias[:2], atol=1e-5)


def normalised(mode: int, merge: str = "sum") -> Config:
    def node(entry: Config, *sources: str) -> Config:
        return {**entry, "name": entry["config"]["name"], "inbound_nodes": [[[s, 0, 0] for s in sources]]}

    start = layer("InputLayer", "x", batch_input_shape=[None, 3], input_dtype="float32", sparse=False)
    norm = layer("BatchNormalization", "norm", epsilon=1e-3, mode=mode, axis=-1, momentum=0.99)
    added = layer("Merge", "both", mode=merge, mode_type="raw", concat_axis=-1, dot_axes=-1, layers=[])
    layers = [{**start, "name": "x", "inbound_nodes": []}, node(norm, "x"), node(added, "norm", "x")]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["both", 0, 0]]}
    return {"class_name": "Model", "config": {"name": "m", "layers": layers, **ends}}


def test_a_functional_model_of_keras_1(tmp_path: Path) -> None:
    gamma, beta, mean, variance = (
        numbers(3),
        numbers(3, seed=1),
        numbers(3, seed=2),
        np.ones(3, "float32") / 2,
    )
    weights = {"x": [], "norm": [gamma, beta, mean, variance], "both": []}
    x = numbers(2, 3)
    (found,), _ = run(keras_1(tmp_path / "m.h5", normalised(0), weights), x)
    wanted = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta + x
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (normalised(2), "'norm' normalises by the statistics of what it is given"),
        (normalised(0, "cos"), "'both' merges by 'cos'"),
        ({"class_name": "Graph", "config": {}}, "'Graph' of Keras 0"),
    ],
)
def test_what_keras_2_has_no_word_for_is_refused(tmp_path: Path, config: Config, message: str) -> None:
    path = keras_1(tmp_path / "m.h5", config, {"norm": [numbers(3)] * 4})
    with pytest.raises(ConversionError, match=message) as caught:
        run(path, numbers(1, 3))
    assert "--model-builder" in (caught.value.hint or "")


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
