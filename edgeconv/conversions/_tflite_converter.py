"""TensorFlow's TFLite converter, called below its public class.

The public class takes the result apart in Python twice (to merge equal buffers and to add a record of the
conversion), which costs more memory than the conversion; and it serializes the graph that was just read.
Here the bytes of the graph go in, the bytes of the model come out, and the signature is put in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeconv.conversions._tensor_lists import with_fixed_lists
from edgeconv.conversions._tflite_diagnosis import RefusedError, diagnosed, refusals
from edgeconv.conversions._tflite_signature import signature_prefix
from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.formats._flatbuffer import Buffer
from edgeconv.formats._tflite_model import Subgraph, Tensor, TfliteModel, read_model
from edgeconv.formats.base import Contract, TensorSpec

SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class Source:
    """What the converter reads.

    Attributes:
        path: for errors.
        contract: logical names in order, tensors, shapes.
        nodes_of: op type to names of nodes of that type, for diagnosis.
        data: bytes of a GraphDef; empty where ``saved_model`` is set.
        saved_model: folder, tags and signature of a SavedModel.
    """

    path: str
    contract: Contract
    nodes_of: Callable[[], Mapping[str, Sequence[str]]]
    data: bytes = b""
    saved_model: tuple[str, tuple[str, ...], str] | None = None


def convert_to_tflite(job: ConversionJob, source: Source) -> ConversionResult:
    """Convert ``source`` to ``job.destination`` in ``job.precision``, with built-in ops only.

    A model whose recurrent layers need a fixed batch is converted once more with batch 1, where its
    contract leaves the first dimension open.

    Raises:
        UsageError: the precision needs calibration samples and there are none.
        ConversionError: an op has no built-in kernel, or the model cannot have this precision.
    """
    notes: list[str] = []
    try:
        model = _converted(source, job.precision)
    except RefusedError as refusal:
        pinned, batch = _fixed_batch(source.contract)
        if not refusal.needs_static_batch or source.saved_model is not None or batch is None:
            raise diagnosed(refusal, source.path, source.nodes_of()) from refusal
        if pinned != source.contract:
            notes.append("recurrent layers need a fixed batch in TFLite: the batch is pinned to 1")
        source = replace(source, contract=pinned, data=with_fixed_lists(source.data, batch))
        try:
            model = _converted(source, job.precision)
        except RefusedError as second:
            raise diagnosed(second, source.path, source.nodes_of()) from second
    if job.precision in ("int8", "int16x8"):
        model = _integer(model, job, source)
    return ConversionResult(_write(model, job.destination, source), tuple(notes))


def _converted(source: Source, precision: str) -> bytes:
    from tensorflow.compiler.mlir.lite.python import _pywrap_converter_api
    from tensorflow.compiler.mlir.quantization.tensorflow.python import py_function_lib

    library = py_function_lib.PyFunctionLibrary()
    model_flags = _model_flags(source)
    flags = _conversion_flags(precision)
    for attempt in range(2):
        try:
            return bytes(
                _pywrap_converter_api.Convert(
                    model_flags, flags.SerializeToString(), source.data, False, "", library
                )
            )
        except Exception as error:  # the binding raises whatever its C++ side is mapped to
            collected = refusals()
            calls_left = any("STATEFUL_PARTITIONED_CALL" in code for code, _, _ in collected)
            if attempt == 0 and calls_left:
                # A function that is called in several places is inlined only where each call has its own.
                flags.guarantee_all_funcs_one_use = True
                continue
            raise RefusedError(str(error), collected) from error
    raise AssertionError("unreachable")


def _model_flags(source: Source) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python import convert

    if source.saved_model is not None:
        folder, tags, signature = source.saved_model
        flags = convert.build_model_flags(
            saved_model_dir=folder,
            # Also for those of TensorFlow 2: this is the importer that takes signatures.
            saved_model_version=1,
            saved_model_tags=set(tags),
            saved_model_exported_names=[signature],
        )
        return bytes(flags.SerializeToString())
    flags = convert.build_model_flags()
    for spec in source.contract.inputs:
        array = flags.input_arrays.add()
        array.name = array_name(spec)
        array.data_type = convert.convert_tensor_tf_type_to_tflite_type(tf.as_dtype(spec.dtype))
        array.shape.unknown_rank = spec.shape is None
        array.shape.dims.extend(-1 if size is None else size for size in spec.shape or ())
    for name in dict.fromkeys(array_name(spec) for spec in source.contract.outputs):
        flags.output_arrays.append(name)
    return bytes(flags.SerializeToString())


def _conversion_flags(precision: str) -> Any:
    import tensorflow as tf
    from tensorflow.lite.python import convert

    options: dict[str, Any] = {}
    if precision in ("fp16", "dynamic"):
        options = {
            "post_training_quantize": True,
            "quantize_to_float16": precision == "fp16",
            "enable_mlir_dynamic_range_quantizer": True,
        }
    elif precision in ("int8", "int16x8"):
        options = {
            "inference_type": tf.int8 if precision == "int8" else tf.int16,
            "inference_input_type": tf.float32,
        }
    return convert.build_conversion_flags(
        target_ops={convert.OpsSet.TFLITE_BUILTINS},
        enable_composite_direct_lowering=True,
        **options,
    )


def _integer(model: bytes, job: ConversionJob, source: Source) -> bytes:
    """Calibrate and quantize; inputs and outputs stay float, so that the contract stays the same."""
    import tensorflow as tf

    from edgeconv.comparison.samples import load_samples

    if job.calibration is None:
        raise UsageError(
            f"{job.precision} needs calibration samples",
            where=source.path,
            hint="give some with --calibration FILE.npz (100 typical inputs are enough)",
        )
    samples = load_samples(job.calibration, source.contract)
    order = _positions(read_model(Buffer(model)), source)[0]
    names = [name for name, _ in order]

    def feed() -> Any:
        for sample in samples:
            yield [sample[name] for name in names]

    from tensorflow.lite.python import convert
    from tensorflow.lite.python.optimize import calibrator

    try:
        model = calibrator.add_intermediate_tensors(model)
        engine = calibrator.Calibrator(model, [], [])
        if job.precision == "int8":
            return bytes(
                convert.mlir_quantize(
                    engine.calibrate(feed), False, input_data_type=tf.float32, output_data_type=tf.float32
                )
            )
        return bytes(
            engine.calibrate_and_quantize(
                feed, tf.float32, tf.float32, False, activations_type=tf.int16, bias_type=tf.int64
            )
        )
    except EdgeconvError:
        raise
    except Exception as error:  # the binding raises whatever its C++ side is mapped to
        raise ConversionError(
            f"the model cannot be quantized to {job.precision}",
            where=source.path,
            why=" ".join(str(error).split())[:400],
            hint="the op has no kernel in this precision: leave the precision out, or replace the op",
        ) from error


def _write(model: bytes, destination: Path, source: Source) -> Contract:
    parsed = read_model(Buffer(model))
    inputs, outputs = _positions(parsed, source)
    key = source.contract.signature or SIGNATURE
    with destination.open("wb") as stream:
        stream.write(signature_prefix(model, key, inputs, outputs))
        stream.write(model)
    graph = parsed.subgraphs[0]
    return replace(
        source.contract,
        inputs=_specs(source.contract.inputs, inputs, graph),
        outputs=_specs(source.contract.outputs, outputs, graph),
        signature=key,
    )


def _positions(model: TfliteModel, source: Source) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Logical name and tensor index of inputs and outputs, in the contract's order."""
    contract, graph = source.contract, model.subgraphs[0]
    if source.saved_model is not None and model.signatures:
        written = model.signatures[0]
        inputs, outputs = dict(written.inputs), dict(written.outputs)
        try:
            return [(s.name, inputs[s.name]) for s in contract.inputs], [
                (s.name, outputs[s.name]) for s in contract.outputs
            ]
        except KeyError as error:
            raise ConversionError(
                f"the converter lost {error.args[0]!r}",
                where=source.path,
                why=f"it wrote the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}",
            ) from error
    arrays = list(dict.fromkeys(array_name(spec) for spec in contract.outputs))
    if len(graph.inputs) != len(contract.inputs) or len(graph.outputs) != len(arrays):
        raise ConversionError(
            f"the converter wrote {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, "
            f"not {len(contract.inputs)} and {len(arrays)}",
            where=source.path,
            hint="this model needs another way: try it straight from the SavedModel",
        )
    # The converter keeps the order it was told.
    return [(s.name, i) for s, i in zip(contract.inputs, graph.inputs, strict=True)], [
        (spec.name, graph.outputs[arrays.index(array_name(spec))]) for spec in contract.outputs
    ]


