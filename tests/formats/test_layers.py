"""Layers are read from files as they lie there, without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from surgery_models import network

from edgeconv.errors import UsageError
from edgeconv.formats.layers import layers_in


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("layers"))


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a frozen layer in a model within it, as ``.keras``, ``.h5``."""
    folder = tmp_path_factory.mktemp("nested")
    code = """
import keras, sys
i = keras.Input((8,))
b = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="first"),
                      keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(4, name="second")],
                     name="backbone")
m = keras.Model(i, keras.layers.Dense(2, name="top")(b(i)), name="net")
b.get_layer("first").trainable = False
m.save("m.keras"); m.save("m.h5")
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_layers_of_nested_models_with_what_is_frozen_in_them(nested: Path, name: str) -> None:
    told = {layer.name: layer for layer in layers_in(nested / name)}
    assert told["backbone/first"].trainable is False
    assert (told["backbone/first"].parameters, told["backbone/first"].trainable_parameters) == (36, 0)
    # Half of a normalisation are statistics, which no training step moves.
    assert (told["backbone/norm"].parameters, told["backbone/norm"].trainable_parameters) == (16, 8)
    assert (told["backbone/second"].parameters, told["top"].parameters) == (20, 10)
    assert told["top"].trainable is True


@pytest.mark.parametrize("name", ["net_model", "ckpt/net"])
def test_scopes_of_a_graph_of_tensorflow_1_by_its_collections(net: Path, name: str) -> None:
    told = {layer.name: (layer.parameters, layer.trainable_parameters) for layer in layers_in(net / name)}
    assert told == {
        "conv1": (216, 216), "bn1": (32, 16), "conv2": (438, 438), "bn2": (24, 12), "logits": (388, 388)
    }  # fmt: skip


def test_a_frozen_graph_has_no_layers_any_more(net: Path) -> None:
    with pytest.raises(UsageError, match="no layers and no variables") as error:
        layers_in(net / "net.pb")
    assert "edgeconv thaw" in (error.value.hint or "")


def test_listing_imports_no_tensorflow(net: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeconv.formats.layers import layers_in;"
        f"layers_in(Path({str(net / 'net_model')!r})); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
