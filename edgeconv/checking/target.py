"""Will an artifact run on a kind of device: its runtimes there, their wheels, the memory, what pays."""

from __future__ import annotations

import dataclasses
import difflib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.checking._boards import board_problems
from edgeconv.checking._limits import limit_problems, shape_flags
from edgeconv.checking.base import Checker, Problem, RuntimeVerdict, Verdict, checker_for, checkers, worst
from edgeconv.checking.memory import MemoryNeed, memory_need
from edgeconv.checking.wheels import distributions, newest_that_fits, offered_anywhere
from edgeconv.errors import UsageError
from edgeconv.formats.base import Description, to_json
from edgeconv.formats.registry import identify
from edgeconv.targets.loading import Place, find_place
from edgeconv.targets.schema import Memory, Runtime, show_size

_GRAVITY = ("refused", "unknown", "note")
_OF_BOARDS = frozenset({"wheel", "python", "libc", "libstdcxx"})
_SPACE = ("memory", "storage")
_BYTES = {"fp32": 4, "fp16": 2, "dynamic": 1, "int8": 1, "int16x8": 1, "mixed": 2}
_SOURCES = frozenset({"checkpoint", "keras", "saved_model", "frozen_graph"})
"""Formats that people have their models in, and no device takes."""
_MOST_MANIFEST = 64 << 20


@dataclass(frozen=True, slots=True)
class TargetVerdict:
    """Whether an artifact runs on a target.

    Attributes:
        artifact: the file.
        format, precision: of it, as ``edgeconv inspect`` says them.
        target: ``rpi4``, or ``rpi4@bullseye`` for a release that is not the default.
        release: what that is, for a person.
        problems: what is of the target itself, whatever the runtime: memory, the format, what pays.
        runtimes: the verdict on each runtime that takes the format there, in the order to try them.
        memory: the estimate; ``None`` where the format is not estimated.
        memory_there: bytes that are left for a model there.
        storage_there: bytes of storage for weights, where they are read in place; ``None`` where they are
            read into memory.
        convert: the conversion that fits, as a command; ``None`` where the artifact runs as it is.
    """

    artifact: str
    format: str
    precision: str | None
    target: str
    release: str
    problems: tuple[Problem, ...]
    runtimes: tuple[RuntimeVerdict, ...]
    memory: MemoryNeed | None
    memory_there: int
    storage_there: int | None = None
    convert: str | None = None

    @property
    def verdict(self) -> Verdict:
        """``runs`` if it does with one of the runtimes; a problem of the target's own counts for all."""
        found = {one.verdict for one in self.runtimes}
        best: Verdict = "runs" if "runs" in found else "unknown" if "unknown" in found else "refused"
        own = worst(problem.severity for problem in self.problems)
        return "refused" if "refused" in (own, best) else "unknown" if "unknown" in (own, best) else "runs"

    @property
    def runs_with(self) -> RuntimeVerdict | None:
        """The first runtime that takes it; ``None`` where none does."""
        return next((one for one in self.runtimes if one.verdict == "runs"), None)

    def to_json(self) -> dict[str, Any]:
        """The document of ``edgeconv check --json`` for one artifact and target."""
        document: dict[str, Any] = to_json(self)
        for runtime, entry in zip(self.runtimes, document["runtimes"], strict=True):
            entry["verdict"] = runtime.verdict
        if self.memory is not None:
            document["memory"] |= {"least": self.memory.least, "total": self.memory.total}
        return {"verdict": self.verdict, **document}


def check(path: Path, target: str | Place, *, runtime: str | None = None) -> TargetVerdict:
    """Say whether an artifact runs on a target, from tables that were measured of the runtimes.

    Args:
        path: the artifact.
        target: name of the target, ``rpi4`` or ``rpi4@bullseye``.
        runtime: ``NAME`` or ``NAME==VERSION``: only that one, also one that the target does not name.

    Raises:
        UsageError: there is no such file, target, release or runtime.
        InvalidModelError: the file is truncated or corrupt.
    """
    place = target if isinstance(target, Place) else find_place(target)
    part = identify(path)
    description = part.describe(path)
    precision = description.metadata.get("precision")
    chosen = _runtimes(place, runtime)
    verdicts = tuple(
        RuntimeVerdict(one.name, one.version, tuple(_of_runtime(path, place, one, description, precision)))
        for one in chosen
        if description.format in one.formats
    )
    need = memory_need(path, description.format, precision)
    problems: list[Problem] = []
    if not verdicts:
        problems.append(_format_problem(place, chosen, description.format))
    else:
        problems.extend(_memory_problems(need, place.target.memory))
        problems.extend(_precision_notes(place, description.format, precision))
    made = TargetVerdict(
        artifact=str(path),
        format=description.format,
        precision=precision,
        target=place.name,
        release=place.release.about,
        problems=tuple(problems),
        runtimes=verdicts,
        memory=need,
        memory_there=place.target.memory.for_model,
        storage_there=place.target.memory.storage,
    )
    if made.verdict != "refused":
        return made
    return _with_conversion(made, place, chosen, description)


