"""What a target is: a kind of device as data, one YAML file each.

The JSON schema is published in ``docs/target.schema.json``; a test holds the two together.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

CURRENT_SCHEMA = 1

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) (KiB|MiB|GiB)")
_NAME = r"^[a-z0-9][a-z0-9-]*$"
_PRECISION = r"^([a-z_]+:)?(fp32|fp16|dynamic|int8|int16x8|mixed)$"
_VERSION = r"^\d+(\.\d+)*([a-z]+\d+)?(\.post\d+)?$"


def parse_size(value: object) -> int:
    """Bytes of a size as a file writes it.

    >>> parse_size("1.5 KiB")
    1536
    """
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no size: write a number and KiB, MiB or GiB, as in '512 MiB'")
    return int(float(match[1]) * _UNITS[match[2]])


def show_size(count: int) -> str:
    """A size for a person; from a KiB on as a file writes it.

    >>> show_size(1 << 29)
    '512 MiB'
    >>> show_size(28)
    '28 bytes'
    """
    if count < _UNITS["KiB"]:
        return f"{count} bytes"
    unit = next((name for name in ("GiB", "MiB") if count >= _UNITS[name]), "KiB")
    number = count / _UNITS[unit]
    return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"


Size = Annotated[
    int,
    BeforeValidator(parse_size, json_schema_input_type=Annotated[str, Field(pattern=_SIZE.pattern)]),
]
Precision = Literal["fp32", "fp16", "dynamic", "int8", "int16x8", "mixed"]


class _Model(BaseModel):
    # Unknown keys are refused: a misspelt fact would be one that is silently not there.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cpu(_Model):
    """The processor."""

    model: str
    cores: int = Field(ge=1)
    isa: str = Field(description="architecture version: ARMv8.2-A")
    features: list[str] = Field(default_factory=list, description="extensions that decide, as dotprod")
    lacks: list[str] = Field(default_factory=list, description="extensions that are known not to be there")
    source: str


class Memory(_Model):
    """Memory of the smallest model of the kind, and what the system leaves for a model."""

    total: Size
    for_model: Size = Field(description="what is left for weights and activations, above the runtime itself")
    storage: Size | None = Field(default=None, description="where weights are read in place, as flash")
    source: str


class Accelerator(_Model):
    """What computes besides the processor."""

    name: str
    about: str
    source: str


class PrecisionFact(_Model):
    """Whether a precision pays on this kind of device, and why."""

    pays: Literal["speed", "size", "no", "unknown"] = Field(
        description="speed: quicker than fp32; size: smaller only; no: slower or not taken"
    )
    why: str
    source: str


class Limits(_Model):
    """What a runtime takes there that says so by no version: a compiler, a microcontroller's kernels."""

    precisions: list[Precision] = Field(default_factory=list, description="the only ones taken; all if empty")
    ops: dict[str, list[str]] = Field(
        default_factory=dict, description="format to the only ops taken; formats that are not there take all"
    )
    outside: Literal["refused", "note"] = Field(
        default="refused", description="an op that is not listed: refused, or a note since it runs elsewhere"
    )
    custom_ops: list[str] = Field(default_factory=list, description="custom ops that are taken")
    static_shapes: bool = Field(default=False, description="no dimension may be open")
    open_batch: bool = Field(default=False, description="but the leading one may: it is read as one")
    control_flow: bool = Field(default=True, description="whether more than one subgraph is taken")
    note: str | None = Field(default=None, description="said with every artifact that is taken")
    source: str


class Runtime(_Model):
    """One runtime that installs there, in the version that is to be used."""

    name: str = Field(description="of its distribution: ai-edge-litert, tflite-runtime, onnxruntime")
    version: str = Field(pattern=_VERSION)
    formats: list[str] = Field(min_length=1)
    origin: Literal["wheel", "system", "vendor", "application", "firmware"] = Field(
        default="wheel", description="where it comes from; only a wheel's needs are compared with the board"
    )
    python: str | None = Field(default=None, description="where it is not the release's own")
    needs: list[str] = Field(default_factory=list, description="what else is installed, as numpy<2")
    evidence: Literal["run", "fits", "documented"] = Field(
        description="run: seen to infer; fits: its wheel asks for no more; documented: somebody says so"
    )
    limits: Limits | None = None
    source: str


class Release(_Model):
    """One release of the operating system, or of the vendor's kit."""

    about: str
    libc: str = Field(pattern=r"^(glibc|musl|bionic|none)( \d+(\.\d+)*)?$")
    glibcxx: str | None = Field(default=None, pattern=_VERSION, description="newest GLIBCXX symbols")
    cxxabi: str | None = Field(default=None, pattern=_VERSION, description="newest CXXABI symbols")
    python: str | None = Field(default=None, pattern=r"^3\.\d+$")
    runtimes: list[Runtime] = Field(min_length=1, description="in the order they are to be tried")
    source: str

    @property
    def glibc(self) -> str | None:
        """Version of glibc; ``None`` where it is another libc."""
        kind, _, version = self.libc.partition(" ")
        return version if kind == "glibc" else None


class Target(_Model):
    """A kind of device."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    name: str = Field(pattern=_NAME)
    about: str
    architecture: str = Field(description="as platform.machine() says it: aarch64, armv7l, x86_64")
    models: list[str] = Field(
        default_factory=list,
        description="what such a board calls itself, * for anything; a probed one is told by the longest",
    )
    cpu: Cpu
    memory: Memory
    accelerators: list[Accelerator] = Field(default_factory=list)
    precisions: dict[Annotated[str, Field(pattern=_PRECISION)], PrecisionFact] = Field(
        description="by precision, or FORMAT:PRECISION where a format has a fact of its own"
    )
    default_release: str
    releases: dict[Annotated[str, Field(pattern=_NAME)], Release] = Field(min_length=1)
    notes: list[str] = Field(default_factory=list, description="what a person should know before shipping")

    def precision_fact(self, format_name: str, precision: str) -> PrecisionFact | None:
        """What is known of a precision there, in this format; ``None`` where nothing is."""
        return self.precisions.get(f"{format_name}:{precision}") or self.precisions.get(precision)

    @model_validator(mode="after")
    def _default_is_there(self) -> Target:
        if self.default_release not in self.releases:
            raise ValueError(
                f"default_release '{self.default_release}' is none of: {', '.join(self.releases)}"
            )
        return self


def json_schema() -> dict[str, Any]:
    """The JSON schema of a target's file."""
    return Target.model_json_schema(by_alias=True)


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
