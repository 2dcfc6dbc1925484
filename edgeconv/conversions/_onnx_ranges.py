"""Ranges of the tensors of an ONNX model over samples: what static quantization calibrates with.

Minimum and maximum are computed inside ONNX Runtime, so that two numbers a tensor leave it and not the
tensors. Samples run one at a time: several at once were not faster (``docs/evidence-onnx.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError

_MINIMUM, _MAXIMUM = "edgeconv_minimum/", "edgeconv_maximum/"

Ranges = dict[str, tuple[Any, Any]]
"""Tensor name to minimum and maximum, float32 scalars."""


def tensor_ranges(
    path: Path, tensors: Sequence[str], samples: Sequence[Mapping[str, Any]], scratch: Path
) -> Ranges:
    """Minimum and maximum of each tensor over all samples.

    Args:
        path: ONNX file; external data lies in ``scratch``.
        tensors: names of float tensors of the main graph: inputs, or outputs of nodes.
        samples: input name to array, each with its batch dimension.
        scratch: where the model with the extra outputs is written.

    Raises:
        ConversionError: a tensor is NaN or infinite on a sample, or the model does not run on it.
    """
    session = _session(path, tensors, scratch)
    names = [value.name for value in session.get_inputs()]
    ranges: Ranges = {}
    for index, sample in enumerate(samples):
        for name, (low, high) in _run(session, {name: sample[name] for name in names}, index).items():
            if name in ranges:
                low, high = min(low, ranges[name][0]), max(high, ranges[name][1])
            ranges[name] = (low, high)
    return ranges


def _session(path: Path, tensors: Sequence[str], scratch: Path) -> Any:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    model = onnx.load(str(path), load_external_data=False)
    outputs = []
    for name in tensors:
        for op, prefix in (("ReduceMin", _MINIMUM), ("ReduceMax", _MAXIMUM)):
            model.graph.node.append(
                helper.make_node(op, [name], [prefix + name], name=prefix + name, keepdims=0)
            )
            outputs.append(helper.make_tensor_value_info(prefix + name, TensorProto.FLOAT, []))
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    measured = scratch / "ranges.onnx"
    measured.write_bytes(model.SerializeToString())
    del model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Other workers run beside this one: threads that wait must not keep the processor from them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(measured), options, providers=["CPUExecutionProvider"])


def _run(session: Any, feeds: Mapping[str, Any], index: int) -> Ranges:
    import numpy

    try:
        values = session.run(None, dict(feeds))
    except Exception as error:
        raise ConversionError(
            f"the model does not run on calibration sample {index}",
            why=" ".join(str(error).split())[:400],
            hint="check that the samples fit the model's inputs",
        ) from error
    found = {value.name: array for value, array in zip(session.get_outputs(), values, strict=True)}
    ranges: Ranges = {}
    for name in found:
        if name.startswith(_MINIMUM):
            tensor = name.removeprefix(_MINIMUM)
            low, high = found[name], found[_MAXIMUM + tensor]
            if not (numpy.isfinite(low) and numpy.isfinite(high)):
                raise ConversionError(
                    f"tensor '{tensor}' is NaN or infinite on calibration sample {index}",
                    hint="leave the sample out, or look for the cause in the fp32 model",
                )
            ranges[tensor] = (low, high)
    return ranges
