"""Files of Keras 1 give the numbers that Keras 1 gave: converted exactly, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeconv.errors import ConversionError, UsageError
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
