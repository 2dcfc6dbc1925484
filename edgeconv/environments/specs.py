"""Which side environments there are: one file of pins each, under ``pins/``.

A file has the exact version of everything that is installed, a line each, so that nothing is left to a
resolver. Comments of the form ``# key: value`` say the rest:

- ``about``: one sentence for a person;
- ``python``: versions of Python that it can be made with;
- ``versions``: where the pins have ``{version}``, the versions that were tried; the first is the default;
- ``variable``: ``NAME=value`` of the process that runs in it (repeatable);
- ``import``: a module that must import before it is used (repeatable);
- ``source``: a distribution that has no wheel and is built from its source (repeatable).

A pin or a comment may end in ``; version CONDITION`` where versions need different companions:
``numpy==1.26.4 ; version < 1.19``. Conditions are those of Python's own packaging, ``>= 1.19, < 1.24``.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeconv.errors import UsageError

_PINS = Path(__file__).parent / "pins"
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.+!_-]*|\{version\})")
_CONDITION = re.compile(r"(.*?)\s*;\s*version\s+([<>=!~].*)")


@dataclass(frozen=True, slots=True)
class Spec:
    """One side environment as it is to be.

    Attributes:
        name: ``object-detection``.
        version: where there are several of one name (``onnxruntime``); ``None`` otherwise.
        about: one sentence.
        pythons: versions it can be made with, ``3.11``.
        pins: distribution to exact version.
        variables: of the process that runs in it.
        imports: modules that must import.
        source: distributions that are built from source.
    """

    name: str
    version: str | None
    about: str
    pythons: tuple[str, ...]
    pins: Mapping[str, str]
    variables: Mapping[str, str]
    imports: tuple[str, ...]
    source: tuple[str, ...]

    @property
    def id(self) -> str:
        """What a person types: ``onnxruntime==1.16.3``."""
        return self.name if self.version is None else f"{self.name}=={self.version}"

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return self.name if self.version is None else f"{self.name}-{self.version}"

    @property
    def sha256(self) -> str:
        """Of all that decides what is installed."""
        lines = [f"{name}=={version}" for name, version in sorted(self.pins.items())]
        return hashlib.sha256("\n".join([*lines, *self.source]).encode()).hexdigest()


def known_names() -> tuple[str, ...]:
    """Names that ``edgeconv environments create`` takes."""
    return tuple(sorted(path.stem for path in _PINS.glob("*.txt")))


def known_specs() -> tuple[Spec, ...]:
    """All environments in the versions that were tried."""
    return tuple(
        find_spec(f"{name}=={version}" if version else name)
        for name in known_names()
        for version in _tried(name) or (None,)
    )


def find_spec(text: str) -> Spec:
    """The environment of a name (``object-detection``) or a name and version (``onnxruntime==1.16.3``).

    Raises:
        UsageError: there is none of that name (says the nearest), a version where there is one only, or a
            text that is no version, or a version that no Python is known for.
    """
    name, equals, version = text.partition("==")
    if name not in known_names():
        loose = re.fullmatch(r"([A-Za-z0-9-]+?)\s*(?:[=@:]|-(?=\d))\s*(\d[\w.]*)", text)
        if loose is not None and loose[1] in known_names():
            raise UsageError(
                f"there is no environment '{text}'", hint=f"did you mean '{loose[1]}=={loose[2]}'?"
            )
        near = difflib.get_close_matches(name, known_names(), n=1)
        raise UsageError(
            f"there is no environment '{name}'",
            hint=f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known_names())}",
        )
    tried = _tried(name)
    if equals and not tried:
        raise UsageError(
            f"the environment '{name}' comes in one version only", hint=f"leave '=={version}' out"
        )
    if equals and not re.fullmatch(r"\d+(\.\d+)*([a-z]+\d+)?(\.post\d+)?", version):
        raise UsageError(f"'{version}' is no version", hint=f"write {name}=={tried[0]}")
    return _spec(name, (version or tried[0]) if tried else None)


def parse_pins(text: str, version: str | None = None) -> dict[str, str]:
    """Distribution to version, from the text of a file of pins.

    Args:
        text: the file.
        version: of the environment; a line whose condition it does not meet is left out.

    Raises:
        ValueError: a line that is neither a pin nor a comment, one distribution twice, or a condition that
            is none or has no version to be held to.
    """
    pins: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            pin, holds = _conditional(stripped, version)
        except ValueError as error:
            raise ValueError(f"line {number} has no condition that can be read: {stripped}") from error
        match = _PIN.fullmatch(pin)
        if match is None:
            raise ValueError(f"line {number} is no pin: {stripped}")
        if not holds:
            continue
        name = match[1]
        if canonical(name) in {canonical(other) for other in pins}:
            raise ValueError(f"line {number} pins {name} again")
        if match[2] == "{version}" and version is None:
            raise ValueError(f"line {number} needs a version")
        pins[name] = str(version) if match[2] == "{version}" else match[2]
    return pins


def canonical(name: str) -> str:
    """The name of a distribution as all spellings of it agree (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _conditional(text: str, version: str | None) -> tuple[str, bool]:
    """A line without its condition, and whether that holds."""
    from packaging.specifiers import SpecifierSet

    match = _CONDITION.fullmatch(text)
    if match is None:
        return text, True
    if version is None:
        raise ValueError("a condition, and no version")
    return match[1], SpecifierSet(match[2]).contains(version, prereleases=True)


def _spec(name: str, version: str | None) -> Spec:
    directives = _directives(name, version)
    if "python" not in directives:
        raise UsageError(
            f"there are no pins for {name} {version}",
            hint=f"there are for: {', '.join(f'{name}=={each}' for each in _tried(name))}",
        )
    return Spec(
        name=name,
        version=version,
        about=directives["about"][0],
        pythons=tuple(directives["python"][0].split()),
        pins=parse_pins((_PINS / f"{name}.txt").read_text(), version),
        variables=dict(_pair(text) for text in directives.get("variable", [])),
        imports=tuple(directives.get("import", [])),
        source=tuple(directives.get("source", [])),
    )


def _directives(name: str, version: str | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, text in _stated(name):
        value, holds = _conditional(text, version)
        if holds:
            found.setdefault(key, []).append(value)
    return found


def _stated(name: str) -> list[tuple[str, str]]:
    """The comments of the form ``# key: value``."""
    lines = (_PINS / f"{name}.txt").read_text().splitlines()
    matches = (re.fullmatch(r"#\s*(\w+):\s*(.*\S)\s*", line) for line in lines)
    return [(match[1], match[2]) for match in matches if match is not None]


def _tried(name: str) -> tuple[str, ...]:
    return next((tuple(value.split()) for key, value in _stated(name) if key == "versions"), ())


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
