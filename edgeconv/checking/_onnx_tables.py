"""What releases of ONNX Runtime have, as it was measured of the releases themselves.

``data/onnxruntime.json`` is written by ``tools/measure-onnxruntime``: limits of each release, the kernels of
its CPU provider, and the schemas of its own ops, each with the first and last release that has it. Schemas of
ONNX itself are those of the ``onnx`` package, which were compared with each release's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

ONNX_DOMAIN = "ai.onnx"
"""How the default domain is written here; files write ``""``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a release takes whatever the ops are.

    Attributes:
        ir: the newest IR version.
        opsets: domain to newest opset; a domain that is not here is taken in any.
        ort_written: version of the ORT format that it writes.
        ort_loaded: versions of the ORT format that it was seen to load.
        providers: those of the build for processors that was measured.
    """

    ir: int
    opsets: Mapping[str, int]
    ort_written: int
    ort_loaded: tuple[int, ...]
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel: versions of the op (``last`` 0 for open), and the types of each type parameter."""

    first: int
    last: int
    types: Mapping[str, frozenset[str]]

    def fits(self, since: int) -> bool:
        """Whether it serves an op whose definition is of opset ``since``.

        ONNX Runtime wants an open range to begin with that definition itself: a later one may differ.
        """
        return self.first == since or (self.first < since <= self.last)


@dataclass(frozen=True, slots=True)
class Parameter:
    """An input or output of an op: a type parameter or a type, and how often it occurs.

    ``option`` is ``single``, ``optional``, ``variadic``, or ``mixed``: variadic, of several types.
    """

    type: str
    option: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The definition of an op from one opset on.

    Attributes:
        since: the opset.
        attributes: name to whether it has to be there.
        types: type parameter to the types it may be.
    """

    since: int
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    attributes: Mapping[str, bool]
    types: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Row:
    first: int
    last: int
    value: Any


class Release:
    """One release: its limits, kernels and schemas."""

    def __init__(self, version: str, number: int, limits: Limits) -> None:
        self.version = version
        self.limits = limits
        self._number = number

    def kernels(self, domain: str, op: str) -> list[Kernel]:
        """The kernels of an op."""
        return [row.value for row in _kernels(domain, op) if row.first <= self._number <= row.last]

    def schema(self, domain: str, op: str, opset: int) -> Schema | None:
        """The definition that a file of that opset means; ``None`` where the release has none."""
        own = [row.value for row in _schemas(domain, op) if row.first <= self._number <= row.last]
        own = [schema for schema in own if schema.since <= opset]
        ours = max(own, key=lambda schema: schema.since, default=None)
        standard = standard_schema(domain, op, opset)
        missing = {row.value for row in _missing(domain, op) if row.first <= self._number <= row.last}
        while standard is not None and standard.since in missing:
            standard = standard_schema(domain, op, standard.since - 1)
        if standard is None or (ours is not None and ours.since >= standard.since):
            return ours
        return standard

    def bodies(self, domain: str, op: str, opset: int, since: int) -> tuple[int, ...]:
        """The opsets for which this release can put other ops in place of one, the oldest first."""
        lacks = {row.value for row in _lacking(domain, op) if row.first <= self._number <= row.last}
        return tuple(each for each in function_versions(domain, op, opset) if (since, each) not in lacks)


@cache
def releases() -> tuple[Release, ...]:
    """All that were measured, the oldest first."""
    found = []
    for number, (version, limits) in enumerate(_document()["releases"].items()):
        found.append(
            Release(
                version,
                number,
                Limits(
                    limits["ir"],
                    limits["opsets"],
                    limits["ort_written"],
                    tuple(limits["ort_loaded"]),
                    tuple(limits["providers"]),
                ),
            )
        )
    return tuple(found)


def release_of(version: str) -> Release | None:
    """A measured release; ``None`` for another. Patches of one minor version do differ in their kernels."""
    return next((release for release in releases() if release.version == version), None)


@cache
def standard_schema(domain: str, op: str, opset: int) -> Schema | None:
    """The definition of ONNX itself; ``None`` where it has none, or a withdrawn one."""
    from onnx import defs

    try:
        schema = defs.get_schema(op, opset, "" if domain == ONNX_DOMAIN else domain)
    except Exception:
        # onnx.onnx_cpp2py_export.defs.SchemaError, of which the package exports no stable name.
        return None
    if schema.deprecated:
        return None
    return Schema(
        schema.since_version,
        tuple(_parameter(each) for each in schema.inputs),
        tuple(_parameter(each) for each in schema.outputs),
        {name: bool(attribute.required) for name, attribute in schema.attributes.items()},
        {each.type_param_str: frozenset(each.allowed_type_strs) for each in schema.type_constraints},
    )


@cache
def function_versions(domain: str, op: str, opset: int) -> tuple[int, ...]:
    """The opsets, up to that of a file, for which ONNX says an op in other ops; empty where it does not."""
    from onnx import defs

    try:
        schema = defs.get_schema(op, opset, "" if domain == ONNX_DOMAIN else domain)
    except Exception:
        return ()
    found = {*schema.function_opset_versions, *schema.context_dependent_function_opset_versions}
    return tuple(sorted(each for each in found if each <= opset))


def _parameter(each: Any) -> Parameter:
    option = str(each.option).rpartition(".")[2].lower()
    return Parameter(each.type_str, option if each.is_homogeneous or option != "variadic" else "mixed")


@cache
def _document() -> Any:
    return json.loads(resources.files("edgeconv.checking").joinpath("data/onnxruntime.json").read_text())


@cache
def _types() -> tuple[frozenset[str], ...]:
    return tuple(frozenset(types) for types in _document()["types"])


@cache
def _kernels(domain: str, op: str) -> tuple[_Row, ...]:
    rows = _document()["kernels"].get(f"{domain}:{op}", [])
    return tuple(_Row(row[3], row[4], Kernel(row[0], row[1], _allowed(row[2]))) for row in rows)


@cache
def _schemas(domain: str, op: str) -> tuple[_Row, ...]:
    return tuple(
        _Row(
            row[5],
            row[6],
            Schema(
                row[0],
                tuple(Parameter(*each) for each in row[1]),
                tuple(Parameter(*each) for each in row[2]),
                row[3],
                _allowed(row[4]),
            ),
        )
        for row in _document()["schemas"].get(f"{domain}:{op}", [])
    )


@cache
def _missing(domain: str, op: str) -> tuple[_Row, ...]:
    """Definitions of ONNX that a release does not have although it takes their opset."""
    rows = _document()["missing"].get(f"{domain}:{op}", [])
    return tuple(_Row(row[1], row[2], row[0]) for row in rows)


@cache
def _lacking(domain: str, op: str) -> tuple[_Row, ...]:
    """Opset of the definition and of the body that ONNX has today and a release did not put in its place."""
    rows = _document()["bodies"].get(f"{domain}:{op}", [])
    return tuple(_Row(row[2], row[3], (row[0], row[1])) for row in rows)


def _allowed(coded: Mapping[str, int]) -> dict[str, frozenset[str]]:
    return {name: _types()[code] for name, code in coded.items()}