def check_all(
    paths: Sequence[Path], targets: Sequence[str], *, runtime: str | None = None
) -> list[TargetVerdict]:
    """Every artifact on every target; see :func:`check`.

    Raises:
        UsageError: as :func:`check`, or no target is named.
    """
    if not targets:
        raise UsageError("no target is named", hint="--target NAME; 'edgeconv targets' lists them")
    places = [find_place(name) for name in targets]
    return [check(path, place, runtime=runtime) for path in paths for place in places]


def _runtimes(place: Place, wanted: str | None) -> list[Runtime]:
    if wanted is None:
        return list(place.release.runtimes)
    name, _, version = wanted.partition("==")
    named = [one for one in place.release.runtimes if one.name == name]
    if named and not version:
        return named
    if named and any(one.version == version for one in named):
        return [one for one in named if one.version == version]
    known = sorted({*distributions(), *(one.name for one in place.release.runtimes)})
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise UsageError(
            f"there is no runtime '{name}'",
            hint=f"did you mean '{near[0]}'?" if near else f"known runtimes: {', '.join(known)}",
        )
    if not version:
        version = _any_version(place, name)
    if named:
        # Another version of what is there: it comes from the same place, but nobody has tried it.
        return [named[0].model_copy(update={"version": version, "evidence": "fits", "needs": []})]
    formats = sorted({form for checker in checkers() if name in checker.runtimes for form in checker.formats})
    return [
        Runtime(
            name=name, version=version, formats=formats or ["tflite"], evidence="fits", source="asked for"
        )
    ]


def _any_version(place: Place, name: str) -> str:
    """A version of a runtime that the target does not name: the newest that fits, else the newest of all."""
    release, machine = place.release, place.target.architecture
    if release.glibc and release.python:
        found = newest_that_fits(
            name, machine, release.python,
            glibc=release.glibc, glibcxx=release.glibcxx, cxxabi=release.cxxabi,
        )  # fmt: skip
        if found:
            return found
    return offered_anywhere(name)[-1]


def _of_runtime(
    path: Path, place: Place, runtime: Runtime, description: Description, precision: str | None
) -> list[Problem]:
    found: list[Problem] = []
    checker = checker_for(description.format, runtime.name)
    limits = runtime.limits
    if checker is not None:
        machine = place.target.architecture
        found.extend(checker.check(path, runtime.name, runtime.version, machine=machine))
        if any(problem.severity == "refused" and problem.first is None for problem in found):
            found.extend(_first_of_all(path, checker, runtime.name, machine))
    elif limits is None or description.format not in limits.ops:
        found.append(
            Problem(
                "unmeasured",
                f"nobody has measured what {runtime.name} {runtime.version} takes",
                severity="unknown",
            )
        )
    if limits is not None:
        found.extend(limit_problems(limits, description, precision))
    found = [*board_problems(place.target, place.release, runtime), *found]
    return sorted(found, key=lambda problem: _GRAVITY.index(problem.severity))


def _first_of_all(path: Path, checker: Checker, runtime: str, machine: str) -> list[Problem]:
    """The first version that takes the whole artifact, of this runtime or else of another of its kind."""
    for name in sorted(checker.runtimes, key=lambda one: one != runtime):
        first = checker.first_runtime(path, name, machine=machine)
        if first is not None:
            return [Problem("first", f"the first to take the whole file is {name} {first}", severity="note")]
    return []


def _format_problem(place: Place, runtimes: Sequence[Runtime], format_name: str) -> Problem:
    taken = list(dict.fromkeys(form for one in runtimes for form in one.formats))
    names = ", ".join(f"{one.name} {one.version}" for one in runtimes)
    return Problem(
        "format", f"no runtime there takes {format_name}; {place.name} takes {', '.join(taken)} ({names})"
    )


def _memory_problems(need: MemoryNeed | None, memory: Memory) -> list[Problem]:
    if need is None:
        return []
    found = []
    there = memory.for_model
    if memory.storage is not None:
        # Weights stay where they are stored; only activations need memory.
        if need.weights > memory.storage:
            found.append(_too_much("storage", f"its weights take {show_size(need.weights)}", memory.storage))
        if need.activations > there:
            found.append(_too_much("memory", f"its activations take {show_size(need.activations)}", there))
    elif need.least > there:
        what = f"it needs {show_size(need.least)} at least ({_parts(need)})"
        found.append(_too_much("memory", what, there))
    elif need.total > there:
        found.append(
            Problem(
                "memory",
                f"it needs about {show_size(need.total)} with the runtime's copy of the weights, "
                f"{show_size(there)} are left there",
                severity="note",
            )
        )
    if need.unknown:
        found.append(
            Problem(
                "memory",
                f"{need.unknown} tensor{'s' if need.unknown > 1 else ''} of unknown size "
                f"{'are' if need.unknown > 1 else 'is'} not in the estimate of memory",
                severity="note",
            )
        )
    return found


