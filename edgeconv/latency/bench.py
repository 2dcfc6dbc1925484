"""The harness: launch after launch, in each a fresh process that loads one artifact and times it.

All cases (artifact, device, threads …) take turns, one launch of each in an order that is drawn anew every
time, so that what changes on the machine hits all of them alike. What the harness itself costs is measured
beside them, with a model that does nothing through the same path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.devices.base import Device, RuntimeChoice
from edgeconv.devices.client import SILENCE_SECONDS, AgentClient
from edgeconv.devices.registry import target_of
from edgeconv.devices.session import DeviceSession, Wish
from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.latency.records import Artifact, DeviceFacts, LaunchRecord, Measurement, Setting
from edgeconv.latency.spoiled import Limits, hottest, marked

MakeInputs = Callable[[Contract | None, tuple[TensorSpec, ...]], Sequence[Mapping[str, Any]]]
"""Inputs of a model by logical name, one or more sets, of its contract and what it takes on the device."""
Say = Callable[[str], None]

MOST_SAMPLES = 1 << 16
"""Of a launch: more say nothing that these do not, and would fill the file."""
_BURST_SECONDS = 0.001
_MOST_BURST = 64
_WARM_SHARE = 0.5
_LEAST_WARM_SECONDS = 0.2
_OVERHEAD_LAUNCHES = 5
_OVERHEAD_ROUNDS = 200
_COOL_POLL_SECONDS = 2.0
_ALONE = (None, "cpu", "xnnpack")
"""Accelerators whose work is the measuring thread's own where there is one thread."""


