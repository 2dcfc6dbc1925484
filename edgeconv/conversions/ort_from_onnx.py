"""ONNX to ONNX Runtime's own format, for builds of ONNX Runtime that cannot parse ONNX.

The graph is optimised as far as every processor can take it; layouts of this machine's processor are left
out unless ``ort_optimisation=all`` asks for them.
"""

from __future__ import annotations

from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import UsageError

LEVELS = ("basic", "extended", "all")


def convert(job: ConversionJob) -> ConversionResult:
    """See :data:`CONVERSION`; raises UsageError for an unknown level of optimisation."""
    from edgeconv.conversions import _onnx_files as files

    contract = job.source.contract
    if contract is None:
        raise UsageError("the ONNX file has no contract", where=str(job.source.path))
    level = str(job.options.get("ort_optimisation", "extended"))
    if level not in LEVELS:
        raise UsageError(f"unknown level of optimisation '{level}'", hint=f"choose from {', '.join(LEVELS)}")
    files.open_session(job.source.path, save_to=job.destination, level=level)
    notes = ("optimised for the processor of this machine",) if level == "all" else ()
    return ConversionResult(files.contract_in_file(contract, job.destination, named=False), notes)


CONVERSION = tuple(
    Conversion(
        name="ort_from_onnx",
        source="onnx",
        source_precision=precision,
        target="ort",
        precisions=(precision,),
        convert=convert,
        preload=("onnx", "onnxruntime"),
        tools=("onnxruntime",),
        options=("ort_optimisation",),
    )
    for precision in ("fp32", "fp16", "int8")
)
