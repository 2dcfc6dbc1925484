"""Checkpoints of TensorFlow 2 with an architecture in place of code: given, or stored beside the values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.runtimes._checkpoint_loading import load_checkpoint_program
from edgeconv.runtimes._programs import ProgramSession


def network(library: Any, units: int = 3) -> Any:
    library.utils.set_random_seed(5)
    layers = library.layers
    return library.Sequential(
        [library.Input((4,), name="x"), layers.Dense(units, name="a"), layers.Dense(2, name="y")]
    )


def with_entries(prefix: Path, entries: dict[str, Any]) -> Path:
    """The checkpoint with configurations beside its values, as Keras of TensorFlow 1 stored them."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(prefix))
    tensors = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    for owner, entry in entries.items():
        tensors[f"{owner}/.ATTRIBUTES/OBJECT_CONFIG_JSON"] = json.dumps(entry).encode()
    made = prefix.with_name("described")
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(made),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )
    (data,) = made.parent.glob("described.data*")
    assert data.is_file()
    return made


def same(path: Path, model: Any, **options: Any) -> tuple[str, ...]:
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    program, notes = load_checkpoint_program(path, options)
    with ProgramSession(program, str(path)) as session:
        (found,) = session.infer({session.inputs[0].name: x}).values()
    np.testing.assert_allclose(found, np.asarray(model(x)), atol=1e-6)
    return notes


@pytest.mark.parametrize("root", ["", "model"])
def test_the_model_that_lies_in_the_checkpoint_needs_no_code(tmp_path: Path, root: str) -> None:
    import tensorflow as tf
    import tf_keras

    model = network(tf_keras)
    checkpoint = tf.train.Checkpoint(model=model) if root else tf.train.Checkpoint(model)
    checkpoint.write(str(tmp_path / "w"))
    entry = {"class_name": "Sequential", "config": model.get_config()}
    parts = {f"{root}/layer-0".strip("/"): {"class_name": "Dense", "config": {"name": "a"}}}
    notes = same(with_entries(tmp_path / "w", {root: entry, **parts}), model)
    assert "lies in the checkpoint" in notes[0]


def test_layers_without_a_model_are_not_guessed_together(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    tf.train.Checkpoint(network(tf_keras)).write(str(tmp_path / "w"))
    parts = {f"layer-{n}": {"class_name": "Dense", "config": {"name": n}} for n in (0, 1)}
    with pytest.raises(UsageError, match="not how they are connected") as caught:
        load_checkpoint_program(with_entries(tmp_path / "w", parts), {})
    assert "layer-0 (Dense), layer-1 (Dense)" in (caught.value.why or "")
    assert "--config model.json" in (caught.value.hint or "")


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_an_architecture_that_is_given_takes_the_values(tmp_path: Path, library: str) -> None:
    import importlib

    import tensorflow as tf

    keras = importlib.import_module(library)
    model = network(keras)
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4), "float32"), np.ones((4, 2), "float32"), verbose=0)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "w"))
    (tmp_path / "m.json").write_text(model.to_json())
    same(tmp_path / "w", model, config=str(tmp_path / "m.json"))
    (tmp_path / "m.json").write_text(network(keras, units=7).to_json())
    with pytest.raises(ConversionError, match="do not fit") as caught:
        load_checkpoint_program(tmp_path / "w", {"config": str(tmp_path / "m.json")})
    assert "[4, 7]" in (caught.value.why or "")


def test_an_architecture_with_code_or_classes_of_its_own_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    tf.train.Checkpoint(network(tf_keras)).write(str(tmp_path / "w"))
    inner = {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wEA", None, None]}}
    entry = {"class_name": "Sequential", "config": {"name": "m", "layers": [inner]}}
    with pytest.raises(EdgeconvError, match="'evil' would run code"):
        load_checkpoint_program(with_entries(tmp_path / "w", {"": entry}), {})
    inner["class_name"] = "OfMine"
    with pytest.raises(UsageError, match="'OfMine'"):
        load_checkpoint_program(with_entries(tmp_path / "w", {"": entry}), {})


@pytest.mark.corpus
def test_a_real_checkpoint_of_tensorflow_1_12(corpus: Path) -> None:
    program, notes = load_checkpoint_program(corpus / "ckpt2-basecaller" / "training_10" / "cp.ckpt", {})
    assert [spec.shape for spec in program.inputs] == [(None, 26)]
    assert [spec.shape for spec in program.outputs] == [(None, 256)]
    assert notes
