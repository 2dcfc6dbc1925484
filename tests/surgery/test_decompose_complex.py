"""Complex tensors become pairs of real ones, and every output is what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_decompose_complex import rewrite
from tests.surgery.test_loops import graph_of, numbers, run


def spectrum(tf: Any, x: Any) -> Any:
    return tf.signal.stft(x, 64, 32)


CASES: dict[str, Callable[[Any, Any], Any]] = {
    "magnitude": lambda tf, x: tf.abs(spectrum(tf, x)),
    "power by the conjugate": lambda tf, x: tf.math.real(spectrum(tf, x) * tf.math.conj(spectrum(tf, x))),
    "angle": lambda tf, x: tf.math.angle(spectrum(tf, x)),
    "an odd length": lambda tf, x: tf.abs(tf.signal.rfft(x[:, :37])),
    "padded to a longer transform": lambda tf, x: tf.abs(tf.signal.stft(x, 50, 20, fft_length=64)),
    "there and back": lambda tf, x: tf.signal.inverse_stft(spectrum(tf, x), 64, 32),
    "back from an odd length": lambda tf, x: tf.signal.irfft(tf.signal.rfft(x[:, :37]), [37]),
    "all frequencies": lambda tf, x: tf.math.imag(tf.signal.fft(tf.cast(x[:, :24], tf.complex64))),
    "all frequencies and back": lambda tf, x: tf.math.real(
        tf.signal.ifft(tf.signal.fft(tf.complex(x[:, :24], x[:, 24:48])) / tf.complex(2.0, 1.0))
    ),
    "cosine transform": lambda tf, x: tf.signal.dct(x[:, :40], type=2, norm="ortho"),
    "cepstrum": lambda tf, x: tf.signal.mfccs_from_log_mel_spectrograms(
        tf.math.log(
            tf.abs(spectrum(tf, x)) @ tf.signal.linear_to_mel_weight_matrix(10, 33, 8000, 100.0, 3900.0) + 0.1
        )
    ),
    "parts taken and put together": lambda tf, x: tf.abs(
        tf.transpose(tf.concat([spectrum(tf, x)[:, ::2], spectrum(tf, x)[:, 1::2]], 1), [0, 2, 1])
    ),
    "rotated": lambda tf, x: tf.math.imag(tf.exp(tf.complex(0.0 * x, x)) + tf.square(tf.complex(x, 1.0 - x))),
}


def is_complex(graph: Graph) -> bool:
    import tensorflow as tf

    return any(
        value.type == tf.complex64.as_datatype_enum or node.op in ("RFFT", "IRFFT", "FFT", "IFFT")
        for node in graph.graph_def.node
        for value in node.attr.values()
    )


@pytest.mark.parametrize("shape", [(2, 416), (None, 416)], ids=["fixed", "open batch"])
@pytest.mark.parametrize("case", CASES)
def test_the_same_is_computed(case: str, shape: tuple[int | None, ...]) -> None:
    def build(tf: Any) -> Any:
        return [CASES[case](tf, tf.compat.v1.placeholder(tf.float32, shape, "x"))]

    graph = graph_of(build)
    feed = {"x": numbers(2, 416)}
    (before,) = run(graph, feed)
    (change,) = rewrite(graph)
    assert not change.warning
    assert not is_complex(graph)
    (after,) = run(graph, feed)
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=2e-5 * np.abs(before).max())
    assert rewrite(graph) == []


def left(build: Callable[[Any], Any]) -> Change:
    graph = graph_of(build)
    graph.prune()
    before = {node.name: node.SerializeToString(deterministic=True) for node in graph.graph_def.node}
    (change,) = rewrite(graph)
    assert change.warning
    assert {node.name: node.SerializeToString(deterministic=True) for node in graph.graph_def.node} == before
    return change


def test_all_is_left_where_one_op_is_in_the_way() -> None:
    def build(tf: Any) -> Any:
        made = tf.signal.rfft(tf.compat.v1.placeholder(tf.float32, [2, 16], "x"))
        return [tf.abs(tf.linalg.inv(made[None, :, :2]))]

    assert "MatrixInverse" in left(build).message


def test_a_length_that_is_not_known_is_said() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.complex64, [2, None], "x")
        return [tf.abs(tf.signal.fft(x))]

    assert "Placeholder" in left(build).message


def test_a_complex_output_is_left() -> None:
    def build(tf: Any) -> Any:
        return [tf.signal.rfft(tf.compat.v1.placeholder(tf.float32, [2, 16], "x"))]

    assert "output" in left(build).message
