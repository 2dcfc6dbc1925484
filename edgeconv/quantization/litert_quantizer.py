"""Quantizes a float TFLite file by LiteRT Quantizer, and says exactly what came of it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeconv.errors import ConversionError
from edgeconv.quantization.flatbuffer import (
    finish,
    is_constant,
    modernise,
    operator_name,
    pack,
    rename_duplicates,
    tensor_name,
    type_name,
    unpack,
)
from edgeconv.quantization.float_edges import repoint_signatures, restore_float_edges

STATIC = ("int8", "int16x8")
"""Precisions with integer activations: they need calibration."""

_QUANTIZER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
"""Operators that LiteRT Quantizer has another name for."""

_SMALL_WEIGHTS = 1024
"""Elements; TensorFlow's converter has the same limit."""

_FIXED_SCALE = {"SOFTMAX": 1 / 256, "LOGISTIC": 1 / 256}
"""Operators whose int8 output has this scale whatever their values: the kernels know no other."""

_LEAST_STEPS = 16
"""Steps of the fixed scale that the largest calibrated value must span to be worth carrying as int8."""

_LIMITS = (2, 3)
"""Codes of fused activations that have an upper limit: RELU_N1_TO_1 and RELU6."""

_LEAST_LIMITED_SCALE = 6.1 / 2**31
"""Below it the largest of those limits, 6, is more steps than an int32 can count."""

_ASYMMETRIC = ("FULLY_CONNECTED", "BATCH_MATMUL")
"""Operators with int8 weights whose options say how their float inputs are quantized."""

# Operators that only move, reshape or convert say nothing about whether a model computes in integers.
_PLUMBING = {"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SHAPE", "CAST"}


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized file.

    Attributes:
        data: the file.
        float_operators: operators that still compute on float32: kind to the names of their outputs.
        integer_operators: number of operators that compute on integers of the precision's width.
        weights: number of constants that were made narrower.
        too_fine: operators left in float32 because int8 has a fixed scale for them that is too coarse.
    """

    data: bytes
    float_operators: Mapping[str, tuple[str, ...]]
    integer_operators: int
    weights: int
    too_fine: tuple[str, ...] = ()

    def notes(self, precision: str) -> list[str]:
        """What a person should know of the result, one sentence each."""
        total = sum(len(outputs) for outputs in self.float_operators.values())
        if precision not in STATIC or total == 0:
            return []
        examples = ", ".join(f"'{outputs[0]}'" for outputs in list(self.float_operators.values())[:3])
        everything = total + self.integer_operators
        kinds = _counts(self.float_operators)
        said = [f"{total} of {everything} operators compute in float32: {kinds} (for example {examples})"]
        if self.too_fine:
            said.append(
                f"'{self.too_fine[0]}' stays float32: int8 has steps of 1/256 there, and no calibration "
                f"sample gave more than {_LEAST_STEPS} of them"
            )
        return said


@dataclass(frozen=True, slots=True)
class FloatModel:
    """A float file whose tensors all have names of their own: the schema's ``ModelT`` and its bytes."""

    model: Any
    data: bytes


def load_float_model(data: bytes, where: str) -> FloatModel:
    """Read a float file, make its tensor names unique and correct what old converters wrote otherwise.

    Raises:
        ConversionError: nothing in it can be quantized, since it is quantized already or has no float32
            constants and activations at all.
    """
    model = unpack(data)
    if modernise(model) | (rename_duplicates(model) > 0):
        data = pack(model)
        model = unpack(data)
    kinds: Counter[str] = Counter()
    scaled, halves, activations_scaled = 0, 0, 0
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            kinds[type_name(tensor)] += 1
            constant = is_constant(model, tensor)
            scaled += _scaled(tensor)
            activations_scaled += _scaled(tensor) and not constant
            halves += constant and type_name(tensor) == "float16"
    if scaled or halves:
        found = (
            f"{scaled} of {kinds.total()} tensors have a scale" if scaled else f"{halves} weights are float16"
        )
        narrow = (
            "dynamic range: only its weights are integers"
            if not activations_scaled
            else "integers throughout"
        )
        raise ConversionError(
            f"the model is quantized already: {found}",
            where=where,
            why=narrow if scaled else None,
            hint="start from the float32 model; a quantized one cannot be quantized again",
        )
    if not kinds["float32"]:
        raise ConversionError(
            "the model has no float32 tensors, so there is nothing to quantize",
            where=where,
            why=f"its tensors are {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}",
            hint="use it as it is: fp32 is the only precision it has",
        )
    return FloatModel(model, data)


