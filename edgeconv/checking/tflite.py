"""Will a release of LiteRT or tflite-runtime run a TFLite file: ops, their versions, types and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgeconv.checking._tflite_kinds import Keyed, keyed
from edgeconv.checking._tflite_tables import Release, around, releases
from edgeconv.checking.base import Problem
from edgeconv.formats._tflite_model import TfliteModel
from edgeconv.formats.tflite import load_tflite

_DYNAMIC_HINT = "convert it again with '--target', or with '--to tflite:fp16' or 'tflite:int8'"
_FLEX_HINT = "convert without Select TF ops; replace or cut the part that needs them"


@dataclass(frozen=True, slots=True)
class TfliteChecker:
    """See :class:`edgeconv.checking.base.Checker`."""

    formats: tuple[str, ...] = ("tflite",)
    runtimes: tuple[str, ...] = ("ai-edge-litert", "tflite-runtime")

    def check(self, path: Path, runtime: str, version: str, *, machine: str | None = None) -> list[Problem]:
        """What stands between the file and that release; a problem for each kind of operator, not each one.

        A release that was not measured is judged by the one before it, and where the next one judges
        otherwise the answer is ``unknown``. What the oldest measured one refuses, older ones refuse too.
        The tables are of x86-64, whose kernels are those of other machines too.

        Raises:
            InvalidModelError: the file is truncated or corrupt.
        """
        read = _read(path)
        before, after = around(runtime, version)
        if before is None:
            # Kernels come, they hardly ever go: what the oldest refuses no older one runs.
            problems = list(_problems(read, after)) if after is not None else []
            return [*problems, _unmeasured(runtime, version)]
        problems = list(_problems(read, before))
        if before is after:
            return problems
        if after is None:
            return [*problems, _unmeasured(runtime, version)]
        same = {problem.what for problem in problems}
        if {problem.what for problem in _problems(read, after)} == same:
            return [*problems, _between(runtime, version, before, after, "note")]
        return [_between(runtime, version, before, after, "unknown")]

    def first_runtime(self, path: Path, runtime: str, *, machine: str | None = None) -> str | None:
        """The first measured release in which the whole file runs; ``None`` if it runs in none."""
        read = _read(path)
        runs = (release.version for release in releases(runtime) if not any(_problems(read, release)))
        return next(runs, None)


CHECKER = TfliteChecker()


def refused_operators(path: Path, runtime: str, version: str) -> frozenset[str]:
    """Kinds of operators that keep a file from running with a release; empty too where nobody measured it."""
    read = _read(path)
    before, after = around(runtime, version)
    release = before or after
    if release is None:
        return frozenset()
    refused = (each.operator.name for each in read.operators if _of_operator(each, release) is not None)
    return frozenset(refused)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file, read once for all releases."""

    model: TfliteModel
    operators: tuple[Keyed, ...]


def _read(path: Path) -> _Read:
    stamp = path.stat()
    return _kept(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4)
def _kept(path: Path, changed: int, size: int) -> _Read:
    model = load_tflite(path)
    return _Read(model, tuple(keyed(model)))


def _unmeasured(runtime: str, version: str) -> Problem:
    known = [release.version for release in releases(runtime)]
    return Problem(
        "version",
        f"nobody has measured what {runtime} {version} takes",
        hint=f"measured: {', '.join(known)}",
        severity="unknown",
    )


def _between(runtime: str, version: str, before: Release, after: Release, severity: str) -> Problem:
    said = "which agree" if severity == "note" else "which differ"
    return Problem(
        "version",
        f"{runtime} {version} was not measured; {before.version} and {after.version} were, {said}",
        hint=f"try it: edgeconv environments create {runtime}=={version}" if severity == "unknown" else None,
        severity="note" if severity == "note" else "unknown",
    )


def _problems(read: _Read, release: Release) -> Iterator[Problem]:
    yield from _of_scales(read.model, release)
    yield from _of_inputs(read.model, release)
    told: Counter[str] = Counter()
    found: dict[str, Problem] = {}
    for each in read.operators:
        problem = _of_operator(each, release)
        if problem is not None:
            told[problem.what] += 1
            found.setdefault(problem.what, problem)
    yield from found.values()


