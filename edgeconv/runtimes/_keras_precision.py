"""Models that were trained in mixed precision, computed in the precision of their variables.

Before and after, for each layer::

    policy mixed_float16: variables float32, cast to float16, computed in float16
        policy float32: the same variables, computed in float32

Half floats were for the speed of training on graphics cards. TFLite has no kernels for them, and numbers that
were rounded to 11 bits inside are no reference for what computes in float32; the variables hold all 24 bits.
"""

from __future__ import annotations

from typing import Any

_MIXED = ("mixed_float16", "mixed_bfloat16")


def in_full_precision(model: Any) -> tuple[str, ...]:
    """Let the layers of a Keras model that have a mixed policy compute in float32.

    Args:
        model: of keras or tf_keras; changed in place.

    Returns:
        A note for the person where there were any.
    """
    import keras

    changed, said = 0, ""
    for layer in [*model._flatten_layers()]:
        policy = getattr(layer, "dtype_policy", None)
        name = getattr(policy, "name", None)
        if name not in _MIXED:
            continue
        if isinstance(layer, keras.layers.Layer):
            layer.dtype_policy = keras.dtype_policies.get("float32")
        else:
            import tf_keras

            layer._set_dtype_policy(tf_keras.mixed_precision.Policy("float32"))
        changed, said = changed + 1, str(name)
    if not changed:
        return ()
    return (f"{changed} layers of mixed precision ({said}) compute in float32, the type of their variables",)
