"""``--target``: what is made for kinds of devices, what is pinned for them, and whether it runs there."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgeconv import checking
from edgeconv.checking.base import Problem
from edgeconv.checking.onnx import RUNTIME as ONNX
from edgeconv.checking.onnx import newest_opset
from edgeconv.checking.target import TargetVerdict, check
from edgeconv.conversions.onnx_from_frozen_graph import DEFAULT_OPSET as USUAL_OPSET
from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.execution.manifest import (
    ArtifactRecord,
    CheckRecord,
    Manifest,
    ProblemRecord,
    read_manifest,
    write_manifest,
)
from edgeconv.formats.base import Contract, Shape
from edgeconv.recipe.request import ConversionRequest, Target
from edgeconv.targets.loading import Place, find_place

_FORMATS = ("tflite", "onnx")
_PRECISIONS = ("fp32", "fp16", "dynamic", "int8")
"""What is considered by itself; int16x8 is for accelerators, and has to be asked for."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is made for targets, and why some is not."""

    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()


def places_of(request: ConversionRequest) -> tuple[Place, ...]:
    """The targets of a request with their releases.

    Raises:
        UsageError: there is no such target or release.
    """
    return tuple(find_place(name) for name in dict.fromkeys(request.targets))


def chosen_for(
    places: Sequence[Place], reachable: Collection[tuple[str, str]], *, calibrated: bool
) -> Chosen:
    """The formats that runtimes take on a target, in fp32 where it is taken and each precision that pays.

    Args:
        places: the targets.
        reachable: formats and precisions that can be made of the model.
        calibrated: whether there are calibration samples. Without them int8 is made only where a target takes
            nothing else.
    """
    wanted: dict[Target, None] = {}
    notes: list[str] = []
    for place in places:
        taken = [name for name in _FORMATS if any(name in one.formats for one in place.release.runtimes)]
        for name in taken:
            for precision in _PRECISIONS:
                if (name, precision) not in reachable or not _pays(place, name, precision):
                    continue
                if precision == "int8" and not calibrated and _pays(place, name, "fp32"):
                    notes.append("int8 pays there too: give samples with --calibration FILE.npz")
                    continue
                wanted[Target(name, precision)] = None
    return Chosen(tuple(wanted), tuple(dict.fromkeys(notes)))


def _pays(place: Place, format_name: str, precision: str) -> bool:
    """Whether a runtime there takes the precision and it is worth having; fp32 is what others are held to."""
    takes = [
        one
        for one in place.release.runtimes
        if format_name in one.formats
        and (one.limits is None or not one.limits.precisions or precision in one.limits.precisions)
    ]
    fact = place.target.precision_fact(format_name, precision)
    return bool(takes) and (precision == "fp32" or (fact is not None and fact.pays in ("speed", "size")))


def pinned_shapes(places: Sequence[Place], contract: Contract | None) -> dict[str, Shape]:
    """Shapes that have to be pinned since a runtime takes no open dimension: a batch becomes 1.

    Raises:
        UsageError: another dimension is open, and nobody but the user knows its size.
    """
    strict = [
        (place, one)
        for place in places
        for one in place.release.runtimes
        if one.limits is not None and one.limits.static_shapes
    ]
    if not strict or contract is None:
        return {}
    pinned: dict[str, Shape] = {}
    for spec in contract.inputs:
        shape = spec.shape
        if shape is None or None not in shape:
            continue
        if None in shape[1:]:
            sizes = ",".join("?" if size is None else str(size) for size in (1, *shape[1:]))
            raise UsageError(
                f"{strict[0][1].name} on {strict[0][0].name} takes no open dimension, and '{spec.name}' has "
                f"some besides the batch: {sizes}",
                hint=f"pin them: --shape {spec.name}={sizes.replace('?', 'SIZE')}",
            )
        pinned[spec.name] = (1, *shape[1:])
    return pinned


def runs_on(places: Sequence[Place], format_name: str = "tflite") -> dict[str, Any] | None:
    """What an arrow has to be told to make a file that loads there: an option of ``tflite_from_tflite``.

    Its ``places`` are lists of ``RUNTIME==VERSION``, one of which has to take the file; ``tables`` is a hash
    of what they were measured to take, since that decides the outcome.
    """
    lists = [
        [f"{one.name}=={one.version}" for one in place.release.runtimes if format_name in one.formats]
        for place in places
    ]
    lists = [each for each in lists if each]
    return {"places": lists, "tables": _tables_sha256()} if lists else None


def opset_for(places: Sequence[Place]) -> dict[str, int]:
    """``opset``, an option of the arrows to ONNX, where an ONNX Runtime there takes less than usual."""
    takes = [
        newest_opset(one.version) or USUAL_OPSET
        for place in places
        for one in place.release.runtimes
        if one.name == ONNX
    ]
    lowest = min(takes, default=USUAL_OPSET)
    return {"opset": lowest} if lowest < USUAL_OPSET else {}


@cache
def _tables_sha256() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(checking.__file__).parent.glob("data/tflite-*.json")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def with_checks(
    manifest: Manifest, folder: Path, wanted: Collection[str], places: Sequence[Place]
) -> Manifest:
    """The manifest with what :func:`edgeconv.checking.target.check` says of what was asked for."""
    if not places:
        return manifest
    checks: dict[str, list[CheckRecord]] = {}
    for record in manifest.artifacts:
        if record.id in wanted and record.format not in ("saved_model", "frozen_graph"):
            checks[record.id] = [each for place in places for each in _checked(folder / record.path, place)]
    made = _with(manifest, checks)
    try:
        whole = read_manifest(folder)
    except EdgeconvError:
        return made
    write_manifest(folder, _with(whole, checks))
    return made


def fits_nowhere(artifacts: Sequence[ArtifactRecord]) -> bool:
    """Whether an artifact was made for targets none of which takes it, or a target takes none of them.

    One that is made for another of several targets does not have to run on all.
    """
    useless = any(a.checks and a.refused_by == a.checked_for for a in artifacts)
    targets = {target for a in artifacts for target in a.checked_for}
    return useless or any(
        all(target in a.refused_by for a in artifacts if target in a.checked_for) for target in targets
    )


def _with(manifest: Manifest, checks: Mapping[str, list[CheckRecord]]) -> Manifest:
    records = [
        record.model_copy(update={"checks": checks[record.id]}) if record.id in checks else record
        for record in manifest.artifacts
    ]
    return manifest.model_copy(update={"artifacts": records})


def _checked(path: Path, place: Place) -> list[CheckRecord]:
    verdict: TargetVerdict = check(path, place)
    own = [_problem(problem) for problem in verdict.problems]
    if not verdict.runtimes:
        return [CheckRecord(target=place.name, verdict=verdict.verdict, problems=own)]
    refused = any(problem.severity == "refused" for problem in verdict.problems)
    return [
        CheckRecord(
            target=place.name,
            runtime=one.runtime,
            version=one.version,
            verdict="refused" if refused else one.verdict,
            problems=[*own, *map(_problem, one.problems)],
        )
        for one in verdict.runtimes
    ]


def _problem(problem: Problem) -> ProblemRecord:
    return ProblemRecord(
        code=problem.code,
        what=problem.what,
        where=problem.where,
        first=problem.first,
        hint=problem.hint,
        severity=problem.severity,
    )
