"""ONNX in fp32 to ONNX in fp16 or int8 (QDQ, one scale a channel). Without TensorFlow."""

from __future__ import annotations

from typing import Any

from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import UsageError

_FP16_NOTE = "half the size, for graphics cards: on CPUs ONNX Runtime is slower with fp16 than with fp32"


def convert(job: ConversionJob) -> ConversionResult:
    """See :data:`CONVERSION`; raises UsageError where int8 is asked for without samples."""
    from edgeconv.conversions import _onnx_files as files
    from edgeconv.surgery.onnx_initializers import take_initializers, write_model
    from edgeconv.surgery.onnx_remove_unused import remove_unused
    from edgeconv.surgery.onnx_sort_nodes import sort_nodes

    contract = job.source.contract
    if contract is None:
        raise UsageError("the ONNX file has no contract", where=str(job.source.path))
    model: Any
    if job.precision == "fp16":
        from edgeconv.conversions._onnx_fp16 import to_fp16

        model, notes = to_fp16(files.read_model(job.source.path), job.source.path)
        notes = [*notes, _FP16_NOTE]
    else:
        from edgeconv.comparison.samples import load_samples
        from edgeconv.conversions._onnx_int8 import quantize_int8

        if job.calibration is None:
            raise UsageError(
                "int8 needs samples to calibrate with", hint="give some: --calibration SAMPLES.npz"
            )
        samples = load_samples(job.calibration, contract)
        named = [{spec.inner_name: sample[spec.name] for spec in contract.inputs} for sample in samples]
        model, notes = quantize_int8(job.source.path, named, job.scratch)
    model.ir_version = min(model.ir_version, files.IR_VERSION)
    constants = take_initializers(model)
    sort_nodes(model)
    remove_unused(model, constants)
    write_model(model, constants, job.destination)
    files.prove_loads(job.destination)
    return ConversionResult(files.contract_in_file(contract, job.destination, named=False), tuple(notes))


CONVERSION = Conversion(
    name="onnx_from_onnx",
    source="onnx",
    target="onnx",
    precisions=("fp16", "int8"),
    convert=convert,
    preload=("onnx", "onnxruntime"),
    tools=("onnx", "onnxruntime"),
    needs_calibration=("int8",),
)
