"""TFLite in narrower precisions from the fp32 TFLite file, by LiteRT Quantizer and without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.agent.processor import available_cores
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract, TensorSpec, contract_of

if TYPE_CHECKING:
    from edgeconv.runtimes.litert import LiteRTSession

_SYNTHETIC_SAMPLES = 20
_DEFAULT_LIMIT = 500

_Sample = dict[str, Any]

_INT16_NOTE = (
    "int16 activations run on LiteRT's reference kernels on CPUs, 25 to 100 times slower than int8; they are "
    "for accelerators that have them"
)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the logical inputs and outputs stand among those of the graph; quantizing keeps the order."""

    subgraph: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def convert(job: ConversionJob) -> ConversionResult:
    """Quantize the float file, then open the result and run it once.

    Inputs and outputs stay as they are in the float file, so the contract changes in tensor names only.
    Options: ``per_channel_dense`` (default true; false for runtimes that take one scale for a dense
    layer), ``calibration_rule`` (``min_max`` or ``moving_average``), ``calibration_limit`` (at most so many
    samples, 500 by default), ``runs_on`` (see :mod:`edgeconv.conversions._tflite_variants`).

    Raises:
        UsageError: the calibration samples do not fit the model or hold NaN.
        ConversionError: the model cannot have this precision; names the op that stands in the way.
    """
    from edgeconv.conversions._tflite_variants import variant_that_runs
    from edgeconv.quantization.litert_quantizer import (
        STATIC,
        Quantized,
        activations,
        load_float_model,
        quantize,
    )
    from edgeconv.quantization.ranges import collect_ranges
    from edgeconv.runtimes.litert import RUNTIME

    where = str(job.source.path)
    static = job.precision in STATIC
    contract = job.source.contract or _contract_of_file(job.source.path)
    notes: list[str] = []
    source = load_float_model(job.source.path.read_bytes(), where)
    options = {"preserve_all_tensors": True} if static else {}
    with RUNTIME.open(job.source.path, contract, threads=available_cores(), options=options) as session:
        places = _places(session, source.model)
        contract = replace(contract, inputs=session.inputs, outputs=session.outputs)
        samples = _calibration(job, contract, notes) if static else _one_sample(contract)
        reference = session.infer(samples[0]) if samples else {}
        ranges = None
        if static:
            tensors = activations(source.model, places.subgraph)
            rule = str(job.options.get("calibration_rule", "min_max"))
            ranges = collect_ranges(session, tensors, samples, rule=rule)

    def made(per_channel_dense: bool, leave: frozenset[str]) -> Quantized:
        quantized = quantize(
            source,
            job.precision,
            ranges=ranges,
            calibrated_subgraph=places.subgraph,
            per_channel_dense=per_channel_dense,
            leave=leave,
            where=where,
        )
        job.destination.write_bytes(quantized.data)
        return quantized

    quantized, said = variant_that_runs(job, made)
    notes += said
    notes += quantized.notes(job.precision)
    if job.precision == "int16x8":
        notes.append(_INT16_NOTE)
    contract = _contract_after(contract, places, quantized.data)
    return ConversionResult(_prove(job, contract, samples[:1], reference), tuple(notes))


def _contract_of_file(path: Path) -> Contract:
    from edgeconv.formats.registry import describe

    signatures = describe(path).signatures
    if len(signatures) != 1:
        names = ", ".join(signature.name for signature in signatures) or "none"
        raise UsageError(
            "nothing says which signature of the file is meant",
            where=str(path),
            why=f"it has {names}",
            hint="add --signature NAME",
        )
    return contract_of(signatures[0])


def _places(session: LiteRTSession, model: Any) -> _Places:
    graph = model.subgraphs[session.subgraph]
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    return _Places(
        subgraph=session.subgraph,
        inputs=tuple(inputs.index(index) for index in session.input_indices),
        outputs=tuple(outputs.index(index) for index in session.output_indices),
    )


def _calibration(job: ConversionJob, contract: Contract, notes: list[str]) -> list[_Sample]:
    from edgeconv.comparison.samples import load_samples
    from edgeconv.quantization.calibration import SYNTHETIC_NOTE, check_calibration, synthetic_calibration

    if job.calibration is None:
        notes.append(SYNTHETIC_NOTE)
        return synthetic_calibration(contract, _SYNTHETIC_SAMPLES)
    limit = int(job.options.get("calibration_limit", _DEFAULT_LIMIT))
    samples = load_samples(job.calibration, contract, limit=limit)
    for finding in check_calibration(samples, contract):
        if finding.code == "calibration-nan":
            raise UsageError(
                f"the calibration samples cannot be used: {finding.message}",
                where=f"{job.calibration}, {finding.where}",
                hint=finding.hint,
            )
        where = f" ({finding.where})" if finding.where else ""
        notes.append(f"calibration{where}: {finding.message}")
    return samples


def _one_sample(contract: Contract) -> list[_Sample]:
    """One input to try the result on; none where an input's shape is not known."""
    from edgeconv.quantization.calibration import synthetic_calibration

    try:
        return synthetic_calibration(contract, 1)
    except UsageError:
        return []


def _contract_after(contract: Contract, places: _Places, data: bytes) -> Contract:
    """The contract with the tensor names of the new file."""
    from edgeconv.quantization.flatbuffer import tensor_name, unpack

    graph = unpack(data).subgraphs[places.subgraph]

    def renamed(specs: tuple[TensorSpec, ...], at: tuple[int, ...], indices: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(spec, tensor=tensor_name(graph.tensors[indices[place]]), quantization=None)
            for spec, place in zip(specs, at, strict=True)
        )

    return replace(
        contract,
        inputs=renamed(contract.inputs, places.inputs, graph.inputs),
        outputs=renamed(contract.outputs, places.outputs, graph.outputs),
    )


def _prove(
    job: ConversionJob, contract: Contract, samples: list[_Sample], reference: dict[str, Any]
) -> Contract:
    """Open and run the new file; its contract as the runtime sees it."""
    import numpy as np

    from edgeconv.runtimes.litert import RUNTIME

    with RUNTIME.open(job.destination, contract, threads=available_cores()) as session:
        for sample in samples:
            found = session.infer(sample)
            for name, value in found.items():
                expected = reference[name]
                if value.shape != expected.shape or value.dtype != expected.dtype:
                    raise ConversionError(
                        f"the {job.precision} file gives {value.dtype} {value.shape} for '{name}', "
                        f"the float file {expected.dtype} {expected.shape}",
                        where=str(job.source.path),
                    )
                if value.dtype.kind == "f" and np.isfinite(expected).all() and not np.isfinite(value).all():
                    raise ConversionError(
                        f"the {job.precision} file gives NaN or infinite values for '{name}'",
                        where=str(job.source.path),
                        hint="weights or activations leave the range of this precision: use a wider one",
                    )
        return replace(contract, inputs=session.inputs, outputs=session.outputs)


CONVERSION = Conversion(
    name="tflite_from_tflite",
    source="tflite",
    target="tflite",
    precisions=("fp16", "dynamic", "int8", "int16x8"),
    convert=convert,
    cost=0.2,
    preload=("litert_quantizer.quantizer", "ai_edge_litert.interpreter"),
    tools=("litert-quantizer", "ai-edge-litert", "numpy"),
    options=("per_channel_dense", "calibration_rule", "calibration_limit", "runs_on"),
    needs_calibration=("int8", "int16x8"),
)