def _too_much(code: str, what: str, there: int) -> Problem:
    return Problem(code, f"{what}, {show_size(there)} are left there")


def _parts(need: MemoryNeed) -> str:
    return f"weights {show_size(need.weights)}, activations {show_size(need.activations)}"


def _precision_notes(place: Place, format_name: str, precision: str | None) -> list[Problem]:
    fact = place.target.precision_fact(format_name, precision) if precision else None
    if fact is None or precision == "fp32" or fact.pays in ("speed", "unknown"):
        return []
    what = {"no": "does not pay there", "size": "makes it smaller there, not quicker"}[fact.pays]
    return [Problem("precision-pays", f"{precision} {what}: {fact.why}", severity="note")]


def _with_conversion(
    made: TargetVerdict, place: Place, runtimes: Sequence[Runtime], description: Description
) -> TargetVerdict:
    """The same, with the command that makes what fits, where there is something that does."""
    refused = [
        problem.code
        for verdict in made.runtimes
        for problem in verdict.problems
        if problem.severity == "refused"
    ]
    if refused and _OF_BOARDS.issuperset(refused):
        # Another artifact would meet the same: it is the runtime that does not install there.
        return made
    taken = list(dict.fromkeys(form for one in runtimes for form in one.formats))
    format_name = made.format if made.format in taken else taken[0]
    staying = [_ops_that_stay(one, description) for one in runtimes] if made.format == format_name else []
    if staying and all(staying):
        what = f"no conversion takes {', '.join(staying[0])} away: replace it in the model, or the target"
        return dataclasses.replace(made, problems=(*made.problems, Problem("ops-stay", what)))
    precision = _precision_that_fits(made, place, runtimes, format_name)
    if any(problem.code in _SPACE and problem.severity == "refused" for problem in made.problems):
        smaller = _BYTES.get(precision, 4) / _BYTES.get(made.precision or "", 4)
        if smaller >= 1 or not _has_room(made, smaller):
            advice = Problem("too-big", "no precision makes it small enough: take a smaller model or input")
            return dataclasses.replace(made, problems=(*made.problems, advice))
    source = _source_of(Path(made.artifact), made.format)
    words = ["--target", place.name, "--to", f"{format_name}:{precision}"]
    line = f"edgeconv convert {shlex.quote(source) if source else 'SOURCE'} {shlex.join(words)}"
    flags = [shape_flags(one.limits, description) for one in runtimes if one.limits is not None]
    line += "".join(f" {one}" for one in dict.fromkeys(flags) if one)
    if precision in ("int8", "int16x8"):
        line += " --calibration SAMPLES.npz"
    return dataclasses.replace(made, convert=line)


def _ops_that_stay(runtime: Runtime, description: Description) -> list[str]:
    """Ops of TFLite's own that a closed list lacks: every conversion has them. Others may be rewritten."""
    limits = runtime.limits
    if limits is None or limits.outside != "refused" or description.format not in limits.ops:
        return []
    return [op for op in description.ops if ":" not in op and op not in limits.ops[description.format]]


def _has_room(made: TargetVerdict, smaller: float) -> bool:
    """Whether weights that are smaller by a factor fit; activations shrink at best as much."""
    need = made.memory
    if need is None:
        return True
    if made.storage_there is not None:
        fits_storage = need.weights * smaller <= made.storage_there
        return fits_storage and need.activations * smaller <= made.memory_there
    return need.least * smaller <= made.memory_there


def _precision_that_fits(
    made: TargetVerdict, place: Place, runtimes: Sequence[Runtime], format_name: str
) -> str:
    only = [
        precision
        for one in runtimes
        if format_name in one.formats and one.limits is not None
        for precision in one.limits.precisions
    ]
    if only:
        return only[0]
    if any(problem.code in _SPACE and problem.severity == "refused" for problem in made.problems):
        return "int8"
    fact = place.target.precision_fact(format_name, made.precision or "")
    if made.precision in ("fp32", "fp16", "dynamic", "int8") and (fact is None or fact.pays != "no"):
        return made.precision
    return "int8" if made.precision in ("int8", "int16x8") else "fp32"


def _source_of(artifact: Path, format_name: str) -> str | None:
    """The model that an artifact was made of, where the manifest beside it says so; a source is its own."""
    for beside in (artifact.parent / "manifest.json", Path(f"{artifact}.manifest.json")):
        try:
            if beside.stat().st_size > _MOST_MANIFEST:
                continue
            data = json.loads(beside.read_text("utf-8"))
            names = {entry["path"] for entry in data["artifacts"]}
            if artifact.name in names:
                return str(data["source"]["path"])
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return str(artifact) if format_name in _SOURCES else None
