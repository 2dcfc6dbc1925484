"""SavedModel to TFLite by TensorFlow's converter without a frozen graph between: the second way.

It takes what cannot be frozen (lookup tables, graphs above 2 GB), and pays for it: TensorFlow loads the
model for every precision anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.conversions._tflite_converter import SIGNATURE, Source, convert_to_tflite
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import ConversionError
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.formats.base import Contract
from edgeconv.runtimes._programs import identifier
from edgeconv.runtimes._saved_model_reading import choose_graph, contract_in, nodes_run, read_saved_model
from edgeconv.runtimes._tensorflow import as_conversion_error, refuse_untrusted, shape_of
from edgeconv.surgery.graph_editing import check_known_ops


def convert(job: ConversionJob) -> ConversionResult:
    """Convert one signature of the SavedModel at ``job.source``; see :class:`ConversionJob`.

    Raises:
        UsageError: no such signature, or no calibration samples where the precision needs some.
        ConversionError: see ``convert_to_tflite``; or the contract is not that of a signature (tensors were
            cut), which only the way over a frozen graph can do.
    """
    path = str(job.source.path)
    if job.options.get("checkpoint"):
        raise ConversionError(
            "straight from the SavedModel only its own values can be converted",
            where=str(job.source.path),
            hint="this way is only taken where the one over the frozen graph failed: see what that says",
        )
    proto = read_saved_model(job.source.path)
    graph = choose_graph(proto, job.source.contract, job.options, path)
    contract = contract_in(graph, job.source.contract, job.options, path)
    running = nodes_run(graph, contract)
    refuse_untrusted(running, path, job.options)
    check_known_ops(graph.graph_def, path)
    nodes: dict[str, list[str]] = {}
    for node in running:
        nodes.setdefault(node.op, []).append(node.name)
    signature = contract.signature or SIGNATURE
    definition = _definition(graph, contract, signature, path)
    tags = tuple(graph.meta_info_def.tags)
    folder = str(find_saved_model(job.source.path).folder)
    if _pinned(contract, definition):
        folder = _with_shapes(folder, contract, signature, tags, job.scratch / "pinned")
        tags = ("serve",)
    source = Source(
        path=path,
        contract=contract,
        nodes_of=lambda: nodes,
        saved_model=(folder, tags, signature),
    )
    return convert_to_tflite(job, source)


def _definition(graph: Any, contract: Contract, signature: str, path: str) -> Any:
    definition = graph.signature_def.get(signature)
    tensors = {} if definition is None else {key: info.name for key, info in definition.inputs.items()}
    results = {} if definition is None else {key: info.name for key, info in definition.outputs.items()}
    whole = set(tensors) == {spec.name for spec in contract.inputs}
    if not whole or not {spec.name for spec in contract.outputs} <= set(results):
        raise ConversionError(
            f"inputs and outputs are not those of the signature '{signature}'",
            where=path,
            why="straight from a SavedModel only a whole signature can be converted",
            hint="convert over a frozen graph, which can be cut",
        )
    names: dict[str, str] = {}
    for key, tensor in sorted(tensors.items()):
        if tensor in names:
            raise ConversionError(
                f"the inputs '{names[tensor]}' and '{key}' of '{signature}' are one tensor, '{tensor}'",
                where=path,
                why="TensorFlow's importer of SavedModels ends the process over it",
                hint="convert over a frozen graph",
            )
        names[tensor] = key
    return definition


def _pinned(contract: Contract, definition: Any) -> bool:
    return any(
        spec.shape is not None and spec.shape != shape_of(definition.inputs[spec.name].tensor_shape)
        for spec in contract.inputs
    )


def _with_shapes(source: str, contract: Contract, signature: str, tags: tuple[str, ...], folder: Path) -> str:
    """The same SavedModel with the contract's shapes in its signature, in ``folder``."""
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(source, tags=list(tags))
        inner = loaded.signatures[signature]
        names = {identifier(spec.name): spec.name for spec in contract.inputs}

        def serve(**inputs: Any) -> Any:
            return inner(**{names[key]: value for key, value in inputs.items()})

        function = tf.function(serve, autograph=False)
        concrete = function.get_concrete_function(
            **{
                key: tf.TensorSpec(contract.input(name).shape, contract.input(name).dtype, name=key)
                for key, name in names.items()
            }
        )
        module = tf.Module()
        module.model = loaded
        tf.saved_model.save(module, str(folder), signatures={signature: concrete})
    except (tf.errors.OpError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise as_conversion_error(
            error, "the SavedModel cannot be given fixed shapes", source, "convert over a frozen graph"
        ) from error
    return str(folder)


CONVERSION = (
    Conversion(
        name="tflite_from_saved_model",
        source="saved_model",
        target="tflite",
        precisions=("fp32",),
        convert=convert,
        cost=8.0,
        preload=("tensorflow",),
        tools=("tensorflow",),
        options=("signature", "tags", "trust", "checkpoint"),
    ),
    Conversion(
        name="tflite_from_saved_model",
        source="saved_model",
        target="tflite",
        precisions=("fp16", "dynamic", "int8", "int16x8"),
        convert=convert,
        cost=12.0,
        preload=("tensorflow",),
        tools=("tensorflow",),
        options=("signature", "tags", "trust", "checkpoint"),
        needs_calibration=("int8", "int16x8"),
    ),
)
