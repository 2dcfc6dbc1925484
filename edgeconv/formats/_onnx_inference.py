"""Works out the shapes of an ONNX model at batch 1."""

from __future__ import annotations

from typing import Any


def at_batch_one(model: Any) -> Any:
    """A copy of a model with local functions inlined, its free leading input dimensions set to 1, and all
    shapes that follow.

    The values of large tensors may be missing; those of small ones (shapes, axes) take part.

    Returns:
        A new ``onnx.ModelProto``; where the inference fails its shapes are those that the file states.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        from onnx import inliner

        try:
            copy = inliner.inline_local_functions(copy)
        except Exception:
            # What the C++ library cannot inline stays a call, which has no known shape.
            return copy
    _fix_batch(copy.graph)
    for data_propagation in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(copy, data_prop=data_propagation)
        except Exception:
            # The library raises RuntimeError, ValidationError, InferenceError and others, by the op.
            continue
    return copy


def _fix_batch(graph: Any) -> None:
    initializers = {tensor.name for tensor in graph.initializer}
    batch_names: set[str] = set()
    for info in graph.input:
        if info.name in initializers or info.type.WhichOneof("value") != "tensor_type":
            continue
        dims = info.type.tensor_type.shape.dim
        if len(dims) and not dims[0].dim_value > 0:
            if dims[0].dim_param:
                batch_names.add(dims[0].dim_param)
            dims[0].dim_value = 1
    # Stated shapes further on would contradict the 1; the free ones are worked out anew.
    for info in (*graph.value_info, *graph.output, *graph.input):
        if info.type.WhichOneof("value") != "tensor_type":
            continue
        for dimension in info.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                if dimension.dim_param in batch_names:
                    dimension.dim_value = 1
                else:
                    dimension.ClearField("dim_param")
