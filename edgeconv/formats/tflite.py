"""TFLite (LiteRT) flatbuffers, read without TensorFlow and without the runtime."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._flatbuffer import Buffer, FlatbufferError, map_file
from edgeconv.formats._quantized_range import STORED_RANGES, real_range
from edgeconv.formats._tflite_macs import UnknownMacsError, count_macs
from edgeconv.formats._tflite_metadata import (
    authored_metadata,
    conversion_of,
    minimum_runtime_of,
    packed_files,
)
from edgeconv.formats._tflite_model import (
    IDENTIFIER,
    FutureVersionError,
    SignatureDef,
    Tensor,
    TfliteModel,
    read_model,
)
from edgeconv.formats._tflite_names import bytes_of
from edgeconv.formats._tflite_precision import precision_of
from edgeconv.formats.base import Description, Finding, Signature, TensorSpec

_NO_WEIGHTS = frozenset({"int32", "int64", "uint32", "uint64", "bool", "string"})


class TfliteFormat:
    """A ``.tflite`` file, with or without TFLite Metadata packed behind it."""

    name = "tflite"
    suffix = ".tflite"

    def recognise(self, path: Path, head: bytes) -> float:
        """1 where the file identifier of the schema is at its place."""
        return 1.0 if head[4:8] == IDENTIFIER else 0.0

    def describe(self, path: Path) -> Description:
        """Describe the model from its tables alone; the weights are not read.

        Metadata keys: ``precision`` (see ``edgeconv.formats._tflite_precision``), ``op_versions`` (op to
        the versions used), ``subgraphs`` (how many), ``operators`` (how many); where the file says so
        ``description``, ``conversion``, ``input_ranges`` (real range of float inputs that are
        quantized at once), ``output_steps`` (of float outputs that are whole numbers before),
        ``min_runtime_version``, ``model`` (TFLite Metadata), ``labels``,
        ``normalisation``, ``associated_files``, ``external_files``.

        Raises:
            InvalidModelError: truncated, corrupt, or of a newer schema.
        """
        with _reading(path):
            return self._describe(path, load_tflite(path))

    def _describe(self, path: Path, model: TfliteModel) -> Description:
        ops: Counter[str] = Counter()
        versions: defaultdict[str, set[int]] = defaultdict(set)
        for _, operator in model.operators():
            ops[operator.name] += 1
            versions[operator.name].add(operator.version)
        findings = _findings(model, ops)
        signatures = _signatures(model)
        macs: int | None = None
        try:
            macs = count_macs(model, model.signatures[0].subgraph if model.signatures else 0)
        except (UnknownMacsError, RecursionError) as error:
            findings.append(Finding("macs-unknown", f"multiply-accumulates are not known: {error}"))
        conversion = conversion_of(model)
        version = conversion.get("tensorflow")
        return Description(
            format=self.name,
            path=str(path),
            bytes=sum(file.stat().st_size for file in _files(path, model)),
            producer=f"TensorFlow {version}" if version else (model.description or "").rstrip(".") or None,
            version=f"schema {model.version}",
            signatures=signatures,
            parameters=_parameters(model),
            macs=macs,
            ops=dict(sorted(ops.items())),
            metadata=_metadata(path, model, conversion, versions),
            findings=tuple(findings),
        )

    def files(self, path: Path) -> list[Path]:
        """The file itself, and external weight files that it names."""
        return _files(path, load_tflite(path))

    def validate(self, path: Path) -> None:
        """Check more than describing needs: the bytes of every constant, and that operators run in order.

        Raises:
            InvalidModelError: a constant has too few or too many bytes for its shape and type, or an
                operator reads a tensor that nothing has written before.
        """
        model = load_tflite(path)
        for number, subgraph in enumerate(model.subgraphs):
            ready = {-1, *subgraph.inputs}
            for index, tensor in enumerate(subgraph.tensors):
                if tensor.constant or tensor.variable:
                    ready.add(index)
                _check_constant(path, model, tensor)
            for position, operator in enumerate(subgraph.operators):
                for index in operator.inputs:
                    # What a custom op does with its inputs is its own matter; some are scratch memory.
                    if index not in ready and ":" not in operator.name:
                        raise InvalidModelError(
                            f"{operator.name} reads a tensor that nothing has written before",
                            where=f"{path}, subgraph {number}, operator {position}, "
                            f"tensor {subgraph.tensors[index].name!r}",
                            hint="convert the model again",
                        )
                ready.update(operator.outputs)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the reader raises, also late where a table is read when it is needed, into one error."""
    try:
        yield
    except FutureVersionError as error:
        raise InvalidModelError(
            f"this TFLite model has schema version {error.version}, this release reads version 3",
            where=str(path),
            hint="upgrade edgeconv, or convert the model again with a released TensorFlow",
        ) from error
    except FlatbufferError as error:
        raise InvalidModelError(
            "the TFLite model is truncated or corrupt",
            where=str(path),
            why=str(error),
            hint="copy or download the file again and compare its size with the original",
        ) from error