def _specs(
    specs: Sequence[TensorSpec], positions: Sequence[tuple[str, int]], graph: Subgraph
) -> tuple[TensorSpec, ...]:
    result = []
    for spec, (_, index) in zip(specs, positions, strict=True):
        tensor = graph.tensors[index]
        result.append(
            replace(
                spec,
                dtype=tensor.dtype,
                tensor=tensor.name,
                shape=_shape(spec, tensor),
                quantization=tensor.quantization(),
            )
        )
    return tuple(result)


def _shape(spec: TensorSpec, tensor: Tensor) -> tuple[int | None, ...] | None:
    stored = tensor.signature
    if stored is None:
        return spec.shape
    if spec.shape is None or len(spec.shape) != len(stored):
        return tuple(None if size < 0 else size for size in stored)
    # What the contract knows, the file cannot know worse; an input that the contract leaves open stays so.
    return tuple(
        want if want is not None else (None if have < 0 else have)
        for want, have in zip(spec.shape, stored, strict=True)
    )


def array_name(spec: TensorSpec) -> str:
    name = spec.inner_name
    return name.removesuffix(":0")


def _fixed_batch(contract: Contract) -> tuple[Contract, int | None]:
    """The contract with open batches pinned to 1, and the batch; ``None`` where inputs differ in theirs."""

    def pinned(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(spec, shape=(1, *spec.shape[1:])) if spec.shape and spec.shape[0] is None else spec
            for spec in specs
        )

    inputs = pinned(contract.inputs)
    batches = {spec.shape[0] for spec in inputs if spec.shape}
    fixed = replace(contract, inputs=inputs)
    if inputs != contract.inputs:
        fixed = replace(fixed, outputs=pinned(contract.outputs))
    return fixed, batches.pop() if len(batches) == 1 else None
