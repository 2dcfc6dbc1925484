"""The values that tensors of a training graph have in inference, as NumPy formulas.

A rewrite that turns a training graph into an inference graph names the tensors that it replaced, each with
one of these formulas. They are written from the definitions of the layers and share no code with the
rewrites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Formula = Callable[[Sequence[Any], Mapping[str, Any]], Any]
"""Arrays and attributes of a ``Replaced`` to the ``numpy.ndarray`` that the tensor is meant to have."""


def identity(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """The one input as it is: what a dropout lets through, the moving mean in place of the batch's."""
    return inputs[0]


def constant(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """``value`` as an array of ``dtype``, spread over ``shape`` where there is one.

    Args:
        inputs: none.
        attributes: ``value`` (number or nested lists), ``dtype`` (NumPy's name), perhaps ``shape``.
    """
    import numpy

    value = numpy.asarray(attributes["value"], attributes["dtype"])
    return numpy.full(attributes["shape"], value) if "shape" in attributes else value


def reshape(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """The one input in the ``shape`` of the attributes, in which one size may be -1."""
    return inputs[0].reshape(attributes["shape"])


def batch_norm(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Batch normalisation with given statistics, y = (x - mean) / sqrt(variance + epsilon) * scale + offset.

    Ioffe and Szegedy 2015, algorithm 2, step 11; computed in float64.

    Args:
        inputs: x of any rank, then scale, offset, mean and variance, each of the length of x's channel axis.
        attributes: ``epsilon``; ``channels_first``, whether the channel axis is 1 and not the last one.

    Returns:
        Array of the shape and dtype of x.
    """
    import numpy

    x = inputs[0]
    axis = 1 if attributes.get("channels_first") else x.ndim - 1
    shape = [-1 if position == axis else 1 for position in range(x.ndim)]
    scale, offset, mean, variance = (numpy.asarray(a, "float64").reshape(shape) for a in inputs[1:])
    factor = scale / numpy.sqrt(variance + attributes["epsilon"])
    return ((x.astype("float64") - mean) * factor + offset).astype(x.dtype)


FORMULAS: Mapping[str, Formula] = {
    "identity": identity,
    "constant": constant,
    "reshape": reshape,
    "batch_norm": batch_norm,
}
"""Formulas by the name that a ``Replaced`` gives them."""
