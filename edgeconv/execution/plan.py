"""A plan as data: the artifacts to make, and for each the ways to it in the order they are tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.formats._graph_front_ends import FrontEnd
from edgeconv.formats.base import Artifact, Contract, TensorSpec

SOURCE = "source"
"""Id of the node that stands for the model that was given."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to an artifact.

    Attributes:
        conversion: name of the conversion.
        source: id of the node it starts from.
        preload: modules that its worker needs.
        tools: distributions whose versions decide the outcome.
        options: the user's options that concern it.
        calibrated: whether it needs the calibration set.
    """

    conversion: str
    source: str
    preload: tuple[str, ...]
    tools: tuple[str, ...]
    options: Mapping[str, Any]
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Opener:
    """The runtime that loads an artifact for its gate."""

    runtime: str
    preload: tuple[str, ...]
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One artifact to make.

    Attributes:
        id: ``FORMAT.PRECISION``, or ``source``.
        suffix: of the artifact's file or folder.
        attempts: ways to make it, the preferred one first; empty for the source.
        opener: what runs it for the gate; ``None`` where nothing does.
        tolerance: of its gate, as JSON takes it.
        priority: how much work hangs on it; higher starts first.
    """

    id: str
    format: str
    precision: str
    suffix: str
    attempts: tuple[Attempt, ...]
    opener: Opener | None
    tolerance: Any = None
    priority: float = 0.0

    @property
    def file_name_in_cache(self) -> str:
        """Name of the artifact in its cache entry, which must not depend on the source's name."""
        return f"model{self.suffix}"


@dataclass(frozen=True, slots=True)
class InputSet:
    """A file of inputs, by content; ``notes`` are said with whatever is made of them.

    ``made_up`` where nobody gave samples and they were drawn at random.
    """

    path: Path
    sha256: str
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    made_up: bool = False


@dataclass(frozen=True, slots=True)
class FrontEndPlan:
    """That the model is cut behind what no edge format has.

    Attributes:
        front_end: what is cut off.
        contract: of what is left.
        samples: samples for calibration as the front end takes them, ``None`` where the user's go in behind
            it.
        title: the model's name.
    """

    front_end: FrontEnd
    contract: Contract
    samples: Callable[[], InputSet | None]
    title: str


@dataclass(frozen=True, slots=True)
class BackEndPlan:
    """A detector's post-processing that is cut off and supplied beside.

    Attributes:
        parameters: of the module that is written; empty where it is written from the graph.
        whole: the contract of the source with what is at the cut and the detections.
        cut: what is at the cut, where it is written from the graph.
        inputs: inputs of the model that it takes as well.
        given: names of the outputs that it gives.
    """

    parameters: Mapping[str, Any]
    whole: Contract | None
    cut: tuple[TensorSpec, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    given: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run needs to know.

    Attributes:
        source: the model; its contract is ``None`` where only opening it tells.
        nodes: by id, with those that only a fallback needs.
        wanted: ids of the artifacts asked for.
        open_options: the user's options that opening the source needs.
        option_sha256: option to the hash of what its value points at (a builder's code, a checkpoint).
        probes: makes the inputs of the gates, once a contract is known.
        calibration: gives the calibration set for a contract; ``None`` never.
        back_end: what is cut off at the end; ``None`` where nothing is.
        notes: what was read beside the source and decided from it, for a person.
        observe_early: run the source beside the first conversion. Not where it looks like a training
            graph: what its reference has to be is only known when it has been converted.
        front_end: what is cut off at the beginning; ``None`` where nothing is.
        origin: the model that the user gave, where ``source`` was made of it by an earlier plan.
    """

    source: Artifact
    nodes: Mapping[str, Node]
    wanted: tuple[str, ...]
    open_options: Mapping[str, Any]
    option_sha256: Mapping[str, str]
    probes: Callable[[Contract], InputSet]
    calibration: Callable[[Contract], InputSet]
    observe_early: bool = True
    front_end: FrontEndPlan | None = None
    back_end: BackEndPlan | None = None
    notes: tuple[str, ...] = ()
    origin: Artifact | None = None