def load_tflite(path: Path) -> TfliteModel:
    """The tables of a TFLite file.

    Raises:
        InvalidModelError: truncated, corrupt, or of a version from the future.
    """
    try:
        data = Buffer(map_file(path))
    except OSError as error:
        raise InvalidModelError("cannot read the file", where=str(path), why=str(error)) from error
    if data.size < 8 or data.identifier != IDENTIFIER:
        raise InvalidModelError("not a TFLite model", where=str(path), why="its file identifier is not TFL3")
    with _reading(path):
        model = read_model(data)
        # FlatBuffers pad a file to whole words; only a packed archive may follow.
        if data.size % 4 and not packed_files(path)[0]:
            raise FlatbufferError(f"its {data.size} bytes end within a word")
    return model


def _files(path: Path, model: TfliteModel) -> list[Path]:
    beside = []
    for name in model.external_files:
        # A name with a folder or a drive in it could lead anywhere; such a file is not taken along.
        file = path.parent / name
        if Path(name).name == name and "\\" not in name and file.is_file():
            beside.append(file)
    return sorted({path, *beside})


def _signatures(model: TfliteModel) -> tuple[Signature, ...]:
    if model.signatures:
        return tuple(_signature(model, one) for one in model.signatures)
    main = model.subgraphs[0]
    return (
        Signature(
            "",
            _unnamed(tuple(main.tensors[index] for index in main.inputs), "input"),
            _unnamed(tuple(main.tensors[index] for index in main.outputs), "output"),
        ),
    )


def _unnamed(tensors: tuple[Tensor, ...], role: str) -> tuple[TensorSpec, ...]:
    """Specs without a signature: named as the tensors are, by position where that names nothing."""
    names = Counter(tensor.name for tensor in tensors)
    return tuple(
        _spec(tensor, tensor.name if tensor.name and names[tensor.name] == 1 else f"{role}_{position}")
        for position, tensor in enumerate(tensors)
    )


def _signature(model: TfliteModel, signature: SignatureDef) -> Signature:
    tensors = model.subgraphs[signature.subgraph].tensors
    return Signature(
        signature.name,
        tuple(_spec(tensors[index], name) for name, index in signature.inputs),
        tuple(_spec(tensors[index], name) for name, index in signature.outputs),
    )


def _spec(tensor: Tensor, name: str) -> TensorSpec:
    signature = tensor.signature
    return TensorSpec(
        name=name,
        dtype=tensor.dtype,
        shape=None if signature is None else tuple(None if one < 0 else one for one in signature),
        tensor=tensor.name if tensor.name != name else None,
        quantization=tensor.quantization(),
    )


def _parameters(model: TfliteModel) -> int:
    # Tensors may share a buffer, also across subgraphs: its weights are there once. Integers without a
    # scale are shapes, axes and indices.
    elements: dict[tuple[int, int], int] = {}
    for number, subgraph in enumerate(model.subgraphs):
        for index, tensor in enumerate(subgraph.tensors):
            if tensor.constant and (tensor.scales or tensor.dtype not in _NO_WEIGHTS):
                key = (-1, tensor.buffer) if tensor.buffer else (number, index)
                elements[key] = max(elements.get(key, 0), tensor.elements)
    return sum(elements.values())


