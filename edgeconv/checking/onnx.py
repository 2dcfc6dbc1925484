"""Will ONNX Runtime, in a release, run an ONNX or ORT file: IR version, opsets, each op with its types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from edgeconv.checking._onnx_nodes import CheckedModel, TypedNode, read_onnx, read_ort
from edgeconv.checking._onnx_rules import Refusal, plain, refusal
from edgeconv.checking._onnx_tables import ONNX_DOMAIN, Release, release_of, releases
from edgeconv.checking.base import Problem

RUNTIME = "onnxruntime"
_LOWER_OPSET = (
    "make it again from the model it was made of: 'edgeconv convert MODEL --target NAME' keeps to this"
)


@dataclass(frozen=True, slots=True)
class OnnxChecker:
    """See :class:`edgeconv.checking.base.Checker`."""

    formats: tuple[str, ...] = ("onnx", "ort")
    runtimes: tuple[str, ...] = (RUNTIME,)

    def check(self, path: Path, runtime: str, version: str, *, machine: str | None = None) -> list[Problem]:
        """What stands between the file and that release; a problem for each op and types, not each node.

        Raises:
            InvalidModelError: the file is damaged.
        """
        model = _read(path)
        release = release_of(version)
        if release is None:
            return list(_of_published(model, version))
        return [*_of_versions(model, release), *_of_nodes(model, release)]

    def first_runtime(self, path: Path, runtime: str, *, machine: str | None = None) -> str | None:
        """The first measured release in which the whole file runs; ``None`` if it runs in none."""
        model = _read(path)
        for release in releases():
            if not any(_of_versions(model, release)) and not any(_of_nodes(model, release)):
                return release.version
        return None


CHECKER = OnnxChecker()


_PUBLISHED = {
    (1, 7): 13, (1, 8): 14, (1, 9): 15, (1, 10): 15, (1, 11): 16, (1, 12): 17, (1, 13): 17, (1, 14): 18,
    (1, 15): 19,
}  # fmt: skip
"""Newest opset of releases that are too old to be measured, from ONNX Runtime's own table of versions."""


def newest_opset(version: str) -> int | None:
    """The newest opset of the default domain that a release loads, measured or published; else ``None``."""
    release = release_of(version)
    if release is not None:
        return release.limits.opsets[ONNX_DOMAIN]
    numbers = version.split(".")[:2]
    return _PUBLISHED.get((int(numbers[0]), int(numbers[-1]))) if all(map(str.isdigit, numbers)) else None


def _of_published(model: CheckedModel, version: str) -> Iterable[Problem]:
    newest, opset = newest_opset(version), model.opsets.get(ONNX_DOMAIN, 0)
    if newest is not None and opset > newest:
        yield Problem(
            "opset",
            f"the file has opset {opset} of {ONNX_DOMAIN}, {RUNTIME} {version} takes up to {newest}",
            first=_first(partial(_takes_opset, ONNX_DOMAIN, opset)),
            hint=_LOWER_OPSET,
        )
    yield Problem(
        "version",
        f"nobody has measured what {RUNTIME} {version} takes",
        hint=f"measured: {', '.join(release.version for release in releases())}",
        severity="unknown",
    )


def _read(path: Path) -> CheckedModel:
    stamp = path.stat()
    return _kept(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4)
def _kept(path: Path, changed: int, size: int) -> CheckedModel:
    """A file is asked about several releases; reading it costs more than judging it."""
    with path.open("rb") as stream:
        is_ort = stream.read(8)[4:] == b"ORTM"
    return read_ort(path) if is_ort else read_onnx(path)


def _of_versions(model: CheckedModel, release: Release) -> Iterable[Problem]:
    limits = release.limits
    if model.ort_format is not None and model.ort_format not in limits.ort_loaded:
        yield Problem(
            "ort-format",
            f"the file is of version {model.ort_format} of the ORT format, {RUNTIME} {release.version} "
            f"loads {', '.join(str(each) for each in limits.ort_loaded)}",
            first=_first(lambda other: model.ort_format in other.limits.ort_loaded),
            hint="make it from the ONNX file with that release",
        )
    # Of an ORT file the IR version is not looked at, and opsets only where there are ops of them.
    used = {node.domain for node in model.nodes}
    if model.ort_format is None and model.ir > limits.ir:
        yield Problem(
            "ir",
            f"the file has IR version {model.ir}, {RUNTIME} {release.version} takes up to {limits.ir}",
            first=_first(lambda other: model.ir <= other.limits.ir),
            hint=_LOWER_OPSET,
        )
    for domain, opset in model.opsets.items():
        newest = limits.opsets.get(domain)
        if model.ort_format is not None and domain not in used:
            continue
        if newest is not None and opset > newest:
            yield Problem(
                "opset",
                f"the file has opset {opset} of {domain}, {RUNTIME} {release.version} takes up to {newest}",
                first=_first(partial(_takes_opset, domain, opset)),
                hint=_LOWER_OPSET,
            )


def _of_nodes(model: CheckedModel, release: Release) -> Iterable[Problem]:
    for op, name, why in model.contradictions:
        yield Problem(
            "definition",
            f"no {RUNTIME} runs this {op}: {why}",
            where=f"node '{name}'" if name else None,
            hint="make the file again; what wrote it is wrong",
        )
    told: dict[tuple[str, str], list[TypedNode]] = {}
    problems: dict[tuple[str, str], tuple[TypedNode, Refusal]] = {}
    for node in model.nodes:
        said = refusal(node, release)
        if said is not None:
            key = (node.qualified, said.why)
            told.setdefault(key, []).append(node)
            problems.setdefault(key, (node, said))
    for key, (node, said) in problems.items():
        yield _problem(node, said, len(told[key]), release)


def _problem(node: TypedNode, said: Refusal, count: int, release: Release) -> Problem:
    inputs = ", ".join(plain(text) for text in node.inputs if text)
    what = f"{node.qualified} of opset {node.opset}" + (f" with {inputs}" if inputs else "")
    if count > 1:
        what += f" ({count} nodes)"
    first = _first(
        lambda other: (
            refusal(node, other) is None and node.opset <= other.limits.opsets.get(node.domain, node.opset)
        )
    )
    return Problem(
        said.code,
        f"{RUNTIME} {release.version} does not run {what}: {said.why}",
        where=f"node '{node.name}'",
        first=first,
        hint=_hint(node, said, first),
    )


def _hint(node: TypedNode, said: Refusal, first: str | None) -> str:
    if said.code == "op-version":
        return _LOWER_OPSET
    if "tensor(float16)" in (*node.inputs, *node.outputs):
        return "convert it with another precision: '--to onnx:fp32'"
    if first is not None:
        return f"use {RUNTIME} {first} or newer there"
    return "cut the model around this op with 'edgeconv extract'"


def _takes_opset(domain: str, opset: int, release: Release) -> bool:
    return opset <= release.limits.opsets.get(domain, opset)


def _first(takes: Callable[[Release], bool]) -> str | None:
    return next((release.version for release in releases() if takes(release)), None)
