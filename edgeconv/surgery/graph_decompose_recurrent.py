"""Fused recurrent cells, in the ops that they are made of (see ``graph_decompose``).

before:  x, cs, h ─▶ LSTMBlockCell ─▶ i, cs, f, o, ci, co, h
after:   concat(x, h) ─▶ MatMul ─▶ BiasAdd ─▶ Split ─▶ Sigmoid, Tanh ─▶ …

``BlockLSTM`` is as many cells as it has time steps. Formulas: documentation of the ops in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.surgery.graph_decompose import Decomposition, NotHere

_MOST_STEPS = 1024


def lstm_cell(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> Sequence[Any]:
    """``LSTMBlockCell``: gates in the order i, ci, f, o."""
    return _lstm(attributes, inputs, float(attributes["forget_bias"]), "icfo")


def _lstm(
    attributes: Mapping[str, Any], inputs: Sequence[Any], forget_bias: float, order: str
) -> Sequence[Any]:
    import tensorflow as tf

    x, cs_prev, h_prev, w, wci, wcf, wco, b = inputs
    gates = tf.split(tf.nn.bias_add(tf.matmul(tf.concat([x, h_prev], 1), w), b), 4, axis=1)
    named = dict(zip(order, gates, strict=True))
    peephole = attributes["use_peephole"]
    i = tf.sigmoid(named["i"] + cs_prev * wci if peephole else named["i"])
    forget = named["f"] + forget_bias if forget_bias else named["f"]
    f = tf.sigmoid(forget + cs_prev * wcf if peephole else forget)
    ci = tf.tanh(named["c"])
    cs = ci * i + cs_prev * f
    clip = float(attributes["cell_clip"])
    if clip > 0:
        cs = tf.minimum(tf.maximum(cs, -clip), clip)
    o = tf.sigmoid(named["o"] + cs * wco if peephole else named["o"])
    co = tf.tanh(cs)
    return [i, cs, f, o, ci, co, co * o]


def block_lstm(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> Sequence[Any]:
    """``BlockLSTM``: one cell a time step; the steps from ``seq_len_max`` on give zeros."""
    return _block(attributes, inputs, float(attributes["forget_bias"]), "icfo")


def block_lstm_v2(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> Sequence[Any]:
    """``BlockLSTMV2``: gates in the order i, f, ci, o, and no bias of its own."""
    return _block(attributes, inputs, 0.0, "ifco")


def _block(
    attributes: Mapping[str, Any], inputs: Sequence[Any], forget_bias: float, order: str
) -> Sequence[Any]:
    import tensorflow as tf

    most, x, cs, h, *weights = inputs
    steps = x.shape[0] if x.shape.rank is not None else None
    if not steps or steps > _MOST_STEPS:
        raise NotHere("a time of unknown length")
    known = tf.get_static_value(most)
    made: list[list[Any]] = []
    for step, each in enumerate(tf.unstack(x)):
        if known is not None and step >= int(known):
            if not made:
                raise NotHere("no step at all")
            made.append([tf.zeros_like(output) for output in made[0]])
            continue
        outputs = list(_lstm(attributes, [each, cs, h, *weights], forget_bias, order))
        cs, h = outputs[1], outputs[6]
        if known is None:
            outputs = [tf.where(step < most, output, tf.zeros_like(output)) for output in outputs]
        made.append(outputs)
    return [tf.stack(list(steps_of_one)) for steps_of_one in zip(*made, strict=True)]


def gru_cell(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> Sequence[Any]:
    """``GRUBlockCell``: gives r, u, c, h."""
    import tensorflow as tf

    x, h_prev, w_ru, w_c, b_ru, b_c = inputs
    gates = tf.sigmoid(tf.nn.bias_add(tf.matmul(tf.concat([x, h_prev], 1), w_ru), b_ru))
    r, u = tf.split(gates, 2, axis=1)
    c = tf.tanh(tf.nn.bias_add(tf.matmul(tf.concat([x, h_prev * r], 1), w_c), b_c))
    return [r, u, c, u * h_prev + (1.0 - u) * c]


EVERYWHERE: dict[str, Decomposition] = {
    "BlockLSTM": block_lstm,
    "BlockLSTMV2": block_lstm_v2,
    "GRUBlockCell": gru_cell,
    "LSTMBlockCell": lstm_cell,
}
"""What neither TFLite nor tf2onnx takes; tf2onnx takes ``LSTMBlockCell`` in loops that it knows."""
