"""The formulas of what tensors are worth in inference, against TensorFlow's own ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.runtimes.formulas import FORMULAS

RNG = np.random.default_rng(11)


def vectors(size: int) -> list[Any]:
    mean, scale, offset = (RNG.normal(size=size).astype("float32") for _ in range(3))
    return [scale, offset, mean, RNG.uniform(0.1, 2.0, size).astype("float32")]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_batch_norm(dtype: str, epsilon: float) -> None:
    import tensorflow as tf

    x = RNG.normal(size=(2, 3, 4, 5)).astype(dtype)
    scale, offset, mean, variance = vectors(5)
    expected = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=epsilon, is_training=False
    ).y.numpy()
    found = FORMULAS["batch_norm"]([x, scale, offset, mean, variance], {"epsilon": epsilon})
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-2 if dtype == "float16" else 1e-5)


def test_batch_norm_with_channels_first() -> None:
    x = RNG.normal(size=(2, 5, 3, 4)).astype("float32")
    taken = vectors(5)
    last = FORMULAS["batch_norm"]([x.transpose(0, 2, 3, 1), *taken], {"epsilon": 1e-3})
    first = FORMULAS["batch_norm"]([x, *taken], {"epsilon": 1e-3, "channels_first": True})
    np.testing.assert_array_equal(first, last.transpose(0, 3, 1, 2))


def test_constant() -> None:
    assert FORMULAS["constant"]([], {"value": False, "dtype": "bool"}).dtype == bool
    filled = FORMULAS["constant"]([], {"value": 1.0, "dtype": "float32", "shape": [2, 1]})
    np.testing.assert_array_equal(filled, np.ones((2, 1), "float32"))


def test_identity_and_reshape() -> None:
    x = RNG.normal(size=3)
    assert FORMULAS["identity"]([x], {}) is x
    assert FORMULAS["reshape"]([x], {"shape": [1, 1, -1]}).shape == (1, 1, 3)
