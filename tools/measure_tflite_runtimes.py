"""Measures what releases of the TFLite runtimes take, into ``edgeconv/checking/data/tflite-*.json``.

    python tools/measure_tflite_runtimes.py [ENVIRONMENT…]

An ENVIRONMENT is a side environment that is here (``ai-edge-litert==1.4.0``); without one, all that are.
Each probe of ``tflite_probes.py`` is loaded, and where more than its operator's version is asked for,
run. What ends the process is run once more in a process of its own, since memory that an earlier probe
spoilt is not its fault. What was run is kept in edgeconv's cache, so that a call that was interrupted
goes on, and new probes cost only themselves.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tflite_probes as probes
from tflite_probe_forms import forms

from edgeconv.environments import running, store
from edgeconv.environments.store import Environment

DATA = probes.PROJECT / "edgeconv" / "checking" / "data"
SCRIPT = Path(running.__file__).with_name("scripts") / "run_artifacts.py"
RUNTIMES = ("tflite-runtime", "ai-edge-litert")
COMMAND = "python tools/measure_tflite_runtimes.py"

_MISSING = "Didn't find op for builtin opcode"
_OUT_OF_RANGE = "builtin_code out of range"
_OF_THE_PROBE = re.compile(r"Cannot set tensor|Invalid data-type for array|Cannot get tensor")
_OF_TYPES = re.compile(
    r"not supported|unsupported|only supports|supports only|Only .* support|not currently supported|"
    r"does not support|was not true|type .* != |->type != |!= (FLOAT|INT|UINT)\d+|is currently not|"
    r"Unknown (input|output) type",
    re.IGNORECASE,
)


def main(asked: list[str]) -> int:
    """Measure, and write one file a release."""
    here = [e for e in store.installed() if e.spec.name in RUNTIMES and (not asked or e.spec.id in asked)]
    versions, custom = list(probes.versions()), list(probes.custom())
    kinds = list({p.key: p for p in (*probes.kinds(), *probes.ranks(), *forms())}.values())
    measured = {}
    for environment in here:
        found = {
            "versions": _registered(versions, _run(environment, versions, until="prepare")),
            "custom": _known(custom, _run(environment, custom, until="invoke")),
            "kinds": _run(environment, kinds, value=1),
        }
        measured[environment.spec.id] = found
        print(f"{environment.spec.id}: {len(found['versions'])} operators", file=sys.stderr)
    telling = _telling(kinds, [found["kinds"] for found in measured.values()])
    for environment in here:
        found = measured[environment.spec.id]
        refused, crashes = _refused(kinds, found["kinds"], telling)
        _write(environment, found["versions"], found["custom"], refused, crashes)
    return 0


def _run(environment: Environment, some: list[probes.Probe], **said: Any) -> list[dict[str, Any]]:
    """What became of probes, those that were never run before in the environment."""
    kept = store.default_root().parent / "measured" / f"{environment.spec.folder}.json"
    kept.parent.mkdir(exist_ok=True)
    known = json.loads(kept.read_text()) if kept.exists() else {}
    names = [hashlib.sha256(probe.data + json.dumps(said).encode()).hexdigest()[:24] for probe in some]
    todo = {name: probe for name, probe in zip(names, some, strict=True) if name not in known}
    with tempfile.TemporaryDirectory() as scratch:
        for name, probe in todo.items():
            (Path(scratch) / f"{name}.tflite").write_bytes(probe.data)
        known |= _answers(environment, list(todo), Path(scratch), **said)
        crashed = [name for name in names if known[name]["crash"] and not known[name].get("alone")]
        for name, probe in zip(names, some, strict=True):
            if name in crashed:
                (Path(scratch) / f"{name}.tflite").write_bytes(probe.data)
        again = _answers(environment, crashed, Path(scratch), alone=True, **said)
        known |= {name: result | {"alone": True} for name, result in again.items()}
    kept.write_text(json.dumps(known))
    return [known[name] for name in names]


def _answers(
    environment: Environment, names: list[str], scratch: Path, **said: Any
) -> dict[str, dict[str, Any]]:
    if not names:
        return {}
    files = [{"path": str(scratch / f"{name}.tflite")} for name in names]
    payload = {"files": files, "seconds": 30, **said}
    answer = running.run_in(environment, SCRIPT, payload, scratch=scratch, seconds=1800)
    assert answer["version"] == environment.spec.version
    return dict(zip(names, answer["results"], strict=True))


def _registered(some: Iterable[probes.Probe], results: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Operator to the lowest and the highest version that it has."""
    found: dict[str, list[int]] = defaultdict(list)
    for probe, result in zip(some, results, strict=True):
        error = result["error"] or ""
        if _MISSING not in error and _OUT_OF_RANGE not in error:
            name, version = probe.key.split()
            found[name].append(int(version))
    for name, versions in found.items():
        assert versions == list(range(versions[0], versions[-1] + 1)), (name, versions)
        assert versions[-1] < probes.HIGHEST_VERSION, name
    return {name: [versions[0], versions[-1]] for name, versions in sorted(found.items())}


