"""Launches of a baseline and a candidate on a device: where the samples of a verdict come from.

Both in one fresh process wherever they share runtime, version and device (:class:`Together`): one request a
launch, so that nothing of the way to a board is in it; slow models in two such processes at a time. Where
they cannot share a process, one fresh process for each in an agent of its own, whose bursts are asked for in
turns and never run at the same time (:class:`Lockstep`). What is opened first and whose burst comes first
are drawn for each launch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from edgeconv.agent.processor import available_cores
from edgeconv.devices.base import Device, RuntimeChoice
from edgeconv.devices.client import SILENCE_SECONDS, AgentClient
from edgeconv.devices.session import DeviceSession, Wish
from edgeconv.errors import EdgeconvError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.registry import format_named
from edgeconv.latency.channels import Launch
from edgeconv.latency.plan import LaunchPlan, launch_plan

BASELINE, CANDIDATE, COPY = "baseline", "candidate", "copy"
"""Names of the models in a launch; the copy is the baseline opened once more."""
_ON_PROCESSOR = (None, "cpu", "xnnpack")
"""Accelerators whose work is the measuring thread's own where there is one thread."""
_WAITS_BELOW = 0.2
"""Of the wall's time that the thread computes: a model below it waits, and belongs on the wall clock."""
_OF_EMULATION = 20.0
_AT_ONCE = 2
_TIMES_THE_FILES = 8
"""Memory of a launch at most: two models, each with its weights as they are and packed, and as much again."""
_POOL = 3
"""Agents of each runtime that launches in lockstep draw from."""

Arrays = list[tuple[str, Any]]
MakeInputs = Callable[[Contract | None, tuple[TensorSpec, ...]], Sequence[Mapping[str, Any]]]
"""Inputs for a model by logical name, one or more sets, of its contract and what it takes on the device."""


@dataclass(frozen=True)
class Side:
    """One artifact as it is run.

    Attributes:
        path: file or folder here.
        format: registered name.
        device: where.
        runtime: name and the version that is there.
        threads: intra-op threads.
        accelerator: asked for; ``None`` leaves it to the runtime.
        options: what else the back end is given.
        variants: sets of inputs that it takes in turn, by the file's own names.
        placement: where its ops ran, as far as the runtime tells.
        repeat: inferences that make one sample, by which ``edgeconv drill`` injects work of a known share.
    """

    path: Path
    format: str
    device: Device
    runtime: RuntimeChoice
    threads: int = 1
    accelerator: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Arrays, ...] = ()
    placement: Mapping[str, Any] | None = None
    repeat: int = 1

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.stat().st_size for file in format_named(self.format).files(self.path))

    @property
    def place(self) -> tuple[str, str]:
        """What two sides have to share to be in one process."""
        return self.device.name, str(self.runtime)

    @property
    def computes_alone(self) -> bool:
        """Whether the measuring thread does all the work, so that its own clock sees all of it."""
        return self.threads == 1 and self.accelerator in _ON_PROCESSOR and not self.device.emulated

    def shares_process_with(self, other: Side) -> bool:
        """Whether both can be opened in one process, with the same threads and accelerator."""
        return (self.place, self.threads, self.accelerator) == (
            other.place,
            other.threads,
            other.accelerator,
        )


def look_at(
    path: Path,
    format_name: str,
    device: Device,
    wish: Wish,
    make_inputs: MakeInputs,
    contract: Contract | None = None,
) -> Side:
    """Open an artifact on a device once: which runtime takes it there, and what it is fed.

    Raises:
        UsageError: no runtime of that name opens the format, or inputs do not fit.
        UnavailableError: the runtime is not there, or the device cannot be reached.
        ConversionError: the runtime there refuses the model.
    """
    with DeviceSession(device, path, format_name, contract, wish) as session:
        variants = tuple(
            session.arrays_for(inputs) for inputs in make_inputs(contract, tuple(session.inputs))
        )
        return Side(
            path=path,
            format=format_name,
            device=device,
            runtime=session.runtime,
            threads=wish.threads,
            accelerator=wish.accelerator,
            options=session.options,
            variants=variants,
            placement=session.ran.placement,
        )


