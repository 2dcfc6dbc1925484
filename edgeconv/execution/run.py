"""Carries out a plan: converts and proves every artifact asked for, each shared step once.

A node is *made* when its file exists and *settled* when its gate has spoken. What hangs on a node starts
when it is made, beside its gate, and is only proven after it is settled; where a fallback took its place
meanwhile, what was built on the first version is built again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError, GateFailedError
from edgeconv.execution.cache import Cache, Entry, key_of
from edgeconv.execution.events import Event, Listener
from edgeconv.execution.plan import SOURCE, Attempt, InputSet, Node, Plan
from edgeconv.execution.stage import Stage
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Artifact, Contract, contract_from_json, to_json

_CONVERT = "edgeconv.conversions.stage:convert"
_GATE = "edgeconv.comparison.stage:gate"
_BASE_MEMORY = {"tensorflow": 800 << 20}
_LIGHT_MEMORY = 300 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact that exists, not yet proven."""

    artifact: Artifact
    attempt: Attempt | None = None
    bytes: int = 0
    seconds: float = 0.0
    peak_rss_bytes: int = 0
    cached: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gated:
    """What a gate said, and where the outputs it saw are kept for the next gate."""

    verdict: dict[str, Any]
    observation: Path | None
    key: str
    cached: bool = False

    @property
    def passed(self) -> bool:
        return bool(self.verdict["verdict"] == "pass")


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that did not give a proven artifact; ``follows`` where it was not begun for another's."""

    node: str
    conversion: str
    error: EdgeconvError
    stage: Stage | None
    superseded_by: str | None = None
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a node: what stands, if anything, and what its gate said."""

    node: Node
    made: Made | None
    gate: Gated | None
    error: EdgeconvError | None = None

    @property
    def usable(self) -> bool:
        """Whether others may be built on it."""
        return self.made is not None and self.gate is not None and self.gate.verdict["verdict"] != "fail"


@dataclass
class _State:
    made: asyncio.Future[Made]
    settled: asyncio.Task[Settled] | None = None


@dataclass
class Run:
    """One execution of a plan. :meth:`execute` may be called once."""

    plan: Plan
    cache: Cache
    pool: WorkerPool
    listener: Listener
    on_settled: Any = None
    failures: list[Failure] = field(default_factory=list)
    _states: dict[str, _State] = field(default_factory=dict)
    _probes: InputSet | None = None
    _source_seen: asyncio.Task[Gated] | None = None
    _warmed: bool = False
    _verified: set[Path] = field(default_factory=set)

    async def execute(self) -> list[Settled]:
        """Make and prove everything; returns each node that was reached, predecessors first."""
        for identifier in self.plan.wanted:
            self.listener(Event("planned", identifier))
        for note in self.plan.notes:
            self.listener(Event("note", text=note))
        wanted = [self._state(identifier).settled for identifier in self.plan.wanted]
        try:
            await asyncio.gather(*(task for task in wanted if task is not None))
            # What was made on the way to something that failed is still to be proven and kept.
            await asyncio.gather(*(s.settled for s in self._states.values() if s.settled is not None))
        except _BadInputsError as bad:
            raise bad.error from bad
        finally:
            await self._stop()
        return await self.reached()

    async def _stop(self) -> None:
        """End what is still under way: after an interrupt or a full disk nobody waits for it."""
        tasks = [state.settled for state in self._states.values() if state.settled is not None]
        tasks += [self._source_seen] if self._source_seen is not None else []  # type: ignore[list-item]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reached(self) -> list[Settled]:
        """All nodes that are settled by now, predecessors first."""
        done = [
            state.settled.result()
            for identifier, state in self._states.items()
            if identifier != SOURCE
            and state.settled is not None
            and state.settled.done()
            and not state.settled.cancelled()
            and state.settled.exception() is None
        ]
        depth = {settled.node.id: self._depth(settled) for settled in done}
        return sorted(done, key=lambda s: (depth[s.node.id], s.node.id))

    def _depth(self, settled: Settled) -> int:
        depth, attempt = 0, settled.made.attempt if settled.made else None
        while attempt is not None and attempt.source != SOURCE:
            depth += 1
            made = self._states[attempt.source].made
            attempt = made.result().attempt if made.done() and made.exception() is None else None
        return depth

    def _state(self, identifier: str) -> _State:
        if identifier not in self._states:
            state = self._states[identifier] = _State(asyncio.get_running_loop().create_future())
            # A failed node is reported once, by its settling; unread futures must not be reported again.
            state.made.add_done_callback(lambda f: f.cancelled() or f.exception())
            if identifier == SOURCE:
                state.made.set_result(Made(self.plan.source))
            else:
                state.settled = asyncio.create_task(self._settle(self.plan.nodes[identifier], state))
        return self._states[identifier]

    def source_gate(self) -> Gated | None:
        """What was seen of the source, if it was run by now."""
        seen = self._source_seen
        if seen is None or not seen.done() or seen.cancelled() or seen.exception() is not None:
            return None
        return seen.result()

    async def _settle(self, node: Node, state: _State) -> Settled:
        best: Settled | None = None
        failed: list[Failure] = []
        for attempt in node.attempts:
            try:
                made, gate = await self._try(node, attempt, state)
            except _StageFailedError as error:
                failed.append(Failure(node.id, attempt.conversion, error.error, error.stage))
                continue
            except EdgeconvError as error:
                follows = isinstance(error, _PredecessorError)
                failed.append(Failure(node.id, attempt.conversion, error, None, follows=follows))
                continue
            if gate.passed:
                best = Settled(node, made, gate)
                break
            failed.append(Failure(node.id, attempt.conversion, _gate_error(node, gate), None))
            if best is None or best.gate is None or _better(gate, best.gate):
                best = Settled(node, made, gate)
        settled = best or Settled(node, None, None, failed[-1].error if failed else None)
        self._record(settled, failed)
        if settled.made is None and not state.made.done():
            state.made.set_exception(
                _PredecessorError(f"{node.id}, which this is made from, could not be made")
            )
        if self.on_settled is not None:
            await self.on_settled(settled)
        return settled

    def _record(self, settled: Settled, failed: list[Failure]) -> None:
        """Keep the failures; one that another way made good names it, and a kept one's gate speaks itself."""
        chosen = settled.made.attempt if settled.made is not None else None
        for failure in failed:
            if chosen is None or failure.conversion != chosen.conversion:
                by = chosen.conversion if chosen is not None else None
                self.failures.append(dataclasses.replace(failure, superseded_by=by))

    async def _try(self, node: Node, attempt: Attempt, state: _State) -> tuple[Made, Gated]:
        """Convert by one way and prove it."""
        parent = self._state(attempt.source)
        source = await asyncio.shield(parent.made)
        if parent.settled is None and source.artifact.contract is not None:
            self._start_observing_source(source)  # beside the conversion, not after it
        made = await self._convert(node, attempt, source)
        if not state.made.done():
            state.made.set_result(made)
        if parent.settled is None:
            reference = await self._observe_source(made)
        else:
            settled = await asyncio.shield(parent.settled)
            if not settled.usable or settled.made is None or settled.gate is None:
                raise _PredecessorError(
                    f"{attempt.source}, which this is made from, failed its gate",
                    hint=f"see what 'edgeconv compare' says of it, with --locate, before using {node.id}",
                )
            if settled.made.artifact.sha256 != source.artifact.sha256:
                source = settled.made
                made = await self._convert(node, attempt, source)
            reference = settled.gate
        return made, await self._gate(node, made, source, attempt, reference)

    async def _convert(self, node: Node, attempt: Attempt, source: Made) -> Made:
        contract = source.artifact.contract
        calibration = self._calibration(contract) if attempt.calibrated and contract else None
        key = key_of(
            {
                "kind": "convert",
                "conversion": attempt.conversion,
                "source": source.artifact.sha256,
                "contract": to_json(contract),
                "precision": node.precision,
                "options": dict(attempt.options),
                "calibration": calibration.sha256 if calibration else None,
            },
            attempt.tools,
        )
        async with self.cache.lock(key):
            entry = await self._find(key)
            cached = entry is not None
            if entry is None:
                entry = await self._convert_now(node, attempt, source, calibration, key)
            else:
                self.listener(Event("cached", node.id, "convert", attempt.conversion))
        value = entry.value
        return Made(
            artifact=Artifact(
                path=entry.file(node.file_name_in_cache),
                format=node.format,
                precision=node.precision,
                sha256=value["sha256"],
                contract=contract_from_json(value["contract"]),
            ),
            attempt=attempt,
            bytes=value["bytes"],
            seconds=value["seconds"],
            peak_rss_bytes=value["peak_rss_bytes"],
            cached=cached,
            notes=(*value["notes"], *(calibration.notes if calibration else ())),
        )

    async def _convert_now(
        self, node: Node, attempt: Attempt, source: Made, calibration: InputSet | None, key: str
    ) -> Entry:
        with self.cache.staging() as staged:
            scratch = staged.with_name(f"{staged.name}-scratch")
            scratch.mkdir()
            stage = Stage(
                name=f"convert {node.id} by {attempt.conversion}",
                call=_CONVERT,
                payload={
                    "conversion": attempt.conversion,
                    "source": to_json(source.artifact),
                    "destination": str(staged / node.file_name_in_cache),
                    "precision": node.precision,
                    "scratch": str(scratch),
                    "calibration": str(calibration.path) if calibration else None,
                    "options": dict(attempt.options),
                },
                preload=attempt.preload,
                log=staged.with_name(f"{staged.name}.log"),
                memory_bytes=self._memory(attempt.preload, source),
                priority=node.priority,
            )
            try:
                value, seconds = await self._run(stage, node, "convert", attempt.conversion)
                entry = await asyncio.to_thread(self.cache.publish, key, staged, value)
            finally:
                await asyncio.to_thread(_remove, scratch)
                stage.log.unlink(missing_ok=True)
        self.listener(Event("done", node.id, "convert", attempt.conversion, seconds))
        self._verified.add(entry.folder)
        return entry

    async def _gate(self, node: Node, made: Made, source: Made, attempt: Attempt, reference: Gated) -> Gated:
        contract = made.artifact.contract
        reference_contract = source.artifact.contract or contract
        if node.opener is None or contract is None or reference_contract is None:
            return _skipped(attempt.source, f"no runtime here opens {node.format}")
        probes = self._probe_set(reference_contract)
        key = key_of(
            {
                "kind": "gate",
                "artifact": made.artifact.sha256,
                "contract": to_json(contract),
                "reference": reference.key,
                "reference_contract": to_json(reference_contract),
                "probes": probes.sha256,
                "tolerance": node.tolerance,
                "runtime": node.opener.runtime,
            },
            (*node.opener.tools, "numpy"),
        )
        seen = reference.observation
        payload = {
            "artifact": to_json(made.artifact),
            "runtime": node.opener.runtime,
            "options": {},
            "probes": str(probes.path),
            "reference": attempt.source,
            "reference_contract": to_json(reference_contract),
            "reference_observation": None if seen is None else str(seen),
            "tolerance": node.tolerance,
        }
        gate = await self._observed(node, made, key, payload)
        if seen is None:
            why = {k: reference.verdict.get(k) for k in ("reason", "hint")}
            return dataclasses.replace(gate, verdict={**gate.verdict, **why})
        return gate

    async def _observe_source(self, first: Made) -> Gated:
        """Run the source on the probes, once; its outputs are the reference of the first gates."""
        return await asyncio.shield(self._start_observing_source(first))

    def _start_observing_source(self, first: Made) -> asyncio.Task[Gated]:
        if self._source_seen is None:
            self._source_seen = asyncio.create_task(self._observe_source_now(first))
        return self._source_seen

    async def _observe_source_now(self, first: Made) -> Gated:
        node = self.plan.nodes[SOURCE]
        contract = self.plan.source.contract or first.artifact.contract
        if node.opener is None or contract is None:
            return _skipped(SOURCE, f"no runtime here opens {node.format}")
        probes = self._probe_set(contract)
        key = key_of(
            {
                "kind": "observe",
                "artifact": self.plan.source.sha256,
                "contract": to_json(contract),
                "probes": probes.sha256,
                "options": dict(self.plan.open_options),
            },
            (*node.opener.tools, "numpy"),
        )
        payload = {
            "artifact": to_json(dataclasses.replace(self.plan.source, contract=contract)),
            "runtime": node.opener.runtime,
            "options": dict(self.plan.open_options),
            "probes": str(probes.path),
            "reference": None,
        }
        try:
            return await self._observed(node, Made(self.plan.source), key, payload)
        except _StageFailedError as failed:
            why = f"the source could not be run: {failed.error}"
            return _skipped(SOURCE, why, failed.error.hint)

    async def _observed(self, node: Node, made: Made, key: str, payload: Mapping[str, Any]) -> Gated:
        """Run a gate, or only the observation of the source, or take it from the cache."""
        assert node.opener is not None
        async with self.cache.lock(key):
            entry = await self._find(key)
            if entry is not None:
                self.listener(Event("cached", node.id, "gate", entry.value["verdict"]["verdict"]))
                return Gated(entry.value["verdict"], entry.file("observation.npz"), key, cached=True)
            with self.cache.staging() as staged:
                stage = Stage(
                    name=f"gate {node.id}" if node.id != SOURCE else "run source",
                    call=_GATE,
                    payload={**payload, "observation": str(staged / "observation.npz")},
                    preload=node.opener.preload,
                    log=staged.with_name(f"{staged.name}.log"),
                    memory_bytes=self._memory(node.opener.preload, made),
                    # The gate of a leaf keeps nobody waiting but the end; that of the source all gates.
                    priority=node.priority / 2,
                )
                try:
                    value, seconds = await self._run(stage, node, "gate", "")
                    took = {"seconds": round(seconds, 3), "peak_rss_bytes": value["peak_rss_bytes"]}
                    value["verdict"].update(took)
                    entry = await asyncio.to_thread(self.cache.publish, key, staged, value)
                finally:
                    stage.log.unlink(missing_ok=True)
        verdict = entry.value["verdict"]
        if verdict["verdict"] == "fail":
            self.listener(Event("failed", node.id, "gate", verdict.get("reason") or "fail", seconds))
        else:
            self.listener(Event("done", node.id, "gate", verdict["verdict"], seconds))
        self._verified.add(entry.folder)
        return Gated(verdict, entry.file("observation.npz"), key)

    async def _run(self, stage: Stage, node: Node, step: str, text: str) -> tuple[dict[str, Any], float]:
        self.listener(Event("started", node.id, step, text))
        self._warm_what_follows(stage)
        try:
            result = await self.pool.run(stage)
        except EdgeconvError as error:
            said = _in_users_words(error, stage, node)
            self.listener(Event("failed", node.id, step, str(said)))
            raise _StageFailedError(said, _with_kept_log(stage)) from error
        value = {**result.value, "seconds": result.seconds, "peak_rss_bytes": result.peak_rss_bytes}
        return value, result.seconds

    def _warm_what_follows(self, stage: Stage) -> None:
        """Start the other processes that workers come from while the first heavy one imports."""
        if self._warmed or not any(module in _BASE_MEMORY for module in stage.preload):
            return
        self._warmed = True
        for node in self.plan.nodes.values():
            for preload in (
                *(attempt.preload for attempt in node.attempts[:1]),
                *((node.opener.preload,) if node.opener else ()),
            ):
                self.pool.warm(preload)

    async def _find(self, key: str) -> Entry | None:
        """An entry of the cache whose files are what they were; a changed one is dropped."""
        entry = self.cache.find(key)
        if entry is not None and entry.folder not in self._verified:
            if not await asyncio.to_thread(entry.intact):
                self.cache.drop(key)
                self.listener(Event("note", text="a file in the cache was changed from outside; made anew"))
                return None
            self._verified.add(entry.folder)
        return entry

    def _probe_set(self, contract: Contract) -> InputSet:
        if self._probes is None:
            try:
                self._probes = self.plan.probes(contract)
            except EdgeconvError as error:
                raise _BadInputsError(error) from error
        return self._probes

    def _calibration(self, contract: Contract) -> InputSet:
        try:
            return self.plan.calibration(contract)
        except EdgeconvError as error:
            raise _BadInputsError(error) from error

    def _memory(self, preload: tuple[str, ...], source: Made) -> int:
        base = max((_BASE_MEMORY.get(module, _LIGHT_MEMORY) for module in preload), default=_LIGHT_MEMORY)
        return base + 6 * (source.bytes or _size(source.artifact.path))