@dataclass(frozen=True)
class Case:
    """One artifact in one setting.

    Attributes:
        artifact: what, with its hash and size.
        path: file or folder here.
        contract: logical names; from the file where ``None``.
        device: where.
        wish: runtime, threads, accelerator.
        make_inputs: what it is fed.
    """

    artifact: Artifact
    path: Path
    contract: Contract | None
    device: Device
    wish: Wish
    make_inputs: MakeInputs


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        launches: fresh processes of each case.
        seconds: of timed inferences of each case, all launches together, the warm-up not counted.
        limits: what spoils a launch.
        cool_seconds: how long is waited at most for a device to cool down, before each launch.
        seed: of the order and nothing else.
    """

    launches: int = 10
    seconds: float = 5.0
    limits: Limits = field(default_factory=Limits)
    cool_seconds: float = 300.0
    seed: int = 0


@dataclass(frozen=True)
class Broken:
    """A case that could not be measured, and why."""

    case: Case
    error: EdgeconvError


@dataclass(frozen=True)
class BenchRun:
    """What came of all cases.

    Attributes:
        measurements: of those that could be measured, in the order of the cases.
        broken: the others.
    """

    measurements: tuple[Measurement, ...]
    broken: tuple[Broken, ...]


def run(cases: Sequence[Case], effort: Effort | None = None, say: Say = lambda text: None) -> BenchRun:
    """Measure all cases in turns.

    A case that breaks is left out from then on and does not stop the others.

    Raises:
        UsageError: there is no case, or fewer than one launch.
        EdgeconvError: every case broke; the first one's error.
    """
    effort = effort or Effort()
    if not cases or effort.launches < 1 or effort.seconds <= 0:
        raise UsageError("there is nothing to measure", hint="give an artifact, and at least one launch")
    bench = _Bench(cases, effort, say)
    for number in range(effort.launches):
        order = list(range(len(cases)))
        random.Random(f"{effort.seed} {number}").shuffle(order)
        for place, index in enumerate(order):
            bench.launch(index, number, place)
        bench.overhead(number)
    return bench.result()


class _Bench:
    """What is known while it goes on."""

    def __init__(self, cases: Sequence[Case], effort: Effort, say: Say) -> None:
        self._cases, self._effort, self._say = cases, effort, say
        self._launches: list[list[LaunchRecord]] = [[] for _ in cases]
        self._settings: dict[int, Setting] = {}
        self._broken: dict[int, EdgeconvError] = {}
        self._facts: dict[str, DeviceFacts] = {}
        self._began_at: dict[str, float] = {}
        self._last_at: dict[str, float] = {}
        self._overhead: dict[tuple[str, str, str], list[float]] = {}
        self._at = datetime.now(UTC).isoformat(timespec="seconds")

    def launch(self, index: int, number: int, place: int) -> None:
        """One launch of one case, unless it broke before."""
        case = self._cases[index]
        if index in self._broken:
            return
        try:
            facts = self._facts_of(case.device)
            cooled = self._cool(case.device)
            with DeviceSession(
                case.device, case.path, case.artifact.format, case.contract, case.wish
            ) as session:
                record = self._measured(case, session, number, place, cooled)
                if index not in self._settings:
                    self._settings[index] = _setting(case, session)
        except EdgeconvError as error:
            self._broken[index] = error
            self._say(f"{case.artifact.path} on {case.device.name}: {error}")
            return
        self._launches[index].append(record)
        for reading in record.readings:
            warmth = hottest(reading)
            if warmth is not None:
                self._began_at.setdefault(facts.name, warmth)
                self._last_at[facts.name] = warmth
        self._say(
            f"launch {number + 1} of {self._effort.launches}: {Path(case.artifact.path).name} on"
            f" {case.device.name}, {np.median(record.samples) / 1e3:,.1f} µs"
        )

    def overhead(self, number: int) -> None:
        """Measure what the harness costs in each place that was measured in this round."""
        if number >= _OVERHEAD_LAUNCHES:
            return
        for index, setting in self._settings.items():
            if index in self._broken:
                continue
            case = self._cases[index]
            key = (case.device.name, setting.runtime, setting.version)
            told = self._overhead.setdefault(key, [])
            if len(told) <= number:
                with contextlib.suppress(EdgeconvError):  # then it is not known, and nothing else is lost
                    told.append(null_model_ns(case.device, _choice(case, setting)))

    def result(self) -> BenchRun:
        """All measurements; the first error where there is none."""
        made = []
        name, commit = uuid.uuid4().hex[:12], repository_commit()
        for index, case in enumerate(self._cases):
            if index in self._broken or index not in self._settings:
                continue
            setting = self._settings[index]
            one_thread = setting.threads == 1 and setting.accelerator in _ALONE
            measurement = Measurement(
                run=name,
                at=self._at,
                artifact=case.artifact,
                device=self._facts[case.device.name],
                setting=setting,
                launches=marked(
                    self._launches[index],
                    one_thread=one_thread and not case.device.emulated,
                    limits=self._effort.limits,
                ),
                overhead_ns=tuple(
                    self._overhead.get((case.device.name, setting.runtime, setting.version), ())
                ),
                edgeconv=version("edgeconv"),
                commit=commit,
            )
            made.append(measurement)
        if not made:
            raise next(iter(self._broken.values()))
        broken = [Broken(self._cases[index], error) for index, error in sorted(self._broken.items())]
        return BenchRun(tuple(made), tuple(broken))

    def _measured(
        self, case: Case, session: DeviceSession, number: int, place: int, cooled: float
    ) -> LaunchRecord:
        variants = case.make_inputs(case.contract, session.inputs)
        seconds = self._effort.seconds / self._effort.launches
        # How long an inference takes decides how many are a burst; the first of all is told again later.
        pilot, told = session.measure(variants[:1], burst=1, rounds=1)
        took = max(float(told["ns"].min()) / 1e9, 1e-9)
        burst = max(1, min(_MOST_BURST, int(_BURST_SECONDS / took)))
        result, told = session.measure(
            variants,
            burst=burst,
            rounds=max(1, MOST_SAMPLES // burst),
            seconds=seconds,
            warm_seconds=max(_LEAST_WARM_SECONDS, _WARM_SHARE * seconds),
        )
        firsts = result["first_ns"][0] if result.get("first_ns") else pilot["first_ns"][0]
        columns = {
            name: values[0] for name, values in told.items() if name != "ns" and not name.startswith("warm:")
        }
        return LaunchRecord(
            number=number,
            place=place,
            load_seconds=session.load_seconds,
            first_ns=firsts,
            warm=told.get("warm:0", np.empty(0, np.int64)),
            samples=told["ns"][0],
            columns=columns,
            steady=bool(result["steady"][0]),
            readings=tuple(result["readings"]),
            nanoseconds=int(result["nanoseconds"]),
            peak_bytes=result["memory"]["peak_bytes"],
            import_bytes=session.resident_before,
            quiet=bool(result["quiet"]),
            cooled_seconds=cooled,
        )

    def _facts_of(self, device: Device) -> DeviceFacts:
        if device.name not in self._facts:
            self._facts[device.name] = device_facts(device)
        return self._facts[device.name]

    def _cool(self, device: Device) -> float:
        """Wait until the device is about as warm as in the beginning; returns the seconds that took."""
        began, last = self._began_at.get(device.name), self._last_at.get(device.name)
        wanted = None if began is None else began + self._effort.limits.warmer
        if wanted is None or last is None or last <= wanted or not self._effort.cool_seconds:
            return 0.0
        begun = time.monotonic()
        self._say(f"{device.name} has {last:.0f} °C: waiting until it has {wanted:.0f}")
        with AgentClient(device) as client:
            while time.monotonic() - begun < self._effort.cool_seconds:
                said, _ = client.ask("probe", silence=_silence(device))
                warmth = hottest(said.get("sensors") or {})
                if warmth is None or warmth <= wanted:
                    break
                time.sleep(_COOL_POLL_SECONDS)
        return time.monotonic() - begun


def device_facts(device: Device) -> DeviceFacts:
    """What is known of a device, its agent's probe included: what a measurement says of where it was made.

    Raises:
        EdgeconvError: the device cannot be reached.
    """
    with AgentClient(device) as client:
        said, _ = client.ask("probe", silence=_silence(device))
    return DeviceFacts(device.name, device.kind, device.emulated, target_of(device), said)


def null_model_ns(
    device: Device, runtime: RuntimeChoice | None = None, rounds: int = _OVERHEAD_ROUNDS
) -> float:
    """What a model that does nothing seems to take in a fresh process there: the median, ns.

    Raises:
        EdgeconvError: the device or the runtime's place on it is not there.
    """
    with AgentClient(device, runtime) as client:
        model = client.open("null", "null", Path("/"))  # any file that is there
        fields = {"models": [model.number], "inputs": [[{"x": 0}]], "burst": 25, "rounds": rounds}
        arrays = [("x", np.zeros(1, np.float32))]
        _, told = client.ask("measure", fields, arrays, silence=_silence(device))
    return float(np.median(dict(told)["ns"]))


def repository_commit(folder: Path | None = None) -> str | None:
    """The commit of the git repository that the person works in; ``None`` where there is none."""
    where = folder or Path.cwd()

    def asked(*words: str) -> str | None:
        try:
            ran = subprocess.run(
                ["git", "-C", str(where), *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError, ValueError):
            return None
        return ran.stdout.strip() if ran.returncode == 0 else None

    commit = asked("rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if asked("status", "--porcelain", "--untracked-files=no") else commit


def _setting(case: Case, session: DeviceSession) -> Setting:
    ran = session.ran
    placement = None if ran.placement is None else dict(ran.placement)
    if placement is None:
        with contextlib.suppress(EdgeconvError):
            found = session.placement(case.make_inputs(case.contract, session.inputs)[0])
            placement = None if found is None else dataclasses.asdict(found)
    return Setting(ran.runtime, str(ran.version), ran.threads, ran.accelerator, placement)


def _choice(case: Case, setting: Setting) -> RuntimeChoice:
    """The runtime as the case's own launches name it."""
    asked = case.wish.runtime
    return RuntimeChoice(setting.runtime, None if asked is None else asked.version)


def _silence(device: Device) -> float:
    return SILENCE_SECONDS * (20.0 if device.emulated else 1.0)
