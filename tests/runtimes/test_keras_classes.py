"""What is said of a Keras file whose layers are of the author's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeconv.errors import UsageError
from edgeconv.runtimes._keras_loading import load_keras_program


def saved(path: Path, build: Any) -> Path:
    import tf_keras as keras

    given = keras.Input((6, 4))
    keras.Model(given, build(keras, given)).save(path)
    return path


def test_all_classes_that_are_missing_are_named_at_once(tmp_path: Path) -> None:
    def build(keras: Any, x: Any) -> Any:
        class Reflect(keras.layers.Layer):  # type: ignore[misc,name-defined]
            def __init__(self, padding: Any = (1, 1), **options: Any) -> None:
                self.padding = tuple(padding)
                super().__init__(**options)

            def get_config(self) -> Any:
                return {"padding": self.padding}  # as many do, without the name

        class Norm(keras.layers.Layer):  # type: ignore[misc,name-defined]
            pass

        return Norm()(keras.layers.Dense(3)(Reflect()(x)))

    with pytest.raises(
        UsageError, match="custom classes 'Reflect', 'Norm', which are not in the file"
    ) as caught:
        load_keras_program(saved(tmp_path / "m.h5", build), {})
    assert "--custom-objects" in (caught.value.hint or "")


def test_a_class_that_is_called_like_one_of_keras_is_told_from_it(tmp_path: Path) -> None:
    def build(keras: Any, x: Any) -> Any:
        class Attention(keras.layers.Layer):  # type: ignore[misc,name-defined]
            def __init__(self, step_dim: int, **options: Any) -> None:
                super().__init__(**options)
                self.step_dim = step_dim

            def get_config(self) -> Any:
                return {**super().get_config(), "step_dim": self.step_dim}

        return Attention(6)(x)

    with pytest.raises(UsageError, match="class 'Attention' is not Keras's own") as caught:
        load_keras_program(saved(tmp_path / "m.h5", build), {})
    assert "'step_dim'" in (caught.value.why or "")