class _StageFailedError(Exception):
    """An error with the stage it came from, so that the failure can be repeated."""

    def __init__(self, error: EdgeconvError, stage: Stage) -> None:
        super().__init__(str(error))
        self.error = error
        self.stage = stage


class _BadInputsError(Exception):
    """The samples given do not fit the model: the call is wrong, so that the whole run ends."""

    def __init__(self, error: EdgeconvError) -> None:
        super().__init__(str(error))
        self.error = error


class _PredecessorError(ConversionError):
    """What an artifact is made from could not be made or proven; that failure is told by itself."""


def _better(new: Gated, old: Gated) -> bool:
    """Whether a verdict is nearer to a pass: skipped is better than failed."""
    return (old.verdict["verdict"], new.verdict["verdict"]) == ("fail", "skipped")


def _gate_error(node: Node, gate: Gated) -> GateFailedError:
    reason = gate.verdict.get("reason") or f"the gate says {gate.verdict['verdict']}"
    return GateFailedError(reason, where=node.id, hint=gate.verdict.get("hint"))


def _skipped(reference: str, reason: str, hint: str | None = None) -> Gated:
    verdict: dict[str, Any] = {
        "verdict": "skipped",
        "reference": reference,
        "inputs": [],
        "outputs": [],
        "reason": reason,
        "hint": hint,
    }
    return Gated(verdict, None, "")


def _in_users_words(error: EdgeconvError, stage: Stage, node: Node) -> EdgeconvError:
    """The error with the id of the artifact where it names the file that a worker was to write."""
    destination = str(stage.payload.get("destination", stage.payload.get("artifact", {}).get("path", "")))
    if not destination or node.id == SOURCE:
        return error
    texts = [error.what, error.where, error.why, error.hint]
    what, where, why, hint = (t.replace(destination, node.id) if t is not None else None for t in texts)
    return type(error)(what or "", where=where, why=why, hint=hint)


def _with_kept_log(stage: Stage) -> Stage:
    """The stage with its log moved out of the way of the cleaning of its staging folder."""
    kept = stage.log.with_suffix(".failed")
    with contextlib.suppress(OSError):
        stage.log.rename(kept)
    return dataclasses.replace(stage, log=kept)


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0
