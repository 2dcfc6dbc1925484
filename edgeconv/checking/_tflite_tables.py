"""What releases of the TFLite runtimes take, as ``tools/measure_tflite_runtimes.py`` measured it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Release:
    """One measured release.

    Attributes:
        runtime, version: of the distribution.
        operators: builtin operator to the lowest and the highest version that it has.
        custom: custom operators that are built in.
        refused: keys of ``_tflite_kinds`` that do not load or do not run.
        crashes: keys that end the process.
    """

    runtime: str
    version: str
    operators: Mapping[str, tuple[int, int]]
    custom: frozenset[str]
    refused: frozenset[str]
    crashes: frozenset[str]

    def takes(self, keys: tuple[str, ...]) -> bool:
        """Whether it runs an operator with those keys."""
        return not any(key in self.refused or key in self.crashes for key in keys)


@cache
def releases(runtime: str) -> tuple[Release, ...]:
    """The measured releases of a runtime, the oldest first."""
    found = [_read(path) for path in _DATA.glob(f"tflite-{runtime}-*.json")]
    return tuple(sorted(found, key=lambda release: numbers(release.version)))


def around(runtime: str, version: str) -> tuple[Release | None, Release | None]:
    """The last measured release up to a version, and the first from it on; the same where measured."""
    wanted = numbers(version)
    before = [release for release in releases(runtime) if numbers(release.version) <= wanted]
    after = [release for release in releases(runtime) if numbers(release.version) >= wanted]
    return (before[-1] if before else None), (after[0] if after else None)


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers; parts that are none count as 0.

    >>> numbers("2.1.0rc1") < numbers("2.1.10")
    True
    """
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _read(path: Path) -> Release:
    document = json.loads(path.read_text())

    def keys(name: str) -> frozenset[str]:
        return frozenset(f"{op} {rest}" for op, each in document[name].items() for rest in each)

    return Release(
        runtime=document["runtime"],
        version=document["version"],
        operators={name: (lowest, highest) for name, (lowest, highest) in document["operators"].items()},
        custom=frozenset(document["custom"]),
        refused=keys("refused"),
        crashes=keys("crashes"),
    )
