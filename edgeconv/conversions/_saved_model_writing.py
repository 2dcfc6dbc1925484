"""Writing a program as a SavedModel: its variables once, one signature, static shapes kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes._programs import Program, identifier, traced
from edgeconv.runtimes._tensorflow import dtype_name, shape_of

SIGNATURE = "serving_default"


def write_saved_model(program: Program, destination: Path, signature: str | None = None) -> Contract:
    """Write ``program`` in inference mode to the folder ``destination``.

    ``tf.saved_model.save`` of the Keras model itself would store training functions and optimiser slots,
    and ``model.export`` stores all weights twice; here a bare module holds the variables that inference
    reads, and nothing else.

    Returns:
        The contract of what was written; ``tensor`` of the inputs are names in its graph.

    Raises:
        ConversionError: TensorFlow could not trace or write the model.
    """
    import tensorflow as tf

    key = signature or SIGNATURE
    try:
        concrete = traced(program)
        module = tf.Module(name="model")
        module.variables_of_inference = list(concrete.graph.variables)
        module.tables_of_inference = _tables(program.owner)
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(destination), signatures={key: concrete}, options=options)
    except (tf.errors.OpError, ValueError, TypeError, AssertionError) as error:
        raise ConversionError(
            "TensorFlow could not write the model as a SavedModel",
            where=str(destination.name),
            why=" ".join(str(error).split())[:400],
        ) from error
    return contract_on_disk(destination, key, program)


def contract_on_disk(folder: Path, signature: str, program: Program) -> Contract:
    """The contract of the SavedModel in ``folder``, in the order of ``program``, tensors as written there."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved_model.pb").read_bytes())
    definition = proto.meta_graphs[0].signature_def[signature]
    return Contract(
        inputs=tuple(_written(spec, definition.inputs[identifier(spec.name)]) for spec in program.inputs),
        outputs=tuple(_written(spec, definition.outputs[spec.name]) for spec in program.outputs),
        signature=signature,
    )


def _written(spec: TensorSpec, info: Any) -> TensorSpec:
    return TensorSpec(spec.name, dtype_name(info.dtype), shape_of(info.tensor_shape), info.name)


def _tables(owner: Any) -> list[Any]:
    # Lookup layers keep their tables in plain attributes that a list of variables does not reach.
    from tensorflow.python.trackable.resource import TrackableResource

    layers = owner._flatten_layers() if hasattr(owner, "_flatten_layers") else []
    return [
        value for layer in layers for value in vars(layer).values() if isinstance(value, TrackableResource)
    ]