def _metadata(
    path: Path, model: TfliteModel, conversion: dict[str, Any], versions: dict[str, set[int]]
) -> dict[str, Any]:
    authored = authored_metadata(model)
    packed, texts = packed_files(path)
    named = [file for one in authored.get("outputs", ()) for file in one.get("label_files", ())]
    labels = next((texts[file] for file in named if file in texts), None)
    normalisation = next((n for one in authored.get("inputs", ()) if (n := one.get("normalisation"))), None)
    optional: dict[str, Any] = {
        "description": model.description,
        "conversion": conversion,
        "min_runtime_version": minimum_runtime_of(model),
        "model": authored,
        "labels": labels,
        "normalisation": normalisation,
        "associated_files": packed,
        "external_files": list(model.external_files),
        "input_ranges": _input_ranges(model),
        "output_steps": _output_steps(model),
        "entries": sorted(model.metadata),
    }
    return {
        "precision": precision_of(model),
        "op_versions": {name: sorted(found) for name, found in sorted(versions.items())},
        "subgraphs": len(model.subgraphs),
        "operators": sum(len(subgraph.operators) for subgraph in model.subgraphs),
    } | {key: value for key, value in optional.items() if value}


def _input_ranges(model: TfliteModel) -> dict[str, list[float]]:
    """What a float input can carry where the model quantizes it at once: input name to low and high."""
    ranges: dict[str, list[float]] = {}
    for signature in model.signatures:
        subgraph = model.subgraphs[signature.subgraph]
        for name, index in signature.inputs:
            readers = [operator for operator in subgraph.operators if index in operator.inputs]
            if (
                len(readers) != 1
                or readers[0].name != "QUANTIZE"
                or not subgraph.tensors[index].dtype.startswith("f")
            ):
                continue
            stored = subgraph.tensors[readers[0].outputs[0]]
            found = stored.quantization()
            if found is not None and len(found.scale) == 1 and stored.dtype in STORED_RANGES:
                ranges[name] = real_range(stored.dtype, found)
    return ranges


def _output_steps(model: TfliteModel) -> dict[str, float]:
    """Between neighbouring values of a float output that is made of whole numbers at last, by output name."""
    steps: dict[str, float] = {}
    for signature in model.signatures:
        subgraph = model.subgraphs[signature.subgraph]
        for name, index in signature.outputs:
            makers = [operator for operator in subgraph.operators if index in operator.outputs]
            if len(makers) == 1 and makers[0].name == "DEQUANTIZE":
                found = subgraph.tensors[makers[0].inputs[0]].quantization()
                if found is not None and len(found.scale) == 1:
                    steps[name] = found.scale[0]
    return steps


def _findings(model: TfliteModel, ops: Counter[str]) -> list[Finding]:
    findings = []
    for name in sorted(ops):
        kind, _, op = name.partition(":")
        if kind == "flex":
            findings.append(
                Finding(
                    "flex-op",
                    f"'{op}' is a TensorFlow op, which only a runtime with the Flex delegate takes",
                    where=op,
                    hint="convert without Select TF ops; replace or cut the part that needs them",
                )
            )
        elif kind == "custom":
            findings.append(
                Finding("custom-op", f"'{op}' is a custom op, which the runtime must have built in", where=op)
            )
        elif name.startswith("BUILTIN_"):
            findings.append(
                Finding("unknown-op", f"operator code {name[8:]} is newer than this release", where=name)
            )
    misplaced = [
        tensor
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors
        if tensor.scales > 1 and not _axis_fits(tensor)
    ]
    if misplaced:
        first = misplaced[0]
        findings.append(
            Finding(
                "quantized-dimension",
                f"{len(misplaced)} tensors have scales along a dimension that they have not, the first "
                f"{first.scales} along dimension {first.quantized_axis()} of {list(first.shape)}: "
                "recent runtimes refuse the file",
                where=first.name,
                hint="convert or quantize the model again with a current converter",
            )
        )
    return findings


def _axis_fits(tensor: Tensor) -> bool:
    axis = tensor.quantized_axis()
    return 0 <= axis < len(tensor.shape) and tensor.shape[axis] == tensor.scales


def _check_constant(path: Path, model: TfliteModel, tensor: Tensor) -> None:
    length = model.spans[tensor.buffer].length
    expected = bytes_of(tensor.dtype, math.prod(tensor.shape))
    if not length or tensor.sparse or expected is None or expected == length:
        return
    raise InvalidModelError(
        f"a constant of shape {list(tensor.shape)} and type {tensor.dtype} has {length} bytes "
        f"instead of {expected}",
        where=f"{path}, tensor {tensor.name!r}",
        hint="copy the file again, or convert the model again",
    )


FORMAT = TfliteFormat()
