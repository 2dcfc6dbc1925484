"""ONNX models, also those with external data; read without their weights."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._flatbuffer import map_file
from edgeconv.formats._onnx_external import external_files, external_tensors
from edgeconv.formats._onnx_graph import DEFAULT_DOMAINS, RUNTIME_DOMAINS, Graph
from edgeconv.formats._onnx_inference import at_batch_one
from edgeconv.formats._onnx_macs import UnknownMacsError, count_macs
from edgeconv.formats._onnx_model import (
    all_nodes,
    all_tensors,
    load_model,
    nodes_graph,
    plain_graph,
    text_of,
    type_of,
)
from edgeconv.formats._onnx_precision import precision_of
from edgeconv.formats._onnx_versions import onnx_limits
from edgeconv.formats._onnx_wire import looks_like_model
from edgeconv.formats._quantized_range import STORED_RANGES, real_range
from edgeconv.formats.base import Description, Finding, Quantization, Signature, TensorSpec

_KEEPS_VALUES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


class OnnxFormat:
    """An ``.onnx`` file and the external data files beside it."""

    name = "onnx"
    suffix = ".onnx"

    def recognise(self, path: Path, head: bytes) -> float:
        """1 for the fields of a ModelProto at the top level, 0.7 where the file ends within its graph."""
        # Cheap answer first: an ONNX file begins with a small field, a GraphDef with a long one.
        if not head or looks_like_other_file(head):
            return 0.0
        try:
            return looks_like_model(map_file(path))
        except OSError:
            return 0.0

    def describe(self, path: Path) -> Description:
        """Describe the model from all but its large weights.

        Metadata keys: ``precision`` and ``quantization_style`` (see ``edgeconv.formats._onnx_precision``),
        ``ir_version``, ``opsets`` (domain to version, ``ai.onnx`` for the default), ``graph`` (its name),
        ``nodes`` (how many); where there are any ``functions``, ``input_ranges`` (real
        range of float inputs that are quantized at once), ``output_steps`` (of float outputs that are
        whole numbers before), ``external_data`` (names of files),
        ``model_version``, ``domain``, ``description``, ``properties``.

        Raises:
            InvalidModelError: truncated, corrupt, of a future IR version, or its external data is
                missing, too short or outside its folder.
        """
        model = load_model(path)
        outside = external_files(path, model)
        graph = plain_graph(model.graph)
        opsets = {entry.domain or "ai.onnx": int(entry.version) for entry in model.opset_import}
        findings = _findings(model, opsets)
        macs: int | None = None
        try:
            macs = count_macs(plain_graph(at_batch_one(model).graph))
        except (UnknownMacsError, RecursionError) as error:
            findings.append(Finding("macs-unknown", f"multiply-accumulates are not known: {error}"))
        produced = f"{text_of(model.producer_name)} {text_of(model.producer_version)}".strip()
        default = opsets.get("ai.onnx")
        return Description(
            format=self.name,
            path=str(path),
            bytes=sum(file.stat().st_size for file in {path, *outside}),
            producer=produced or None,
            version=f"IR {model.ir_version}" + (f", opset {default}" if default else ""),
            signatures=(_signature(model.graph, graph),),
            parameters=_parameters(model, graph),
            macs=macs,
            ops=_ops(model, graph),
            metadata=_metadata(path, model, graph, opsets, outside),
            findings=tuple(findings),
        )

    def files(self, path: Path) -> list[Path]:
        """The file itself and its external data files.

        Raises:
            InvalidModelError: as :meth:`describe`, where the model has external data.
        """
        try:
            data = map_file(path)
        except OSError as error:
            raise InvalidModelError("cannot read the file", where=str(path), why=str(error)) from error
        # The key of the only mandatory entry of external data; most models can be answered without parsing.
        if data.find(b"location") < 0:
            return [path]
        return sorted({path, *external_files(path, load_model(path))})

    def validate(self, path: Path) -> None:
        """Check the model against the ONNX specification: ops, attributes, and the order of nodes.

        Raises:
            InvalidModelError: with what ``onnx.checker`` says.
        """
        external_files(path, load_model(path))
        import onnx

        try:
            onnx.checker.check_model(str(path))
        except Exception as error:
            # The checker raises ValidationError, and others from within the C++ library.
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise InvalidModelError(
                "not a valid ONNX model",
                where=str(path),
                why=lines[0] if lines else type(error).__name__,
                hint="convert the model again; 'edgeconv inspect' lists its ops and opsets",
            ) from error


def looks_like_other_file(head: bytes) -> bool:
    """Whether the first byte can be no field of a ModelProto: a quick no for most other files."""
    number, kind = head[0] >> 3, head[0] & 7
    return head[0] < 0x80 and (kind not in (0, 2) or number == 0 or (number == 1 and kind == 2))


def _signature(graph_proto: Any, graph: Graph) -> Signature:
    initializers = {tensor.name for tensor in graph_proto.initializer}
    return Signature(
        "",
        tuple(_spec(info) for info in graph_proto.input if info.name not in initializers),
        tuple(_spec(info) for info in graph_proto.output),
    )


def _spec(info: Any) -> TensorSpec:
    dtype, shape = type_of(info.type)
    return TensorSpec(name=info.name, dtype=dtype, shape=shape)


def _ops(model: Any, graph: Graph) -> dict[str, int]:
    counts = Counter(node.qualified for node in graph.all_nodes())
    for function in model.functions:
        for node in function.node:
            domain = "" if node.domain in DEFAULT_DOMAINS else f"{node.domain}::"
            counts[domain + node.op_type] += 1
    return dict(sorted(counts.items()))


def _parameters(model: Any, graph: Graph) -> int:
    return graph.parameters() + sum(nodes_graph(function.node).parameters() for function in model.functions)


def _metadata(
    path: Path, model: Any, graph: Graph, opsets: dict[str, int], outside: list[Path]
) -> dict[str, Any]:
    precision, style = precision_of(graph)
    optional: dict[str, Any] = {
        "quantization_style": style,
        "graph": model.graph.name,
        "domain": text_of(model.domain),
        "model_version": int(model.model_version),
        "description": text_of(model.doc_string or model.graph.doc_string),
        "functions": sorted(f"{one.domain}::{one.name}" for one in model.functions),
        "input_ranges": _input_ranges(graph),
        "output_steps": _output_steps(graph),
        "external_data": sorted({tensor.location for tensor in external_tensors(model)}),
        "properties": {text_of(entry.key): text_of(entry.value) for entry in model.metadata_props},
    }
    return {
        "precision": precision,
        "ir_version": int(model.ir_version),
        "opsets": dict(sorted(opsets.items())),
        "nodes": sum(1 for _ in graph.all_nodes()),
    } | {key: value for key, value in optional.items() if value}


def _input_ranges(graph: Graph) -> dict[str, list[float]]:
    """What a float input can carry where the model quantizes it at once: input name to low and high."""
    ranges: dict[str, list[float]] = {}
    for name in graph.inputs:
        readers = [node for node in graph.nodes if name in node.inputs]
        while len(readers) == 1 and readers[0].op in _KEEPS_VALUES and readers[0].outputs:
            readers = [node for node in graph.nodes if readers[0].outputs[0] in node.inputs]
        if len(readers) != 1 or readers[0].op != "QuantizeLinear" or len(readers[0].inputs) < 3:
            continue
        scale, zero = (graph.constants.get(other) for other in readers[0].inputs[1:3])
        if scale and zero and scale.scalar is not None and zero.scalar is not None:
            found = Quantization((float(scale.scalar),), (int(zero.scalar),))
            if zero.dtype in STORED_RANGES:
                ranges[name] = real_range(zero.dtype, found)
    return ranges


def _output_steps(graph: Graph) -> dict[str, float]:
    """Between neighbouring values of a float output that is made of whole numbers at last, by output name."""
    steps: dict[str, float] = {}
    makers = {output: node for node in graph.nodes for output in node.outputs}
    for name in graph.outputs:
        node = makers.get(name)
        while node is not None and node.op in _KEEPS_VALUES and node.inputs:
            node = makers.get(node.inputs[0])
        if node is not None and node.op == "DequantizeLinear" and len(node.inputs) > 1:
            scale = graph.constants.get(node.inputs[1])
            if scale is not None and scale.scalar is not None:
                steps[name] = float(scale.scalar)
    return steps


def _findings(model: Any, opsets: dict[str, int]) -> list[Finding]:
    findings = _version_findings(model, opsets)
    functions = {(one.domain, one.name) for one in model.functions}
    default = opsets.get("ai.onnx", 0)
    seen: set[tuple[str, str]] = set()
    for node in all_nodes(model.graph):
        key = (node.domain, node.op_type)
        if key in seen or key in functions:
            continue
        seen.add(key)
        if node.domain not in DEFAULT_DOMAINS:
            if node.domain not in RUNTIME_DOMAINS:
                findings.append(
                    Finding(
                        "custom-op",
                        f"'{node.domain}::{node.op_type}' is a custom op: the runtime needs its library",
                        where=node.name or node.op_type,
                    )
                )
        else:
            finding = _standard_op_finding(node, default)
            if finding is not None:
                findings.append(finding)
    if any(tensor.data_type == 0 for tensor in all_tensors(model)):
        findings.append(Finding("undefined-type", "a constant has no element type: no runtime takes it"))
    return findings


def _standard_op_finding(node: Any, opset: int) -> Finding | None:
    from onnx import defs

    if not defs.has(node.op_type, ""):
        return Finding(
            "unknown-op",
            f"there is no ONNX op '{node.op_type}': no runtime takes this file",
            where=node.name or node.op_type,
            hint="convert the model again; such ops are left by a converter that could not translate them",
        )
    if opset and opset <= defs.onnx_opset_version() and not defs.has(node.op_type, opset, ""):
        return Finding(
            "op-newer-than-opset",
            f"op '{node.op_type}' does not exist in opset {opset}",
            where=node.name or node.op_type,
            hint="convert the model again with a higher opset",
        )
    return None


def _version_findings(model: Any, opsets: dict[str, int]) -> list[Finding]:
    try:
        runtime = distribution_version("onnxruntime")
    except PackageNotFoundError:
        return []
    newest_ir, newest_opset = onnx_limits(runtime)
    findings = []
    if model.ir_version > newest_ir:
        findings.append(
            Finding(
                "ir-too-new",
                f"IR version {model.ir_version}: ONNX Runtime {runtime} takes up to {newest_ir}",
                hint=f"save the model with IR version {newest_ir} or lower",
            )
        )
    if opsets.get("ai.onnx", 0) > newest_opset:
        findings.append(
            Finding(
                "opset-too-new",
                f"opset {opsets['ai.onnx']}: ONNX Runtime {runtime} takes up to {newest_opset}",
                hint=f"convert the model again with opset {newest_opset} or lower",
            )
        )
    return findings


FORMAT = OnnxFormat()
