"""The two steps of a node, convert and gate: each one stage in a worker, or its result from the cache."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError
from edgeconv.execution.cache import Cache, Entry, key_of
from edgeconv.execution.events import Event, Listener
from edgeconv.execution.outcomes import FrontEndMade, Gated, Made, skipped
from edgeconv.execution.plan import SOURCE, Attempt, InputSet, Node, Plan
from edgeconv.execution.stage import Stage
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Artifact, Contract, contract_from_json, to_json

_CONVERT = "edgeconv.conversions.stage:convert"
_GATE = "edgeconv.comparison.stage:gate"
_FRONT_END = "edgeconv.front_ends.stage:make"
_TENSORFLOW_MEMORY = 800 << 20
_LIGHT_MEMORY = 300 << 20
_DATA_HINT = (
    "its inputs were made up, and it may take certain values only: give real ones with --data FILE.npz; or "
    "sizes that the file does not state, with --shape NAME=…"
)
_OTHER_PROBES = "other_probes.npz"
_CALIBRATE_HINT = (
    "it was calibrated with random numbers, as no samples were given: give typical inputs with --calibration "
    "FILE.npz; if it fails with those too, leave the precision out or use a wider one"
)


class StageFailedError(Exception):
    """An error with the stage it came from, so that the failure can be repeated."""

    def __init__(self, error: EdgeconvError, stage: Stage) -> None:
        super().__init__(str(error))
        self.error = error
        self.stage = stage


class BadInputsError(Exception):
    """The samples given do not fit the model: the call is wrong, so that the whole run ends."""

    def __init__(self, error: EdgeconvError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Steps:
    """Converts and gates for one run of a plan.

    Raises from all its steps:
        StageFailedError: the stage failed; holds the error and what repeats it.
        BadInputsError: the samples given do not fit the model, which ends the run.
    """

    plan: Plan
    cache: Cache
    pool: WorkerPool
    listener: Listener
    _probes: InputSet | None = None
    _warmed: bool = False
    _verified: set[Path] = field(default_factory=set)
    _front_end: asyncio.Task[FrontEndMade] | None = None
    _source_observation: Path | None = None

    async def convert(self, node: Node, attempt: Attempt, source: Made) -> Made:
        """Make the artifact of a node by one way."""
        source = self._behind_front_end(source, attempt)
        contract = source.artifact.contract
        calibration = await self._calibration(contract) if attempt.calibrated and contract else None
        key = key_of(
            {
                "kind": "convert",
                "conversion": attempt.conversion,
                "source": source.artifact.sha256,
                "contract": to_json(contract),
                "precision": node.precision,
                "options": self._by_content(attempt.options),
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
            replaced=tuple(value["replaced"]),
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
                await self._read_safely(source.artifact.path)
                value, seconds = await self._run(stage, node, "convert", attempt.conversion)
                entry = await asyncio.to_thread(self.cache.publish, key, staged, value)
            finally:
                await asyncio.to_thread(shutil.rmtree, scratch, True)
                stage.log.unlink(missing_ok=True)
        self.listener(Event("done", node.id, "convert", attempt.conversion, seconds))
        self._verified.add(entry.folder)
        return entry

    async def gate(self, node: Node, made: Made, source: Made, attempt: Attempt, reference: Gated) -> Gated:
        """Compare an artifact with what it was made from, of which ``reference`` holds the outputs."""
        contract = made.artifact.contract
        reference_contract = self._behind_front_end(source, attempt).artifact.contract or contract
        if node.opener is None or contract is None or reference_contract is None:
            return skipped(attempt.source, f"no runtime here opens {node.format}")
        front_end = None
        if self.plan.front_end is None:
            probes = self._probe_set(reference_contract)
            probes_path, probes_sha256, made_up = probes.path, probes.sha256, probes.made_up
        else:
            try:
                front_end = await self.front_end()
            except StageFailedError as failed:
                why_not = f"the front end of the source could not be run: {failed.error}"
                return skipped(attempt.source, why_not, failed.error.hint)
            probes_path, probes_sha256, made_up = front_end.at_cut, front_end.sha256, False
            if attempt.source == SOURCE:
                self._source_observation = reference.observation
        # Once a chain: what the first artifact does not mix, those made of it do not either.
        alone = attempt.source == SOURCE
        key = key_of(
            {
                "kind": "gate",
                "artifact": made.artifact.sha256,
                "contract": to_json(contract),
                "reference": reference.key,
                "reference_contract": to_json(reference_contract),
                "probes": probes_sha256,
                "tolerance": node.tolerance,
                "runtime": node.opener.runtime,
                "replaced": len(made.replaced),
                "made_up": made_up,
                "alone": alone,
            },
            (*node.opener.tools, "numpy"),
        )
        seen = reference.observation
        payload = {
            "artifact": to_json(made.artifact),
            "runtime": node.opener.runtime,
            "options": {},
            "probes": str(probes_path),
            "reference": attempt.source,
            "reference_contract": to_json(reference_contract),
            "reference_observation": None if seen is None else str(seen),
            "tolerance": node.tolerance,
            "replaced": len(made.replaced),
            "made_up": made_up,
            "alone": alone,
        }
        planned, whole = self.plan.front_end, self._source_observation
        if planned is not None and front_end is not None and front_end.by_function and whole:
            payload["end_to_end"] = {
                "probes": str(front_end.by_function),
                "observation": str(whole),
                "contract": to_json(planned.contract),
            }
        why = {k: reference.verdict.get(k) for k in ("reason", "hint")}
        try:
            gate = await self._observed(node, made, key, payload)
        except StageFailedError:
            if seen is not None or why["reason"] is None:
                raise
            # What the source itself cannot take is no fault of what was made from it.
            return skipped(attempt.source, why["reason"], why["hint"])
        if seen is None:
            return dataclasses.replace(gate, verdict={**gate.verdict, **why})
        uncalibrated = attempt.calibrated and (await self._calibration(contract)).made_up
        if gate.verdict["verdict"] == "fail" and uncalibrated:
            return dataclasses.replace(gate, verdict={**gate.verdict, "hint": _CALIBRATE_HINT})
        return gate

    async def observe_source(self, first: Made) -> Gated:
        """Run the source on the probes.

        Args:
            first: made from it. Tells its contract where it does not itself, and which of its tensors are
                to be replaced for the reference to be that of inference.
        """
        node = self.plan.nodes[SOURCE]
        contract = self.plan.source.contract or first.artifact.contract
        if node.opener is None or contract is None:
            return skipped(SOURCE, f"no runtime here opens {node.format}")
        probes = self._probe_set(contract)
        replaced = list(first.replaced)
        key = key_of(
            {
                "kind": "observe",
                "artifact": self.plan.source.sha256,
                "contract": to_json(contract),
                "probes": probes.sha256,
                "options": self._by_content(self.plan.open_options),
                "replaced": replaced,
            },
            (*node.opener.tools, "numpy"),
        )
        payload = {
            "artifact": to_json(dataclasses.replace(self.plan.source, contract=contract)),
            "runtime": node.opener.runtime,
            "options": {**self.plan.open_options, **({"replaced": replaced} if replaced else {})},
            "probes": str(probes.path),
            "reference": None,
            # What a front end takes is made of the same probes, beside this.
            "may_replace_probes": probes.made_up and self.plan.front_end is None,
        }
        try:
            seen = await self._observed(node, Made(self.plan.source), key, payload)
            self._take_other_probes(seen)
            return seen
        except StageFailedError as failed:
            why = f"the source could not be run: {failed.error}"
            return skipped(SOURCE, why, failed.error.hint or (_DATA_HINT if probes.made_up else None))

    async def front_end(self) -> FrontEndMade:
        """Write and prove what is cut off at the beginning of the source, once a run."""
        if self._front_end is None:
            self._front_end = asyncio.create_task(self._make_front_end())
            # It may be of no use to anybody after a failure elsewhere.
            self._front_end.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._front_end)

    def front_end_made(self) -> FrontEndMade | None:
        """The front end, if there is one and it was made by now."""
        task = self._front_end
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def stop(self) -> list[asyncio.Task[Any]]:
        """What is under way beside the nodes, cancelled."""
        if self._front_end is None:
            return []
        self._front_end.cancel()
        return [self._front_end]

    async def _make_front_end(self) -> FrontEndMade:
        planned, node, source = self.plan.front_end, self.plan.nodes[SOURCE], self.plan.source
        assert planned is not None
        assert node.opener is not None
        assert source.contract is not None
        probes = self._probe_set(source.contract)
        calibrated = any(attempt.calibrated for each in self.plan.nodes.values() for attempt in each.attempts)
        samples = planned.samples() if calibrated else None
        specs = {name: to_json(getattr(planned.front_end, name)) for name in ("inputs", "cut", "kept")}
        key = key_of(
            {
                "kind": "front_end",
                "artifact": source.sha256,
                "contract": to_json(source.contract),
                "probes": probes.sha256,
                "samples": samples.sha256 if samples else None,
                "options": self._by_content(self.plan.open_options),
                "title": planned.title,
                **specs,
            },
            (*node.opener.tools, "numpy", "pillow"),
        )
        async with self.cache.lock(key):
            entry = await self._find(key)
            if entry is not None:
                self.listener(Event("cached", node.id, "front end"))
                return FrontEndMade(entry.value, entry.folder)
            with self.cache.staging() as staged:
                stage = Stage(
                    name="front end",
                    call=_FRONT_END,
                    payload={
                        "artifact": to_json(source),
                        "options": dict(self.plan.open_options),
                        "probes": str(probes.path),
                        "samples": str(samples.path) if samples else None,
                        "folder": str(staged),
                        "title": planned.title,
                        **specs,
                    },
                    preload=node.opener.preload,
                    log=staged.with_name(f"{staged.name}.log"),
                    memory_bytes=self._memory(node.opener.preload, Made(source)),
                    priority=node.priority,
                )
                try:
                    value, seconds = await self._run(stage, node, "front end", "")
                    entry = await asyncio.to_thread(self.cache.publish, key, staged, value)
                finally:
                    stage.log.unlink(missing_ok=True)
        self.listener(Event("done", node.id, "front end", "", seconds))
        self._verified.add(entry.folder)
        return FrontEndMade(entry.value, entry.folder)

    def _behind_front_end(self, source: Made, attempt: Attempt) -> Made:
        """The model given as its arrows take it: with the contract of what is left behind the cut."""
        if self.plan.front_end is None or attempt.source != SOURCE:
            return source
        artifact = dataclasses.replace(source.artifact, contract=self.plan.front_end.contract)
        return dataclasses.replace(source, artifact=artifact)

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
                    payload={**payload, **_files_of_gate(staged, payload)},
                    preload=node.opener.preload,
                    log=staged.with_name(f"{staged.name}.log"),
                    memory_bytes=self._memory(node.opener.preload, made),
                    # The gate of a leaf keeps nobody waiting but the end; that of the source all gates.
                    priority=node.priority / 2,
                    background=True,
                )
                try:
                    await self._read_safely(made.artifact.path, _path(payload.get("reference_observation")))
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
            said = verdict["verdict"] if node.id != SOURCE else "runs"
            self.listener(Event("done", node.id, "gate", said, seconds))
        self._verified.add(entry.folder)
        return Gated(verdict, entry.file("observation.npz"), key)

    async def _run(self, stage: Stage, node: Node, step: str, text: str) -> tuple[dict[str, Any], float]:
        self.listener(Event("started", node.id, step, text))
        self._warm_what_follows(stage)
        try:
            result = await self.pool.run(stage)
        except EdgeconvError as error:
            source = next((way.source for way in node.attempts if way.conversion == text), None)
            said = _in_users_words(error, stage, node, source)
            self.listener(Event("failed", node.id, step, str(said)))
            raise StageFailedError(said, _with_kept_log(stage)) from error
        value = {**result.value, "seconds": result.seconds, "peak_rss_bytes": result.peak_rss_bytes}
        return value, result.seconds

    def _warm_what_follows(self, stage: Stage) -> None:
        """Start the other processes that workers come from while the first heavy one imports."""
        if self._warmed or not _needs_tensorflow(stage.preload):
            return
        self._warmed = True
        for node in self.plan.nodes.values():
            for preload in (
                *(attempt.preload for attempt in node.attempts[:1]),
                *((node.opener.preload,) if node.opener else ()),
            ):
                self.pool.warm(preload)

    def _by_content(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options as they decide a result: with the hash of what they point at."""
        return {name: [value, self.plan.option_sha256.get(name)] for name, value in options.items()}

    async def _find(self, key: str) -> Entry | None:
        """An entry of the cache whose files nobody touched; another is dropped."""
        entry = self.cache.find(key)
        if entry is not None and entry.folder not in self._verified:
            if await asyncio.to_thread(entry.looks_intact):
                return entry
            self.cache.drop(key)
            self.listener(Event("note", text="a file in the cache was changed from outside; made anew"))
            return None
        return entry

    async def _read_safely(self, *paths: Path | None) -> None:
        """Hash the entries that a stage is about to read files of, once a run.

        Raises:
            ConversionError: one is not what was put there, though its size and time say so.
        """
        for folder in {path.parent for path in paths if path is not None} - self._verified:
            entry = self.cache.find(folder.name)
            if entry is None or entry.folder != folder:
                continue  # the source itself
            if not await asyncio.to_thread(entry.intact):
                self.cache.drop(folder.name)
                raise ConversionError(
                    "a file in the cache is not what was put there; it was dropped",
                    where=str(folder),
                    hint="run the same command again; if it happens again, test this disk",
                )
            self._verified.add(folder)

    def _probe_set(self, contract: Contract) -> InputSet:
        if self._probes is None:
            try:
                self._probes = self.plan.probes(contract)
            except EdgeconvError as error:
                raise BadInputsError(error) from error
        return self._probes

    async def _calibration(self, contract: Contract) -> InputSet:
        if self.plan.front_end is not None:
            made = await self.front_end()
            samples = made.value["samples"]
            if samples is not None:
                given = self.plan.front_end.samples()
                notes, made_up = (given.notes, given.made_up) if given else ((), False)
                path = made.folder / samples["file"]
                return InputSet(path, samples["sha256"], (path.name,), notes, made_up)
        try:
            return self.plan.calibration(contract)
        except EdgeconvError as error:
            raise BadInputsError(error) from error

    def _take_other_probes(self, source: Gated) -> None:
        """Go on with the probes that the source was run on, where it refused those that were made up."""
        from edgeconv.comparison.probes import load_probes, probes_sha256

        file = source.observation.with_name(_OTHER_PROBES) if source.observation is not None else None
        if file is None or not file.exists():
            return
        probes = load_probes(file)
        labels = tuple(probe.label for probe in probes)
        self._probes = InputSet(file, probes_sha256(probes), labels, made_up=True)

    def _memory(self, preload: tuple[str, ...], source: Made) -> int:
        base = _TENSORFLOW_MEMORY if _needs_tensorflow(preload) else _LIGHT_MEMORY
        return base + 6 * (source.bytes or _size(source.artifact.path))


