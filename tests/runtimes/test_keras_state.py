"""Recurrent layers that keep their state between calls begin each one anew, and it is said."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.runtimes._programs import ProgramSession, program_of_keras

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


@pytest.mark.parametrize("library", ["tf_keras", "keras"])
def test_a_stateful_model_gives_the_same_twice_and_stays_stateful(library: str, tmp_path: Path) -> None:
    keras = importlib.import_module(library)
    layers = keras.layers

    def network(stateful: bool) -> Any:
        given = keras.Input((5, 3), batch_size=2)
        x = layers.LSTM(4, stateful=stateful, return_sequences=True, name="first")(given)
        return keras.Model(given, layers.Bidirectional(layers.GRU(3, stateful=stateful))(x))

    model, plain = network(True), network(False)
    plain.set_weights([w for w in model.get_weights() if w.shape != (2, 4) and w.shape != (2, 3)])

    program = program_of_keras(model, "m")
    with ProgramSession(program, "m") as session:
        name = session.inputs[0].name
        first, second = (next(iter(session.infer({name: X}).values())) for _ in range(2))

    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, np.asarray(plain(X)), atol=1e-6)
    assert "'first'" in program.notes[0]
    assert model.get_layer("first").stateful is True


def test_of_other_models_nothing_is_said() -> None:
    import tf_keras as keras

    model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])

    assert program_of_keras(model, "m").notes == ()