def quantize(
    source: FloatModel,
    precision: str,
    *,
    ranges: Mapping[str, Mapping[str, Any]] | None = None,
    calibrated_subgraph: int = 0,
    per_channel_dense: bool = True,
    leave: Collection[str] = (),
    where: str = "the model",
) -> Quantized:
    """Quantize a float model.

    Args:
        source: as :func:`load_float_model` gives it; not changed.
        precision: ``fp16``, ``dynamic``, ``int8`` or ``int16x8``.
        ranges: of the activations, for ``int8`` and ``int16x8``.
        calibrated_subgraph: the subgraph that ``ranges`` belong to. Others (bodies of loops and branches,
            other signatures) compute in float32 in the static precisions, as their values cannot be watched.
        per_channel_dense: one scale for each output of a dense layer; ``False`` for old runtimes, which
            take only one scale for the whole in the dynamic precision.
        leave: kinds of operators that stay as they are, for runtimes that take them in float32 only.
        where: named in errors.

    Returns:
        The file, with float32 inputs and outputs as before.

    Raises:
        ConversionError: the quantizer refuses, naming what it says; or nothing could be quantized.
    """
    outcome = Quantized(b"", {}, 0, 0)
    if ranges is not None:
        ranges = _with_room_for_limits(source.model, calibrated_subgraph, ranges, precision)
    too_fine = _too_fine(source.model, calibrated_subgraph, ranges or {}) if precision == "int8" else ()
    # In the dynamic precision small weights cost accuracy and save nothing, unless all are small.
    for smallest in (_SMALL_WEIGHTS, 0) if precision == "dynamic" else (0,):
        with _quiet():
            # What is too fine for int8 is treated as if it had not been calibrated: it stays float32.
            known = {name: found for name, found in (ranges or {}).items() if name not in too_fine}
            quantizer = _quantizer(source, precision, known, calibrated_subgraph, per_channel_dense)
            _leave_kinds(quantizer, leave)
            _leave_small_weights(quantizer, smallest)
            try:
                result = quantizer.quantize(
                    None if ranges is None else dict(ranges),
                    enable_progress_bar=False,
                    enable_progress_report=False,
                )
            except Exception as error:
                raise ConversionError(
                    f"LiteRT Quantizer cannot make {precision} of this model",
                    where=where,
                    why=str(error).strip().split("\n")[0] or type(error).__name__,
                    hint="try the route through TensorFlow's converter, or another precision",
                ) from error
        after = unpack(bytes(result.quantized_model))
        if precision in STATIC:
            # Inputs and outputs become float32 again, so that the contract of the model stays the same.
            graph = source.model.subgraphs[calibrated_subgraph]
            inputs, outputs = (
                [type_name(graph.tensors[index]) == "float32" for index in side]
                for side in (graph.inputs, graph.outputs)
            )
            restore_float_edges(after, calibrated_subgraph, (inputs, outputs))
        repoint_signatures(after, source.model)
        _state_kernels(after)
        outcome = _account(after, precision)
        if outcome.integer_operators or (outcome.weights and precision not in STATIC):
            return replace(outcome, data=finish(after), too_fine=too_fine)
    raise ConversionError(
        f"nothing in the model can be {precision}",
        where=where,
        why=f"LiteRT Quantizer leaves its operators as they are: {_counts(outcome.float_operators)}",
        hint="use fp32, or the route through TensorFlow's converter",
    )


def _with_room_for_limits(
    model: Any, subgraph: int, ranges: Mapping[str, Mapping[str, Any]], precision: str
) -> dict[str, Mapping[str, Any]]:
    """The ranges, widened where a fused limit counted in steps of the output would not be an int32.

    The kernels refuse that. It takes values below 1e-4 in int16, where a wider range costs no accuracy.
    """
    least = _LEAST_LIMITED_SCALE * (255 if precision == "int8" else 32767)
    widened = dict(ranges)
    for operator in model.subgraphs[subgraph].operators or ():
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0) not in _LIMITS:
            continue
        name = tensor_name(model.subgraphs[subgraph].tensors[operator.outputs[0]])
        found = widened.get(name)
        if found is not None and float(np.max(found["max"]) - np.min(found["min"])) < least:
            widened[name] = {**found, "max": np.full_like(found["max"], least)}
    return widened


