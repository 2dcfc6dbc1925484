"""``edgeconv drill``: what is drilled, artifacts of the user's or built-in networks of some sizes."""

from __future__ import annotations

import dataclasses
import functools
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import Wish
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.registry import identify
from edgeconv.latency.built_in import network
from edgeconv.latency.decisions import Policy
from edgeconv.latency.drill import Subject, inference_seconds, tasks_of, trials
from edgeconv.latency.rates import Summary, Trial, summary
from edgeconv.latency.sources import Side, Together, look_at
from edgeconv.recipe.beside import contract_beside

SIZES = (40e-6, 1e-3, 20e-3)
EFFECTS = (0.0, 1.0, 2.0, 5.0)
LOOPS = (0, 4)
_LAYERS = 100
_IMAGES = (3, 512)
"""Rows of the images of a built-in network, from and to."""


@dataclass(frozen=True)
class DrillRequest:
    """What ``edgeconv drill`` was asked for.

    Attributes:
        artifacts: own ones; built-in networks where there is none.
        sizes: seconds of an inference of the built-in networks.
        effects: injected work in percent; 0 are equals.
        loops: busy loops that are toggled beside the decisions.
        seconds: of all decisions.
        rounds: at most; as many as the time allows where ``None``.
        policy: as of ``edgeconv regress``.
        device, runtime, threads: where the artifact runs.
        keep: a folder for rows and raw samples.
        seed: of all that is drawn; from the system where ``None``.
    """

    artifacts: Sequence[Path] = ()
    sizes: Sequence[float] = SIZES
    effects: Sequence[float] = EFFECTS
    loops: Sequence[int] = LOOPS
    seconds: float = 240.0
    rounds: int | None = None
    policy: Policy = field(default_factory=Policy)
    device: str = "local"
    runtime: str | None = None
    threads: int = 1
    keep: Path | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Drilled:
    """What came of it.

    Attributes:
        request: what was asked for.
        seed: of all that was drawn.
        runtimes: by subject, name and version.
        summary: of all decisions.
        left: what was left out and why.
    """

    request: DrillRequest
    seed: int
    runtimes: Mapping[str, str]
    summary: Summary
    left: Sequence[str]


def drill(request: DrillRequest, told: Callable[[Trial], None] = lambda one: None) -> Drilled:
    """Make decisions whose truth is known until the time is over, and say what they show.

    Args:
        request: what to do.
        told: each decision as it is made.

    Raises:
        UsageError: an emulated device, loops beside another machine, or an effect that cannot be injected.
        UnavailableError: a runtime is not there.
    """
    device = find_device(request.device)
    if device.emulated:
        raise UsageError(f"'{device.name}' is emulated, and its times say nothing of a real board")
    if any(request.loops) and device.kind != "local":
        raise UsageError(
            "busy loops are started on this machine, not on a device", hint="edgeconv drill … --loops 0"
        )
    seed = random.SystemRandom().randrange(1 << 31) if request.seed is None else request.seed
    with tempfile.TemporaryDirectory(prefix="edgeconv-drill-") as folder:
        with Together() as way:
            subjects = [_own(way, path, request) for path in request.artifacts] or [
                _of_size(way, request, size, Path(folder)) for size in request.sizes
            ]
        tasks, left = tasks_of(subjects, request.effects, request.loops)
        made = []
        for one in trials(
            tasks, request.policy, request.seconds, seed=seed, most=request.rounds, keep=request.keep
        ):
            made.append(one)
            told(one)
    return Drilled(
        request=request,
        seed=seed,
        runtimes={subject.name: str(subject.of(subject.units).runtime) for subject in subjects},
        summary=summary(made, request.policy.threshold),
        left=left,
    )


def _own(way: Together, path: Path, request: DrillRequest) -> Subject:
    if not path.exists():
        raise UsageError("there is no such file", where=str(path))
    side = side_of(path, request)
    seconds = inference_seconds(way, side)
    return Subject(path.name, lambda units: dataclasses.replace(side, repeat=units), seconds, seconds)


def _of_size(way: Together, request: DrillRequest, size: float, folder: Path) -> Subject:
    """Networks of so large images that an inference of a hundred layers takes about ``size``."""
    if not 1e-6 <= size <= 0.1:
        raise UsageError(f"a size of {size} s", why="inferences of the built-in networks take 1 µs to 100 ms")

    @functools.cache
    def of(layers: int, image: int) -> Side:
        path = folder / f"layers-{layers}-{image}.tflite"
        path.write_bytes(network(layers, image))
        return side_of(path, request)

    image, seconds = 16, 0.0
    for _ in range(4):  # the time of small images is not that of their pixels alone
        seconds = inference_seconds(way, of(_LAYERS, image))
        nearer = max(_IMAGES[0], min(_IMAGES[1], round(image * (size / seconds) ** 0.5)))
        if nearer == image:
            break
        image = nearer
    else:
        seconds = inference_seconds(way, of(_LAYERS, image))
    name = f"built-in, {1e3 * seconds:.3g} ms"
    return Subject(name, lambda layers: of(layers, image), seconds / _LAYERS, seconds, _LAYERS)


def side_of(path: Path, request: DrillRequest) -> Side:
    """An artifact as it is drilled: on one seeded set of inputs."""

    def inputs(contract: Contract | None, taken: tuple[TensorSpec, ...]) -> Sequence[Mapping[str, Any]]:
        from edgeconv.comparison.probes import make_probes

        return [
            probe.inputs for probe in make_probes(Contract(inputs=taken, outputs=()), seed=0, count=1)[:1]
        ]

    runtime = RuntimeChoice.parse(request.runtime) if request.runtime else None
    wish = Wish(runtime, request.threads, None)
    return look_at(
        path, identify(path).name, find_device(request.device), wish, inputs, contract_beside(path)
    )