def _of_operator(each: Keyed, release: Release) -> Problem | None:
    name, version = each.operator.name, each.operator.version
    where = f"subgraph {each.subgraph}, operator {each.position}"
    runtime = f"{release.runtime} {release.version}"
    kind, _, op = name.partition(":")
    if kind == "flex":
        return Problem(
            "flex", f"{op} is a TensorFlow op, for which {runtime} has no delegate", where, hint=_FLEX_HINT
        )
    if kind == "custom":
        if op in release.custom:
            return None
        first = _first(release, lambda other: op in other.custom)
        return Problem(
            "custom-op",
            f"{runtime} does not know the custom op {op}",
            where,
            first,
            hint="leave the op out: cut the model in front of it with 'edgeconv extract'",
        )
    known = release.operators.get(name)
    if known is None or not known[0] <= version <= known[1]:
        has = f"has it up to {known[1]}" if known is not None else "does not have it"
        first = _first(release, lambda other: _has(other, name, version))
        return Problem(
            "op-version",
            f"{name} version {version}: {runtime} {has}",
            where,
            first,
            hint=_hint(each, first, release),
        )
    for key in each.keys:
        if key in release.refused or key in release.crashes:
            first = _first(
                release, lambda other: _has(other, name, version) and other.takes(each.keys), after=release
            )
            how = "ends the process over" if key in release.crashes else "refuses"
            return Problem(
                "op-kind",
                f"{runtime} {how} {key.replace('>', ' > ')}",
                where,
                first,
                hint=_hint(each, first, release),
            )
    return None


def _has(release: Release, name: str, version: int) -> bool:
    lowest, highest = release.operators.get(name, (1, 0))
    return lowest <= version <= highest


def _first(release: Release, takes: Callable[[Release], bool], after: Release | None = None) -> str | None:
    """The first release of the same runtime that takes it; only later ones than ``after``."""
    known = releases(release.runtime)
    if after is not None:
        known = known[known.index(after) + 1 :]
    return next((other.version for other in known if takes(other)), None)


def _hint(each: Keyed, first: str | None, release: Release) -> str:
    kind = each.keys[0]
    if "float32,int8" in kind:
        return _DYNAMIC_HINT
    if "int16" in kind.partition(">")[0] and "*" not in kind:
        return "convert it with another precision: '--to tflite:int8'"
    if "float16 weights" in " ".join(each.keys):
        return "convert it with another precision: '--to tflite:fp32' or 'tflite:dynamic'"
    if "int8" in kind:
        return "convert it with another precision: '--to tflite:fp16'"
    if first is not None:
        return f"use {release.runtime} {first} or newer there"
    return "cut the model around this op with 'edgeconv extract'"


def _of_inputs(model: TfliteModel, release: Release) -> Iterator[Problem]:
    """The Python of tflite-runtime 2.13 and 2.14 has no uint16: such an input cannot be set."""
    main = model.subgraphs[0]
    for index in main.inputs if release.runtime == "tflite-runtime" else ():
        if main.tensors[index].dtype == "uint16":
            yield Problem(
                "input-type",
                f"{release.runtime} {release.version} cannot be given an input of uint16",
                where=f"tensor '{main.tensors[index].name}'",
                hint="use ai-edge-litert there, or convert the model with another type of input",
            )
            return


def _of_scales(model: TfliteModel, release: Release) -> Iterator[Problem]:
    """Scales along a dimension that a tensor has not, or of another size: all measured releases refuse it."""
    for number, subgraph in enumerate(model.subgraphs):
        for tensor in subgraph.tensors:
            if tensor.scales > 1:
                axis = tensor.quantized_axis()
                if not 0 <= axis < len(tensor.shape) or tensor.shape[axis] != tensor.scales:
                    yield Problem(
                        "quantized-dimension",
                        f"a tensor has {tensor.scales} scales along dimension {axis} of {list(tensor.shape)}",
                        where=f"subgraph {number}, tensor '{tensor.name}'",
                        hint="convert or quantize the model again with a current converter",
                    )
                    return
