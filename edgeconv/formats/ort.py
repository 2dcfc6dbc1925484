"""ONNX Runtime's own ORT format, read without the runtime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._flatbuffer import Buffer, FlatbufferError, map_file
from edgeconv.formats._onnx_graph import DEFAULT_DOMAINS, RUNTIME_DOMAINS
from edgeconv.formats._onnx_macs import UnknownMacsError, count_macs
from edgeconv.formats._onnx_precision import precision_of
from edgeconv.formats._ort_model import (
    IDENTIFIER,
    NEWEST_FORMAT,
    OLDEST_LOADABLE_FORMAT,
    FutureVersionError,
    OrtModel,
    read_model,
)
from edgeconv.formats._ort_shapes import graph_at_batch_one
from edgeconv.formats.base import Description, Finding, Signature, TensorSpec

_NO_MODEL_VERSION = (1 << 63) - 1
_HARDWARE_DOMAINS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")


class OrtFormat:
    """An ``.ort`` file."""

    name = "ort"
    suffix = ".ort"

    def recognise(self, path: Path, head: bytes) -> float:
        """1 where the file identifier of the schema is at its place."""
        return 1.0 if head[4:8] == IDENTIFIER else 0.0

    def describe(self, path: Path) -> Description:
        """Describe the model from its tables alone; the weights are not read.

        Metadata keys: ``precision`` and ``quantization_style``, ``format_version``, ``ir_version``,
        ``opsets`` (domain to version, ``ai.onnx`` for the default), ``nodes`` (how many); where the file
        says so ``providers``, ``domain``, ``model_version``, ``description``, ``properties``.

        Raises:
            InvalidModelError: truncated, corrupt, or of a newer version of the format.
        """
        model = load_ort(path)
        findings = _findings(model)
        macs: int | None = None
        try:
            macs = count_macs(graph_at_batch_one(model))
        except (UnknownMacsError, RecursionError) as error:
            findings.append(Finding("macs-unknown", f"multiply-accumulates are not known: {error}"))
        opset = model.opsets.get("ai.onnx")
        return Description(
            format=self.name,
            path=str(path),
            bytes=path.stat().st_size,
            producer=model.producer,
            version=f"ORT format {model.format_version}, IR {model.ir_version}"
            + (f", opset {opset}" if opset else ""),
            signatures=(_signature(model),),
            parameters=model.graph.parameters(),
            macs=macs,
            ops=dict(sorted(Counter(node.qualified for node in model.graph.all_nodes()).items())),
            metadata=_metadata(model),
            findings=tuple(findings),
        )

    def files(self, path: Path) -> list[Path]:
        """The file itself."""
        return [path]

    def validate(self, path: Path) -> None:
        """Check more than describing needs: that every tensor a node reads comes from somewhere.

        Raises:
            InvalidModelError: a node reads a tensor that is no input, no constant and no node's output.
        """
        graph = load_ort(path).graph
        there = {"", *graph.inputs, *graph.constants}
        there.update(output for node in graph.nodes for output in node.outputs)
        for node in graph.nodes:
            for name in node.inputs:
                if name not in there:
                    raise InvalidModelError(
                        f"{node.qualified} reads '{name}', which nothing gives",
                        where=f"{path}, node '{node.name}'",
                        hint="convert the model again",
                    )


def load_ort(path: Path) -> OrtModel:
    """The tables of an ORT file.

    Raises:
        InvalidModelError: truncated, corrupt, or of a newer version of the format.
    """
    where = str(path)
    try:
        data = Buffer(map_file(path))
    except OSError as error:
        raise InvalidModelError("cannot read the file", where=where, why=str(error)) from error
    if data.size < 8 or data.identifier != IDENTIFIER:
        raise InvalidModelError("not an ORT model", where=where, why="its file identifier is not ORTM")
    try:
        model = read_model(data)
        if data.size % 4:
            raise FlatbufferError(f"its {data.size} bytes end within a word")
    except FutureVersionError as error:
        raise InvalidModelError(
            f"this ORT model has format version {error}, this release reads up to {NEWEST_FORMAT}",
            where=where,
            hint="upgrade edgeconv, or convert the ONNX model again with the ONNX Runtime of the device",
        ) from error
    except FlatbufferError as error:
        raise InvalidModelError(
            "the ORT model is truncated or corrupt",
            where=where,
            why=str(error),
            hint="copy or download the file again and compare its size with the original",
        ) from error
    return model


def _signature(model: OrtModel) -> Signature:
    def specs(names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=name, dtype=model.types[name].dtype, shape=model.types[name].dims)
            for name in names
            if name not in model.graph.constants
        )

    return Signature("", specs(model.graph.inputs), specs(model.graph.outputs))


def _metadata(model: OrtModel) -> dict[str, Any]:
    precision, style = precision_of(model.graph)
    optional: dict[str, Any] = {
        "quantization_style": style,
        "providers": list(model.providers),
        "domain": model.domain,
        "model_version": None if model.model_version == _NO_MODEL_VERSION else model.model_version,
        "description": model.description,
        "properties": model.properties,
    }
    return {
        "precision": precision,
        "format_version": model.format_version,
        "ir_version": model.ir_version,
        "opsets": dict(sorted(model.opsets.items())),
        "nodes": sum(1 for _ in model.graph.all_nodes()),
    } | {key: value for key, value in optional.items() if value}


def _findings(model: OrtModel) -> list[Finding]:
    findings = []
    if int(model.format_version) < OLDEST_LOADABLE_FORMAT:
        findings.append(
            Finding(
                "format-too-old",
                f"format version {model.format_version}: current releases of ONNX Runtime take it from "
                f"version {OLDEST_LOADABLE_FORMAT}",
                hint="convert the ONNX model again",
            )
        )
    if model.external:
        findings.append(
            Finding("external-data", "weights lie in another file, which the caller must hand to the runtime")
        )
    domains = {node.domain: node for node in model.graph.all_nodes()}
    for domain, node in sorted(domains.items()):
        if domain in _HARDWARE_DOMAINS:
            findings.append(
                Finding(
                    "hardware-specific",
                    f"ops of '{domain}' are made for the kind of processor the file was saved on",
                    where=node.name or node.op,
                    hint="save it with the optimization level 'extended' or 'basic' for other devices",
                )
            )
        elif domain not in DEFAULT_DOMAINS and domain not in RUNTIME_DOMAINS:
            findings.append(
                Finding(
                    "custom-op",
                    f"'{domain}::{node.op}' is a custom op: the runtime needs its library",
                    where=node.name or node.op,
                )
            )
    return findings


FORMAT = OrtFormat()
