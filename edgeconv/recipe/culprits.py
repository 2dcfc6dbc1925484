"""``edgeconv regress --culprit``: which part of the graph slowed down, and what was made differently."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError
from edgeconv.execution.manifest import FILE_NAME, ArtifactRecord, Manifest, read_manifest
from edgeconv.formats.registry import describe
from edgeconv.latency.culprit import Culprit, Cut, by_parts, by_profile, spread
from edgeconv.latency.regress import Comparison
from edgeconv.latency.sources import Lockstep, Side, Way

_NOT_OF_MAKING = frozenset(
    ["id", "path", "sha256", "bytes", "seconds", "peak_rss_bytes", "cached", "gate", "device_gates", "checks"]
)
_PARTS_IN_LOCKSTEP = 2
_WHOLE = "the outputs"


def find_culprit(way: Way, found: Comparison) -> Culprit:
    """What slowed the candidate of a pair down, as far as it can be told."""
    notes: list[str] = []
    parts: tuple[Any, ...] = ()
    slower = found.quantities[0].verdict == "regressed"
    profiled = by_profile(way, found) if slower else None
    if not slower:
        notes.append("the latency did not regress: no op or part of the graph was looked for")
    elif profiled is not None:
        parts, how = profiled
        notes.append(how)
    elif found.baseline.format == found.candidate.format == "tflite":
        with tempfile.TemporaryDirectory(prefix="edgeconv-culprit-") as folder:
            most = _PARTS_IN_LOCKSTEP if isinstance(way, Lockstep) else 5
            cuts = _cuts(found, Path(folder), most)
            if cuts:
                parts, how = by_parts(way, found, cuts, _WHOLE)
                notes.append(how)
            else:
                notes.append("no tensor lies within both graphs, so that no part could be measured")
    else:
        notes.append("the runtime tells no times of ops")
    return Culprit(parts, tuple(_ops(found)), tuple(changes(found)), tuple(notes))


def changes(found: Comparison) -> Iterator[str]:
    """What is different in how both were made, by the manifests beside them, and in how they were run."""
    before, now = found.baseline, found.candidate
    if before.runtime != now.runtime:
        old, new = (f"{side.runtime.name} {side.runtime.version}" for side in (before, now))
        yield f"runtime: {old} → {new}"
    of_baseline, of_candidate = _made(before.path), _made(now.path)
    if of_baseline is None or of_candidate is None:
        labelled = (("baseline", of_baseline), ("candidate", of_candidate))
        missing = [label for label, one in labelled if one is None]
        yield f"not known in how it was made: there is no manifest beside the {' and the '.join(missing)}"
        return
    (manifest, record), (other, other_record) = of_baseline, of_candidate
    yield from _different("tool", manifest.tools, other.tools)
    yield from _different("", _settings(record), _settings(other_record))
    if manifest.source.sha256 != other.source.sha256:
        yield f"source: {manifest.source.path} → {other.source.path} (other contents)"


def _made(path: Path) -> tuple[Manifest, ArtifactRecord] | None:
    for place in (path.with_name(f"{path.name}.{FILE_NAME}"), path.parent / FILE_NAME):
        if not place.is_file():
            continue
        try:
            manifest = read_manifest(place)
        except EdgeconvError:
            continue
        for record in manifest.artifacts:
            if (place.parent / record.path).resolve() == path.resolve():
                return manifest, record
    return None


def _settings(record: ArtifactRecord) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.model_dump(by_alias=True, mode="json").items()
        if name not in _NOT_OF_MAKING
    }


def _different(label: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        if old != new:
            text = f"{label} {name}".strip()
            if isinstance(old, (dict, list)) or isinstance(new, (dict, list)):
                yield f"{text}: not the same"
            else:
                yield f"{text}: {old or 'none'} → {new or 'none'}"


def _ops(found: Comparison) -> Iterator[str]:
    """Types of ops that one has more of, by the files."""
    try:
        before, now = (describe(side.path).ops for side in (found.baseline, found.candidate))
    except EdgeconvError:
        return
    for name in sorted({*before, *now}):
        if before.get(name, 0) != now.get(name, 0):
            yield f"{name} {before.get(name, 0)} → {now.get(name, 0)}"


def _cuts(found: Comparison, folder: Path, most: int) -> list[Cut]:
    """Beginnings of both TFLite graphs up to tensors whose names both have, in an order that both keep."""
    from edgeconv.quantization.flatbuffer import unpack

    models = [unpack(side.path.read_bytes()) for side in (found.baseline, found.candidate)]
    places = [_made_at(model) for model in models]
    names: list[str] = []
    last = -1
    for name, _ in sorted(places[0].items(), key=lambda item: item[1]):
        if places[1].get(name, -1) > last:
            names.append(name)
            last = places[1][name]
    cuts = []
    for number, name in enumerate(spread(names, most)):
        sides = []
        for label, side, place in zip(
            ("baseline", "candidate"), (found.baseline, found.candidate), places, strict=True
        ):
            path = folder / f"{label}-{number}.tflite"
            path.write_bytes(beginning(side.path.read_bytes(), place[name]))
            sides.append(_beginning_of(side, path))
        cuts.append(Cut(name, sides[0], sides[1]))
    return cuts


def _beginning_of(side: Side, path: Path) -> Side:
    options = {name: value for name, value in side.options.items() if name != "signature"}
    return dataclasses.replace(side, path=path, options=options)


def _made_at(model: Any) -> dict[str, int]:
    """Name of a tensor to the op of the main graph that makes it, without the last op and names met twice."""
    graph = model.subgraphs[0]
    found: dict[str, int] = {}
    twice = set()
    for place, operator in enumerate(list(graph.operators)[:-1]):
        outputs = list(operator.outputs)
        if len(outputs) != 1 or outputs[0] < 0:
            continue
        name = (graph.tensors[outputs[0]].name or b"").decode(errors="replace")
        if name in found:
            twice.add(name)
        found[name] = place
    return {name: place for name, place in found.items() if name and name not in twice}


def beginning(data: bytes, last: int) -> bytes:
    """A TFLite model up to the op ``last`` of its main graph, whose output is then the model's.

    What only later ops would read is left in the file; no runtime touches it.
    """
    from edgeconv.quantization.flatbuffer import pack, unpack

    model = unpack(data)
    graph = model.subgraphs[0]
    graph.operators = list(graph.operators)[: last + 1]
    graph.outputs = [int(index) for index in graph.operators[last].outputs]
    model.signatureDefs = None
    return pack(model)