def _files_of_gate(staged: Path, payload: Mapping[str, Any]) -> dict[str, str]:
    """Where a gate writes what it saw."""
    files = {"observation": str(staged / "observation.npz")}
    if payload.get("may_replace_probes"):
        files["other_probes"] = str(staged / _OTHER_PROBES)
    return files


def _in_users_words(error: EdgeconvError, stage: Stage, node: Node, source: str | None) -> EdgeconvError:
    """The error with ids of artifacts where it names files of the cache, which nobody but us knows."""
    if node.id == SOURCE:
        return error
    files = {
        str(stage.payload.get("destination", stage.payload.get("artifact", {}).get("path", ""))): node.id
    }
    if source is not None and source != SOURCE:
        files[str(stage.payload.get("source", {}).get("path", ""))] = source

    def told(text: str | None) -> str | None:
        for file, name in files.items():
            text = text.replace(file, name) if text is not None and file else text
        return text

    return type(error)(
        told(error.what) or "", where=told(error.where), why=told(error.why), hint=told(error.hint)
    )


def _with_kept_log(stage: Stage) -> Stage:
    """The stage with its log moved out of the way of the cleaning of its staging folder."""
    kept = stage.log.with_suffix(".failed")
    with contextlib.suppress(OSError):
        stage.log.rename(kept)
    return dataclasses.replace(stage, log=kept)


def _needs_tensorflow(preload: tuple[str, ...]) -> bool:
    return any("tensorflow" in module for module in preload)


def _path(text: Any) -> Path | None:
    return None if text is None else Path(text)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0
