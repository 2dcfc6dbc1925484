"""What a check says: problems, and the verdict they come to.

Runtimes are named as their distributions are: ``ai-edge-litert``, ``tflite-runtime``, ``onnxruntime``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from edgeconv.registry import discover

Severity = Literal["refused", "unknown", "note"]
Verdict = Literal["runs", "refused", "unknown"]

VERDICTS: tuple[Verdict, ...] = ("refused", "unknown", "runs")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that stands between an artifact and a runtime, or that a person should know.

    Attributes:
        code: stable, for programs: ``op-version``, ``opset``, ``libc`` …
        what: one sentence without a final full stop; names the op, its version, its types.
        where: the op, node or tensor; ``None`` where it is of the whole artifact.
        first: the first version of this runtime that has no such problem; ``None`` where none is known.
        hint: the next thing to type or change.
        severity: ``refused`` (it does not load, or does not infer), ``unknown`` (nobody has measured it),
            ``note`` (it runs).
    """

    code: str
    what: str
    where: str | None = None
    first: str | None = None
    hint: str | None = None
    severity: Severity = "refused"


@dataclass(frozen=True, slots=True)
class RuntimeVerdict:
    """Whether an artifact runs with one version of one runtime."""

    runtime: str
    version: str
    problems: tuple[Problem, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst that the problems say; ``runs`` where there are none but notes."""
        return worst(problem.severity for problem in self.problems)


def worst(severities: Iterable[Severity]) -> Verdict:
    """The verdict that severities come to.

    >>> worst(["note", "unknown"])
    'unknown'
    """
    found = set(severities)
    return "refused" if "refused" in found else "unknown" if "unknown" in found else "runs"


@runtime_checkable
class Checker(Protocol):
    """Knows what versions of runtimes take. A module of ``edgeconv.checking`` each, constant ``CHECKER``."""

    formats: tuple[str, ...]
    """Formats by registered name."""
    runtimes: tuple[str, ...]
    """Runtimes by the name of their distribution."""

    def check(self, path: Path, runtime: str, version: str, *, machine: str | None = None) -> list[Problem]:
        """What stands between the artifact and that version.

        Args:
            path: the artifact.
            runtime: one of :attr:`runtimes`.
            version: of it, ``2.14.0``. One that was not measured is an ``unknown`` problem.
            machine: architecture as ``platform.machine()`` says it (``aarch64``); any if ``None``.

        Raises:
            InvalidModelError: the file is truncated or corrupt.
        """
        ...

    def first_runtime(self, path: Path, runtime: str, *, machine: str | None = None) -> str | None:
        """The first measured version in which the whole artifact runs; ``None`` if it runs in none."""
        ...


@cache
def checkers() -> tuple[Checker, ...]:
    """All that are registered."""
    return tuple(part for part in discover("edgeconv.checking", "CHECKER") if isinstance(part, Checker))


def checker_for(format_name: str, runtime: str) -> Checker | None:
    """The one that knows this runtime with this format; ``None`` where there is none."""
    for checker in checkers():
        if format_name in checker.formats and runtime in checker.runtimes:
            return checker
    return None