def _too_fine(model: Any, subgraph: int, ranges: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Outputs of operators with a fixed int8 scale that is too coarse for their calibrated values."""
    found = []
    for operator in model.subgraphs[subgraph].operators or ():
        step = _FIXED_SCALE.get(operator_name(model, operator))
        if step is None:
            continue
        name = tensor_name(model.subgraphs[subgraph].tensors[operator.outputs[0]])
        if name in ranges and float(np.max(ranges[name]["max"])) < _LEAST_STEPS * step:
            found.append(name)
    return tuple(found)


def _quantizer(
    source: FloatModel, precision: str, ranges: Mapping[str, Any], calibrated: int, per_channel_dense: bool
) -> Any:
    """LiteRT Quantizer with the recipe of the precision."""
    from litert_quantizer import algorithm_manager, qtyping
    from litert_quantizer.quantizer import Quantizer

    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    nothing = algorithm_manager.AlgorithmName.NO_QUANTIZE
    quantizer = Quantizer(source.data)
    if precision == "fp16":
        casting = algorithm_manager.AlgorithmName.FLOAT_CASTING
        quantizer.add_weight_only_config(".*", everything, num_bits=16, algorithm_key=casting)
        return quantizer
    if precision == "dynamic":
        quantizer.add_dynamic_config(".*", everything, num_bits=8)
    else:
        bits = 8 if precision == "int8" else 16
        quantizer.add_static_config(".*", everything, activation_num_bits=bits, weight_num_bits=8)
    if not per_channel_dense:
        _dense_per_tensor(quantizer, precision)
    if precision in STATIC:
        composite = qtyping.TFLOperationName.STABLEHLO_COMPOSITE
        quantizer.update_quantization_recipe(".*", composite, algorithm_key=nothing)
        for pattern in _scopes(source.model, calibrated, ranges):
            quantizer.update_quantization_recipe(pattern, everything, algorithm_key=nothing)
            if precision == "int8":
                # Their weights can be narrow all the same. The empty group makes it another key.
                quantizer.add_dynamic_config(f"(?:){pattern}", everything, num_bits=8)
    return quantizer


def can_be_left(kind: str) -> bool:
    """Whether :func:`quantize` can leave a kind of operators as it is."""
    from litert_quantizer import qtyping

    return _QUANTIZER_NAMES.get(kind, kind) in {name.value for name in qtyping.TFLOperationName}


def _leave_kinds(quantizer: Any, kinds: Collection[str]) -> None:
    from litert_quantizer import algorithm_manager, qtyping

    for kind in kinds:
        name = qtyping.TFLOperationName(_QUANTIZER_NAMES.get(kind, kind))
        nothing = algorithm_manager.AlgorithmName.NO_QUANTIZE
        quantizer.update_quantization_recipe(".*", name, algorithm_key=nothing)


def _leave_small_weights(quantizer: Any, smallest: int) -> None:
    """Leave constants of fewer elements as they are."""
    recipe = quantizer.get_quantization_recipe()
    for entry in recipe:
        entry["op_config"]["min_weight_elements"] = smallest
    quantizer.load_quantization_recipe(recipe)


def activations(model: Any, subgraph: int) -> dict[int, str]:
    """The tensors of a subgraph that operators compute, take or give: index to name."""
    graph = model.subgraphs[subgraph]
    wanted = {*graph.inputs, *graph.outputs}
    for operator in graph.operators or ():
        wanted.update(operator.inputs if operator.inputs is not None else ())
        wanted.update(operator.outputs if operator.outputs is not None else ())
    return {
        index: tensor_name(graph.tensors[index])
        for index in sorted(wanted)
        if index >= 0 and not is_constant(model, graph.tensors[index])
    }


def _counts(operators: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{len(outputs)} {name}" for name, outputs in sorted(operators.items())) or "none"


def _dense_per_tensor(quantizer: Any, precision: str) -> None:
    from litert_quantizer import qtyping

    dense = qtyping.TFLOperationName.FULLY_CONNECTED
    whole = qtyping.QuantGranularity.TENSORWISE
    if precision == "dynamic":
        quantizer.add_dynamic_config(".*", dense, num_bits=8, granularity=whole)
    else:
        quantizer.add_static_config(
            ".*", dense, activation_num_bits=8 if precision == "int8" else 16, weight_num_bits=8,
            weight_granularity=whole,
        )  # fmt: skip


def _scopes(model: Any, calibrated: int, ranges: Mapping[str, Any]) -> Iterator[str]:
    """Patterns for the operators that have no calibrated ranges; a scope is made of output names."""
    parts: list[str] = []
    for number, graph in enumerate(model.subgraphs):
        if number != calibrated:
            for side in (graph.inputs, graph.outputs):
                names = [tensor_name(graph.tensors[index]) for index in side]
                parts.append(re.escape(";".join(name for name in names if name)) + ";")
        for operator in graph.operators or ():
            outputs = [graph.tensors[i] for i in operator.outputs if i >= 0]
            known = number == calibrated and all(
                tensor_name(graph.tensors[i]) in ranges or is_constant(model, graph.tensors[i])
                for i in (*operator.inputs, *operator.outputs)
                if i >= 0 and type_name(graph.tensors[i]) == "float32"
            )
            if not known and outputs:
                parts.append(re.escape(";".join(tensor_name(t) for t in outputs if tensor_name(t))) + ";")
    for start in range(0, len(parts), 50):
        yield "^(?:" + "|".join(parts[start : start + 50]) + ")$"


def _state_kernels(model: Any) -> None:
    """Set what the operators' options say of quantization as TensorFlow's converter does.

    Dense layers with float inputs and int8 weights: inputs are quantized with a zero point. Without it half
    of the steps are lost on inputs of one sign, as after a ReLU (some 3 dB). Convolutions do so of
    themselves, XNNPACK always; the built-in kernels of dense layers look at the options.

    Sums in int16: the kernel for any scale. The other one is for scales that are powers of two and refuses
    a sum whose scale is finer than an operand's, as where images are normalised to [-1, 1].
    """
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            options = operator.builtinOptions
            if options is None:
                continue
            name = operator_name(model, operator)
            kinds = {type_name(graph.tensors[index]) for index in operator.inputs[:2]}
            if name in _ASYMMETRIC and kinds == {"float32", "int8"}:
                options.asymmetricQuantizeInputs = True
            elif name in ("ADD", "SUB") and kinds == {"int16"}:
                options.potScaleInt16 = False


def _account(model: Any, precision: str) -> Quantized:
    """What a quantized model computes in which type."""
    floats: dict[str, list[str]] = {}
    integers, narrow = 0, set()
    wide = "int16" if precision == "int16x8" else "int8"
    for number, graph in enumerate(model.subgraphs):
        for operator in graph.operators or ():
            name = operator_name(model, operator)
            inputs = [graph.tensors[i] for i in operator.inputs if i >= 0]
            outputs = [graph.tensors[i] for i in operator.outputs if i >= 0]
            for tensor in inputs:
                if is_constant(model, tensor) and _is_narrowed(tensor):
                    narrow.add((number, tensor_name(tensor)))
            if name in _PLUMBING:
                continue
            if any(type_name(t) == wide and _scaled(t) for t in outputs):
                integers += 1
            elif any(type_name(t) == "float32" for t in (*inputs, *outputs)):
                floats.setdefault(name, []).append(tensor_name(outputs[0]) if outputs else "")
    return Quantized(b"", {name: tuple(found) for name, found in floats.items()}, integers, len(narrow))


def _is_narrowed(tensor: Any) -> bool:
    return type_name(tensor) == "float16" or (type_name(tensor) == "int8" and _scaled(tensor))


def _scaled(tensor: Any) -> bool:
    return tensor.quantization is not None and tensor.quantization.scale is not None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps LiteRT Quantizer's progress bars and warnings off the terminal."""
    import contextlib
    import io
    import warnings

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