def _known(some: Iterable[probes.Probe], results: list[dict[str, Any]]) -> list[str]:
    found = []
    for probe, result in zip(some, results, strict=True):
        error = result["error"] or ""
        if "unresolved custom op" not in error and "Select TensorFlow op" not in error:
            found.append(probe.key)
    return sorted(found)


def _is_refusal(result: dict[str, Any]) -> bool:
    return not result["invoked"] and not _OF_THE_PROBE.search(result["error"] or "")


def _telling(some: list[probes.Probe], all_results: list[list[dict[str, Any]]]) -> set[str]:
    """Keys that a release takes, so that the probe itself is in order; and those that end all of them."""
    return {
        probe.key
        for i, probe in enumerate(some)
        if any(results[i]["invoked"] for results in all_results)
        or all(results[i]["crash"] for results in all_results)
    }


def _dimensions(key: str) -> str | None:
    """What keys of one operator and type have in common that differ in the number of dimensions alone."""
    return re.sub(r" \d+d(?= |$).*", "", key) if re.search(r" \d+d(?: |$)", key) else None


def _refused(
    some: list[probes.Probe], results: list[dict[str, Any]], telling: set[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Keys that a release refuses, and those that end its process, by operator.

    What no release takes counts where the runtime says that it is for the types, or where all of them end
    over it; else the probe may be wrong.
    """
    ran = (probe.key for probe, result in zip(some, results, strict=True) if result["invoked"])
    takes = {group for key in ran if (group := _dimensions(key)) is not None}
    refused: dict[str, list[str]] = defaultdict(list)
    crashes: dict[str, list[str]] = defaultdict(list)
    for probe, result in zip(some, results, strict=True):
        if not _is_refusal(result):
            continue
        name, _, rest = probe.key.partition(" ")
        if (group := _dimensions(probe.key)) is not None and group not in takes:
            continue  # it is the type that is refused, whatever the dimensions
        if probe.key in telling or _OF_TYPES.search(result["error"] or ""):
            (crashes if result["crash"] else refused)[name].append(rest)
    return dict(sorted(refused.items())), dict(sorted(crashes.items()))


def _write(
    environment: Environment,
    versions: Any,
    custom: list[str],
    refused: dict[str, list[str]],
    crashes: dict[str, list[str]],
) -> None:
    spec = environment.spec
    document = {
        "runtime": spec.name,
        "version": spec.version,
        "command": f"{COMMAND} {spec.id}",
        "operators": versions,
        "custom": custom,
        "refused": refused,
        "crashes": crashes,
    }
    lines = []
    for key, value in document.items():
        if isinstance(value, dict):
            inner = ",\n".join(f" {json.dumps(name)}: {json.dumps(each)}" for name, each in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path = DATA / f"tflite-{spec.folder}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
