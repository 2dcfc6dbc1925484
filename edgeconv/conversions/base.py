"""What an arrow between two formats is: data in, data out, nothing about how or where it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.formats.base import Artifact, Contract
from edgeconv.surgery.changes import Change

PRECISIONS = ("fp32", "fp16", "dynamic", "int8", "int16x8")
"""Known precisions, from widest to narrowest; see ``docs/architecture.md`` for what each means."""


@dataclass(frozen=True, slots=True)
class ConversionJob:
    """All that one conversion needs.

    Attributes:
        source: the artifact at the tail of the arrow; its contract is ``None`` only for sources that
            do not state one (a checkpoint), never after the first arrow.
        destination: the file or folder to create; its parent exists, itself it does not.
        precision: precision asked for at the head of the arrow.
        calibration: ``.npz`` of samples (see ``edgeconv.quantization.calibration``), or ``None``.
        scratch: an empty folder that is removed afterwards.
        options: the user's options that concern this arrow, by their names in
            :attr:`Conversion.options`; absent where the user said nothing.
    """

    source: Artifact
    destination: Path
    precision: str
    scratch: Path
    calibration: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """What a conversion says about what it wrote.

    Attributes:
        contract: of the new artifact: the logical names, order and shapes of the source's contract,
            with ``tensor``, ``dtype`` and ``quantization`` as they are in the new file.
        notes: repairs made and things a person should know, one sentence each.
        changes: what rewrites did to the graph. Their messages are shown as notes; the tensors that they
            replaced are replaced in the source too when it is run as the reference of the gate.
    """

    contract: Contract
    notes: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversion:
    """One arrow. One module of ``edgeconv.conversions`` each, constant ``CONVERSION``.

    Attributes:
        name: ``<target>_from_<source>``.
        source: name of the format at the tail.
        source_precision: precision the source must have (``fp32`` unless stated).
        target: name of the format at the head.
        precisions: precisions this arrow can give.
        convert: does it, in a worker process. Raises ConversionError where the model cannot take this
            arrow, naming op or tensor and the way out.
        cost: rank among the ways to one artifact, cheapest first; ``docs/evidence.md`` says why.
        preload: modules a worker needs, imported once in the process that workers are forked from.
        tools: distributions whose versions decide the outcome; part of the cache key.
        options: names of the user's options that decide the outcome; part of the cache key.
        needs_calibration: precisions that need samples.
        source_kinds: which kinds of the source format it takes, as the description's ``metadata['kind']``
            has them (a checkpoint of TensorFlow 1 has a graph, one of TensorFlow 2 a builder), or ``built``
            where a builder was named for a checkpoint by names; empty for all.
    """

    name: str
    source: str
    target: str
    precisions: tuple[str, ...]
    convert: Callable[[ConversionJob], ConversionResult]
    cost: float = 1.0
    source_precision: str = "fp32"
    preload: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    needs_calibration: tuple[str, ...] = ()
    source_kinds: tuple[str, ...] = ()
