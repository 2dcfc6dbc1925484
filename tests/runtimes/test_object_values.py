"""SavedModels that take the values of an object checkpoint: by path, by name, in part, or not at all."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.conversions.base import ConversionJob
from edgeconv.conversions.frozen_graph_from_saved_model import CONVERSION
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Artifact
from edgeconv.formats.saved_model import FORMAT
from edgeconv.recipe.contracts import source_contract
from edgeconv.runtimes.tensorflow_graph import RUNTIME as GRAPH
from edgeconv.runtimes.tensorflow_saved_model import RUNTIME

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def network(library: Any, units: int = 3, more: bool = False) -> Any:
    layers = library.layers
    body = [library.Input((4,), name="x"), layers.Dense(units, name="a"), layers.BatchNormalization(name="b")]
    return library.Sequential([*body, *([layers.Dense(2, name="extra")] if more else []), layers.Dense(2)])


def trained(library: Any, seed: int, **how: Any) -> Any:
    """A network after a step of training, all its variables different."""
    library.utils.set_random_seed(seed)
    model = network(library, **how)
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4), "float32") * seed, np.ones((4, 2), "float32"), verbose=0)
    return model


def outputs(folder: Path, tmp_path: Path, **options: Any) -> tuple[list[Any], tuple[str, ...]]:
    """What the SavedModel gives when run, and frozen, with these options."""
    contract = source_contract(FORMAT, FORMAT.describe(folder))
    with RUNTIME.open(folder, contract, options=options) as session:
        (run,) = session.infer({session.inputs[0].name: X}).values()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = Artifact(folder, "saved_model", "fp32", "", contract)
    made = CONVERSION.convert(ConversionJob(source, tmp_path / "f.pb", "fp32", scratch, None, options))
    with GRAPH.open(tmp_path / "f.pb", made.contract) as session:
        (frozen,) = session.infer({session.inputs[0].name: X}).values()
    return [run, frozen], made.notes


@pytest.mark.parametrize(
    ("library", "root"), [("tf_keras", "model"), ("tf_keras", ""), ("tf_keras", "net"), ("keras", "model")]
)
def test_the_checkpoint_of_the_same_model_replaces_all_values(
    tmp_path: Path, library: str, root: str
) -> None:
    import tensorflow as tf

    keras = importlib.import_module(library)
    keras.backend.clear_session()
    first = trained(keras, 1)
    if library == "keras":
        first.export(tmp_path / "m", verbose=False)
    else:
        first.save(tmp_path / "m", save_format="tf")
    for variable in first.weights:  # trained on
        variable.assign(variable + 0.25)
    extra = {"optimizer": first.optimizer} if root else {}
    checkpoint = tf.train.Checkpoint(**{root: first}, **extra) if root else tf.train.Checkpoint(first)
    checkpoint.write(str(tmp_path / "w"))
    found, notes = outputs(tmp_path / "m", tmp_path, checkpoint=str(tmp_path / "w"))
    for value in found:
        np.testing.assert_allclose(value, np.asarray(first(X, training=False)), atol=1e-5)
    assert "have the values of the checkpoint 'w'" in notes[0]


def test_only_what_a_pattern_matches_is_replaced(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    first, second = trained(tf_keras, 1), trained(tf_keras, 2)
    first.save(tmp_path / "m", save_format="tf")
    tf.train.Checkpoint(model=second).write(str(tmp_path / "w"))
    options = {"checkpoint": str(tmp_path / "w"), "restore": ["^b/"]}
    found, notes = outputs(tmp_path / "m", tmp_path, **options)
    first.layers[1].set_weights(second.layers[1].get_weights())
    for value in found:
        np.testing.assert_allclose(value, np.asarray(first(X, training=False)), atol=1e-5)
    assert "4 of 8 variables" in notes[0]
    with pytest.raises(UsageError, match="--restore matches no variable"):
        RUNTIME.open(tmp_path / "m", None, options={**options, "restore": ["nowhere"]})


@pytest.mark.parametrize("how", [{"units": 5}, {"more": True}])
def test_the_checkpoint_of_another_model_says_what_is_missing_and_left_over(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    import tensorflow as tf
    import tf_keras

    trained(tf_keras, 1).save(tmp_path / "m", save_format="tf")
    tf.train.Checkpoint(model=trained(tf_keras, 2, **how)).write(str(tmp_path / "w"))
    message = "variables of the checkpoint have no place" if "more" in how else "variables get no value"
    with pytest.raises(ConversionError, match=message) as caught:
        RUNTIME.open(tmp_path / "m", None, options={"checkpoint": str(tmp_path / "w")})
    assert ("missing in the checkpoint" in (caught.value.why or "")) == ("units" in how)
    assert "left over in it: model/layer_with_weights-" in (caught.value.why or "")
    assert "--restore PATTERN" in (caught.value.hint or "")
