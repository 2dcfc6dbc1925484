"""Models of Keras 3 that ``tf.saved_model.save`` wrote: two handles a variable, one of them restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.formats._saved_model_functions import REBOUND, bind_variables
from edgeconv.runtimes._saved_model_reading import read_saved_model
from edgeconv.runtimes.tensorflow_saved_model import RUNTIME

X = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    import keras
    import tensorflow as tf

    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = keras.layers.Dense(4), keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return {"y": self.last(keras.ops.relu(self.first(x)))}

    model = Net()
    wanted = np.asarray(model(X)["y"])
    folder = tmp_path_factory.mktemp("keras_3") / "net"
    tf.saved_model.save(model, str(folder))
    return folder, wanted


def test_the_signature_runs_with_the_stored_values(saved: tuple[Path, Any]) -> None:
    folder, wanted = saved

    with RUNTIME.open(folder, None) as session:
        (found,) = session.infer({session.inputs[0].name: X}).values()

    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_calls_are_bound_once(saved: tuple[Path, Any]) -> None:
    (graph,) = read_saved_model(saved[0]).meta_graphs

    assert len(graph.collection_def[REBOUND].node_list.value) == 4
    assert bind_variables(graph) == 0


def test_what_plain_tensorflow_writes_stays_as_it_is(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(np.ones((3, 2), np.float32))
    module.f = tf.function(lambda x: x @ module.w, input_signature=[tf.TensorSpec([None, 3])])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f)

    (graph,) = read_saved_model(tmp_path / "m").meta_graphs

    assert REBOUND not in graph.collection_def
