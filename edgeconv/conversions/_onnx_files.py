"""ONNX files read, written and proven to load; what every arrow to ONNX or ORT ends with."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, InvalidModelError
from edgeconv.formats.base import Contract, TensorSpec

IR_VERSION = 8
"""ONNX's own default is newer than any runtime takes; 8 loads in every ONNX Runtime since 1.11."""


def read_model(path: Path) -> Any:
    """The ModelProto in ``path`` with its external data.

    Raises:
        InvalidModelError: it is none, or its external data is missing.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path))
    except (DecodeError, ValueError) as error:
        raise InvalidModelError("this is no ONNX model", where=str(path), why=str(error)[:200]) from error
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        raise InvalidModelError(
            "the external data of the model is missing or leaves its folder",
            where=str(path),
            why=str(error)[:300],
            hint="copy the data file beside the model",
        ) from error


def remove(path: Path) -> None:
    """Remove an ONNX file that was half made, and the external data beside it."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".data").unlink(missing_ok=True)


def prove_loads(path: Path) -> None:
    """Check the file by ONNX's checker and load it in ONNX Runtime.

    Raises:
        ConversionError: either refuses it; names node and op as far as they say.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        # An output of a loop may have no known rank: the checker wants one, no runtime does.
        if "Field 'shape' of 'type' is required" not in str(error):
            raise refusal(str(error), path, "the ONNX file that was made is not valid") from error
    open_session(path, optimise=False)


def open_session(
    path: Path, *, optimise: bool = True, save_to: Path | None = None, level: str = "all"
) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU with nothing printed.

    Args:
        path: ONNX or ORT file.
        optimise: whether ONNX Runtime optimises the graph at ``level``.
        save_to: where to write the graph that was loaded, as an ORT file.
        level: ``basic``, ``extended`` or ``all``.

    Raises:
        ConversionError: ONNX Runtime refuses the model.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    chosen = getattr(levels, f"ORT_ENABLE_{level.upper()}")
    options.graph_optimization_level = chosen if optimise else levels.ORT_DISABLE_ALL
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
        options.add_session_config_entry("session.save_model_format", "ORT")
    else:
        # Packed copies of the weights cost memory and are for running only.
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise refusal(str(error), path, "ONNX Runtime refuses the model") from error


def refusal(message: str, path: Path, what: str) -> ConversionError:
    """The error for what ONNX Runtime or the checker said, with node and op picked out of it."""
    text = " ".join(message.split())
    node = (
        re.search(r"[Nn]ode ?(?:with name )?\(?:?'?\(?name: ?([^),']+)", text)
        or re.search(r"Node \(([^)]*)\)", text)
        or re.search(r"[Nn]ode with name '([^']+)'", text)
        or re.search(r"node with name '([^']+)'", text)
        or re.search(r"[Nn]ode:'?([^' ]+)", text)
    )
    op = (
        re.search(r"No Op registered for (\S+)", text)
        or re.search(r"implementation for (\S+?)\(\d+\)", text)
        or re.search(r"Op \(([^)]+)\)", text)
        or re.search(r"OpType: ?(\S+)", text)
    )
    where = str(path)
    if node:
        where += f", node {node.group(1)}"
    hint = "cut the part out with --inputs or --outputs, or try --to tflite"
    if "not find an implementation" in text.lower():
        hint = "ONNX Runtime has this op for other types only, float32 nearly always: convert to that"
    if "opset" in text.lower() and "support" in text.lower():
        hint = "ask for an older opset: --opset 17"
    return ConversionError(
        f"{what}: op {op.group(1)}" if op else what,
        where=where,
        why=text[:500],
        hint=hint,
    )


def contract_in_file(contract: Contract, path: Path, *, named: bool = True) -> Contract:
    """``contract`` with element types as the file at ``path`` has them.

    Args:
        contract: of the source.
        path: the new ONNX or ORT file.
        named: whether its tensors have the logical names; else those that the source had.

    Raises:
        ConversionError: the file lacks an input or output of the contract.
    """
    session = open_session(path, optimise=False)
    types = {value.name: _dtype(value.type) for value in (*session.get_inputs(), *session.get_outputs())}

    def told(spec: TensorSpec) -> TensorSpec:
        present = spec.name if named else spec.inner_name
        if present not in types:
            raise ConversionError(f"'{spec.name}' was lost in the conversion", where=str(path))
        tensor = None if present == spec.name else present
        return replace(spec, tensor=tensor, dtype=types[present] or spec.dtype, quantization=None)

    return replace(
        contract,
        inputs=tuple(told(spec) for spec in contract.inputs),
        outputs=tuple(told(spec) for spec in contract.outputs),
    )


def named_apart(contract: Contract) -> Contract:
    """The contract with outputs renamed that have the name of an input, as a key that is passed on has.

    In an ONNX graph a name stands for one tensor, so that the two cannot have the same; their ``tensor``
    still says which tensor of the source each is.
    """
    taken = {spec.name for spec in (*contract.inputs, *contract.outputs)}
    inputs = {spec.name for spec in contract.inputs}
    outputs = []
    for spec in contract.outputs:
        if spec.name in inputs:
            name = f"{spec.name}_output"
            while name in taken:
                name += "_"
            taken.add(name)
            spec = replace(spec, name=name, tensor=spec.inner_name)
        outputs.append(spec)
    return replace(contract, outputs=tuple(outputs))


def under_names_of(contract: Contract, found: Contract) -> Contract:
    """``found``, the contract of a file with the names of :func:`named_apart`, under ``contract``'s names."""
    outputs = (
        spec if spec.name == own.name else replace(spec, name=own.name, tensor=spec.inner_name)
        for spec, own in zip(found.outputs, contract.outputs, strict=True)
    )
    return replace(found, outputs=tuple(outputs))


def _dtype(text: str) -> str | None:
    """NumPy's name for ONNX Runtime's ``tensor(float)``."""
    found = re.fullmatch(r"tensor\((\w+)\)", text)
    if not found:
        return None
    return {"float": "float32", "double": "float64"}.get(found.group(1), found.group(1))