@dataclass(frozen=True)
class Opening:
    """What a launch of one model alone says of it.

    Attributes:
        load_ns, load_thread_ns: of loading it, by the wall's clock and the thread's own.
        first_ns: its first inference.
        memory_bytes: most memory that the process had, less what it had before.
    """

    load_ns: int
    load_thread_ns: int
    first_ns: int
    memory_bytes: int | None


class Way(Protocol):
    """How launches are made."""

    name: str

    def at_once(self, side: Side, plan: LaunchPlan) -> int:
        """How many launches of models like this one do not disturb each other more than they help."""
        ...

    def launches(self, sides: Mapping[str, Side], plan: LaunchPlan, seeds: Sequence[int]) -> list[Launch]:
        """A launch for each seed, at the same time if they can be.

        A launch opens all models in processes made for it, measures in alternating bursts, and ends them.
        What is opened first and whose burst comes first is drawn of its seed; the samples are in the order of
        the bursts.
        """
        ...

    def ready(self, sides: Sequence[Side]) -> None:
        """Start what launches of these need, so that no launch has to wait for it."""
        ...

    def alone(self, side: Side, seed: int) -> Opening:
        """Open one in a process made for it and infer once."""
        ...

    def timed(self, side: Side, plan: LaunchPlan, seed: int) -> Any:
        """Samples of one alone, of shape (bursts, length)."""
        ...

    def profiled(self, sides: Sequence[Side], runs: int, seed: int) -> list[Mapping[str, Any] | None]:
        """What the runtimes tell of the ops of each (:data:`edgeconv.agent.backends.base.Profile`)."""
        ...

    def close(self) -> None:
        """End the agents."""
        ...


