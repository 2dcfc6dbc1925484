"""The words of the project as data: tensors, signatures, contracts, descriptions, artifacts, formats.

Everything here is plain frozen data that goes to JSON and back without loss (``to_json`` and
``from_json``), because it travels between processes and into the manifest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Shape = tuple[int | None, ...]
"""One entry a dimension; ``None`` is a dimension that is not fixed."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantization of a tensor: ``real = scale * (stored - zero_point)``.

    ``axis`` is the quantized dimension when ``scale`` has more than one entry.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the logical name, the same in all artifacts of one model (``image``, ``logits``).
        dtype: NumPy's name of the element type (``float32``, ``int8``, ``bool``), or ``string``,
            ``resource``, ``variant``; a quantized tensor has its stored type.
        shape: one entry a dimension, ``None`` for a dimension that is not fixed; the whole is
            ``None`` where not even the rank is known.
        tensor: the name inside this artifact where it differs (``serving_default_x:0``).
        quantization: scale and zero point where the stored values are quantized.
    """

    name: str
    dtype: str
    shape: Shape | None
    tensor: str | None = None
    quantization: Quantization | None = None

    @property
    def inner_name(self) -> str:
        """The name by which the artifact itself knows this tensor."""
        return self.tensor if self.tensor is not None else self.name


@dataclass(frozen=True, slots=True)
class Signature:
    """A callable of a model: a name, ordered inputs and ordered outputs."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Contract:
    """What the model expects and gives. It travels with every artifact.

    ``layout``, ``normalisation`` and ``labels`` are what the user or the file's metadata says about
    meaning; they are ``None`` where nobody said anything, never a guess.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    signature: str | None = None
    layout: str | None = None
    normalisation: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None

    def input(self, name: str) -> TensorSpec:
        """The input of that logical name; KeyError if there is none."""
        return next_named(self.inputs, name)

    def output(self, name: str) -> TensorSpec:
        """The output of that logical name; KeyError if there is none."""
        return next_named(self.outputs, name)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tensor that may be an input or output of a graph that does not say.

    Attributes:
        role: ``input`` or ``output``.
        tensor: what is known of it; ``name`` is the node's name.
        op: the op type of the node.
        score: 0 to 1, higher is likelier.
        evidence: short reasons, for a person.
    """

    role: str
    tensor: TensorSpec
    op: str
    score: float
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about a model before using it (``code`` is stable)."""

    code: str
    message: str
    where: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What can be said about a model on disk without running anything that is in it.

    Attributes:
        format: registered name of the format (``tflite``).
        path: the file or folder, as given.
        bytes: size on disk of all files that belong to it.
        producer: who made it, with version, as the file says it; ``None`` if it does not.
        version: version of the format in this file (``schema 3``, ``IR 8, opset 15``, ``Keras 2.4.0``).
        signatures: the callables; empty for a graph that does not name any.
        candidates: ranked inputs and outputs where ``signatures`` is empty.
        parameters: number of weight elements, ``None`` where unknown.
        macs: multiply-accumulates of one inference at batch 1, ``None`` where shapes are not known.
        ops: op type to count; domain-qualified where the format has domains.
        metadata: free facts (tags, opsets, assets, minimal runtime version, external data files).
        findings: what a person should know.
    """

    format: str
    path: str
    bytes: int
    producer: str | None = None
    version: str | None = None
    signatures: tuple[Signature, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    ops: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model on disk in one format, with what is known about it."""

    path: Path
    format: str
    precision: str
    sha256: str
    contract: Contract | None


@runtime_checkable
class Format(Protocol):
    """One way a model lies on disk. One module of ``edgeconv.formats`` each, constant ``FORMAT``."""

    name: str
    """Registered name, as in ``--to``."""
    suffix: str
    """Suffix of artifacts in this format (``.tflite``); empty for a folder."""

    def recognise(self, path: Path, head: bytes) -> float:
        """How sure this format is that ``path`` is one of its own: 0 (no) to 1 (yes), by content.

        ``head`` holds the first 4096 bytes of a file and is empty for a folder. Cheap: reads no more
        than it needs, raises nothing.
        """
        ...

    def describe(self, path: Path) -> Description:
        """Describe the model. Never executes what is in it.

        Raises:
            InvalidModelError: truncated, corrupt, or of a version from the future.
        """
        ...

    def files(self, path: Path) -> list[Path]:
        """All files that belong to the model at ``path``, sorted; for hashing, sizes and copying."""
        ...


def next_named(specs: Sequence[TensorSpec], name: str) -> TensorSpec:
    """The spec of that logical name; KeyError if there is none."""
    for spec in specs:
        if spec.name == name:
            return spec
    raise KeyError(name)


def to_json(value: Any) -> Any:
    """Turn any of the dataclasses of this module (nested) into what ``json.dumps`` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def tensor_from_json(data: Mapping[str, Any]) -> TensorSpec:
    """Inverse of ``to_json`` for a :class:`TensorSpec`."""
    quantization = data.get("quantization")
    shape = data["shape"]
    return TensorSpec(
        name=data["name"],
        dtype=data["dtype"],
        shape=None if shape is None else tuple(shape),
        tensor=data.get("tensor"),
        quantization=None
        if quantization is None
        else Quantization(
            scale=tuple(quantization["scale"]),
            zero_point=tuple(quantization["zero_point"]),
            axis=quantization.get("axis"),
        ),
    )


def contract_from_json(data: Mapping[str, Any] | None) -> Contract | None:
    """Inverse of ``to_json`` for a :class:`Contract`; ``None`` stays ``None``."""
    if data is None:
        return None
    labels = data.get("labels")
    return Contract(
        inputs=tuple(tensor_from_json(t) for t in data["inputs"]),
        outputs=tuple(tensor_from_json(t) for t in data["outputs"]),
        signature=data.get("signature"),
        layout=data.get("layout"),
        normalisation=data.get("normalisation"),
        labels=None if labels is None else tuple(labels),
    )


def contract_of(signature: Signature) -> Contract:
    """The contract that a signature states."""
    return Contract(inputs=signature.inputs, outputs=signature.outputs, signature=signature.name)
