"""Subclassed models of either Keras, as model builders return them: built or called, never saved."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from edgeconv.errors import UsageError
from edgeconv.runtimes._programs import ProgramSession, program_of_keras

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def network(library: str) -> Any:
    keras = importlib.import_module(library)

    class Net(keras.Model):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.drop = keras.layers.Dense(4), keras.layers.Dropout(0.5)

        def call(self, x: Any, training: bool = False) -> Any:
            hidden = self.first(x)
            return {"score": self.drop(hidden, training=training), "hidden": hidden}

    return Net()


@pytest.mark.parametrize("library", ["tf_keras", "keras"])
@pytest.mark.parametrize("way", ["called", "built"])
def test_what_it_was_called_with_or_built_for_are_its_inputs(library: str, way: str) -> None:
    model = network(library)
    if way == "called":
        model(X)
    else:
        model.build((None, 3))

    program = program_of_keras(model, "m")
    with ProgramSession(program, "m") as session:
        (spec,) = session.inputs
        found = session.infer({spec.name: X})

    assert spec.shape == (None, 3)
    assert sorted(found) == ["hidden", "score"]
    np.testing.assert_allclose(found["score"], np.asarray(model(X, training=False)["score"]), atol=1e-6)


@pytest.mark.parametrize("library", ["tf_keras", "keras"])
def test_a_model_that_nobody_called_says_what_to_do(library: str) -> None:
    with pytest.raises(UsageError, match="does not know its inputs") as caught:
        program_of_keras(network(library), "m")
    assert "model(tf.zeros([1" in (caught.value.hint or "")