class _Agent:
    """An agent that does nothing but fork launches, with what it was sent."""

    def __init__(self, side: Side) -> None:
        self.client = AgentClient(side.device, side.runtime)
        self._silence = SILENCE_SECONDS * (_OF_EMULATION if side.device.emulated else 1.0)
        self._sent: dict[Any, dict[str, Any]] = {}

    def ask(self, verb: str, sides: Sequence[Side], **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """A request on models; each array is sent once however many models take it."""
        models, inputs = [], []
        arrays: Arrays = []
        places: dict[int, int] = {}
        for side in sides:
            key = (side.path, side.threads, side.accelerator)
            if key not in self._sent:
                files = format_named(side.format).files(side.path)
                options = {"threads": side.threads, **side.options}
                if side.accelerator is not None:
                    options["accelerator"] = side.accelerator
                self._sent[key] = self.client.model_fields(
                    side.runtime.name, side.format, side.path, files, options
                )
            models.append({**self._sent[key], "repeat": side.repeat})
            for variant in side.variants:
                for name, value in variant:
                    if id(value) not in places:
                        places[id(value)] = len(arrays)
                        arrays.append((name, value))
            inputs.append([{name: places[id(v)] for name, v in variant} for variant in side.variants])
        return self.plainly(verb, {"models": models, "inputs": inputs, **fields}, arrays)

    def plainly(
        self, verb: str, fields: Mapping[str, Any], arrays: Arrays | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A request as it is."""
        result, told = self.client.ask(verb, fields, arrays or [], silence=self._silence)
        return result, dict(told)

    def close(self) -> None:
        """End it."""
        self.client.close()


class _Ways:
    """What both ways share: launches of one model alone."""

    name = ""

    def __init__(self) -> None:
        self._agents: dict[Any, _Agent] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the agents."""
        for agent in self._agents.values():
            agent.close()
        self._agents.clear()

    def _agent(self, side: Side) -> _Agent:
        key = side.place
        if key not in self._agents:
            self._agents[key] = _Agent(side)
        return self._agents[key]

    def at_once(self, side: Side, plan: LaunchPlan) -> int:
        """See :class:`Way`."""
        return 1

    def ready(self, sides: Sequence[Side]) -> None:
        """See :class:`Way`."""
        for side in sides:
            self._agent(side)

    def alone(self, side: Side, seed: int) -> Opening:
        """See :class:`Way`."""
        told, _ = self._agent(side).ask("launch", [side], burst=1, rounds=1, warm=0, seeds=[seed])
        (result,) = told["launches"]
        start, peak = result["start_bytes"], result["memory"]["peak_bytes"]
        return Opening(
            load_ns=int(result["load_ns"][0]),
            load_thread_ns=int(result["load_thread_ns"][0]),
            first_ns=int(result["first_ns"][0]),
            memory_bytes=None if None in (start, peak) else max(1, int(peak) - int(start)),
        )

    def timed(self, side: Side, plan: LaunchPlan, seed: int) -> Any:
        """See :class:`Way`."""
        fields = {**_fields(plan), "rounds": plan.bursts, "seeds": [seed]}
        return self._agent(side).ask("launch", [side], **fields)[1]["ns"][0, 0]

    def profiled(self, sides: Sequence[Side], runs: int, seed: int) -> list[Mapping[str, Any] | None]:
        """See :class:`Way`."""
        order = list(range(len(sides)))
        random.Random(seed).shuffle(order)
        told: dict[int, Any] = {}
        for place in order:
            side = sides[place]
            (launch,) = self._agent(side).ask("launch", [side], profile=runs, seeds=[seed])[0]["launches"]
            (told[place],) = launch["profiles"]
        return [told[place] for place in range(len(sides))]


class Together(_Ways):
    """All models of a launch in one process."""

    name = "one process"

    def at_once(self, side: Side, plan: LaunchPlan) -> int:
        """See :class:`Way`.

        Two where a launch is timed by what it computes and leaves processor and memory to another. On a board
        they would heat it.
        """
        if not plan.processor_time or side.device.kind != "local" or available_cores() < _AT_ONCE:
            return 1
        import psutil

        wanted = _AT_ONCE * _TIMES_THE_FILES * side.bytes
        return _AT_ONCE if psutil.virtual_memory().available > wanted else 1

    def launches(self, sides: Mapping[str, Side], plan: LaunchPlan, seeds: Sequence[int]) -> list[Launch]:
        """See :class:`Way`."""
        agent, names = self._agent(next(iter(sides.values()))), list(sides)
        fields = {**_fields(plan), "rounds": plan.bursts, "seeds": list(seeds)}
        told, arrays = agent.ask("launch", list(sides.values()), **fields)
        return [
            {names[turn]: samples[turn] for turn in launch["turns"]}
            for launch, samples in zip(told["launches"], arrays["ns"], strict=True)
        ]


class Lockstep(_Ways):
    """A process for each model of a launch, their bursts in turns.

    The runtimes are imported by each launch. A fork of an agent that has imported one inherits where its
    libraries lie, and that alone was seen to shift all launches of one agent by half a percent against those
    of another: where both models are in one process it shifts both, here it would be taken for a difference.
    What lies where in the agent's own interpreter does the same to a lesser degree, so that each launch draws
    its agents among some.
    """

    name = "lockstep"

    def __init__(self) -> None:
        super().__init__()
        self._forking: dict[Any, list[_Agent]] = {}

    def ready(self, sides: Sequence[Side]) -> None:
        """Start the agents, all at once."""
        from concurrent.futures import ThreadPoolExecutor

        lacking = {side.place: side for side in sides if side.place not in self._forking}
        for place in lacking:
            self._forking[place] = []
        with ThreadPoolExecutor(max(1, len(lacking) * _POOL)) as pool:
            wanted = [(place, side) for place, side in lacking.items() for _ in range(_POOL)]
            begun = [(place, pool.submit(_Agent, side)) for place, side in wanted]
            for place, agent in begun:
                with contextlib.suppress(EdgeconvError):
                    self._forking[place].append(agent.result())
        for place, agent in begun:
            if not self._forking[place]:
                agent.result()  # raises what kept all of them from starting

    def close(self) -> None:
        """See :class:`Way`."""
        for agents in self._forking.values():
            for agent in agents:
                agent.close()
        self._forking.clear()
        super().close()

    def launches(self, sides: Mapping[str, Side], plan: LaunchPlan, seeds: Sequence[int]) -> list[Launch]:
        """See :class:`Way`."""
        return [self._launch(sides, plan, seed) for seed in seeds]

    def _launch(self, sides: Mapping[str, Side], plan: LaunchPlan, seed: int) -> Launch:
        from concurrent.futures import ThreadPoolExecutor

        drawn = random.Random(seed)
        order = drawn.sample(list(sides), len(sides))
        self.ready(list(sides.values()))
        agents: dict[str, _Agent] = {}
        for place in {side.place: None for side in sides.values()}:
            names = [name for name, side in sides.items() if side.place == place]
            pool = drawn.sample(self._forking[place], len(self._forking[place]))
            agents |= {name: pool[number % len(pool)] for number, name in enumerate(names)}
        taken: dict[str, list[Any]] = {name: [] for name in sides}
        workers: dict[str, int] = {}

        def begin(names: Sequence[str]) -> None:
            for name in names:
                own = seed + 7919 * list(sides).index(name)
                asked = {**_fields(plan), "seed": own, "fresh": True}
                workers[name] = int(agents[name].ask("fork", [sides[name]], **asked)[0]["worker"])

        try:
            by_agent: dict[int, list[str]] = {}
            for name in sides:
                by_agent.setdefault(id(agents[name]), []).append(name)
            with ThreadPoolExecutor(len(by_agent)) as threads:
                list(threads.map(begin, by_agent.values()))
            for _ in range(1 + plan.bursts):
                for name in order:
                    _, arrays = agents[name].plainly("burst", {"worker": workers[name]})
                    taken[name].append(arrays["ns"][0])
        finally:
            for name, worker in workers.items():
                with contextlib.suppress(EdgeconvError):
                    agents[name].plainly("join", {"worker": worker})
        return {name: np.stack(taken[name][1:]) for name in order}  # before its first, another or none ran


def way_for(baseline: Side, candidate: Side) -> Together | Lockstep:
    """How two artifacts are measured beside each other."""
    return Together() if baseline.shares_process_with(candidate) else Lockstep()


def plan_for(way: Way, sides: Sequence[Side], seed: int) -> tuple[LaunchPlan, dict[str, float]]:
    """How long a launch is measured, from a first look at each artifact.

    Returns:
        The plan, and about how many seconds an inference takes by path.
    """
    seconds: dict[str, float] = {}
    own = True
    for side in sides:
        first = way.timed(side, LaunchPlan(1, 2, 0, processor_time=False), seed)
        wall = float(first.min()) / 1e9
        if wall < 0.05:
            wall = float(way.timed(side, LaunchPlan(5, 4, 2, processor_time=False), seed).min()) / 1e9
        seconds[str(side.path)] = wall
        if not side.computes_alone:
            own = False
        else:
            thread = way.timed(side, LaunchPlan(1, 2, 1, processor_time=True), seed)
            own = own and float(thread.max()) / 1e9 >= _WAITS_BELOW * wall
    plan = launch_plan(max(seconds.values()))
    return dataclasses.replace(plan, processor_time=plan.processor_time and own), seconds


def _fields(plan: LaunchPlan) -> dict[str, Any]:
    clock = "thread" if plan.processor_time else "wall"
    return {"burst": plan.length, "warm": plan.warm, "clock": clock}


class Paired:
    """The source of a duet: launch n of baseline and candidate, and now and then one of the baseline twice.

    Attributes:
        copies: launches of the baseline and its copy so far, which are the noise floor.
    """

    EVERY = 4
    """One launch of equals for so many of the two."""

    def __init__(self, way: Way, baseline: Side, candidate: Side, plan: LaunchPlan, seed: int) -> None:
        self.way, self.plan = way, plan
        self.copies: list[Launch] = []
        self._pair = {BASELINE: baseline, CANDIDATE: candidate}
        self._equals = {BASELINE: baseline, COPY: baseline}
        self._drawn = random.Random(seed)
        self._at_once = way.at_once(baseline, plan)
        self._ready: deque[Launch] = deque()

    def __call__(self, number: int) -> Launch:
        if not self._ready:
            self._ready += self._launches(self._pair)
        if (number + 1) % (self.EVERY * self._at_once) == 0:
            self.copy()
        return self._ready.popleft()

    def copy(self) -> None:
        """Launches of equals, so many as are made at once."""
        self.copies += self._launches(self._equals)

    def _launches(self, sides: Mapping[str, Side]) -> list[Launch]:
        seeds = [self._drawn.randrange(1 << 40) for _ in range(self._at_once)]
        return self.way.launches(sides, self.plan, seeds)
