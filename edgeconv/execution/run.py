"""Carries out a plan: converts and proves every artifact asked for, each shared step once.

A node is *made* when its file exists and *settled* when its gate has spoken. What hangs on a node starts
when it is made, beside its gate, and is only proven after it is settled; where a fallback took its place
meanwhile, what was built on the first version is built again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError
from edgeconv.execution.cache import Cache
from edgeconv.execution.events import Event, Listener
from edgeconv.execution.outcomes import Failure, FrontEndMade, Gated, Made, Settled
from edgeconv.execution.plan import SOURCE, Attempt, Node, Plan
from edgeconv.execution.steps import BadInputsError, StageFailedError, Steps
from edgeconv.execution.workers import WorkerPool


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
    on_settled: Callable[[Settled], Awaitable[None]] | None = None
    failures: list[Failure] = field(default_factory=list)
    _states: dict[str, _State] = field(default_factory=dict)
    _source_seen: dict[str, asyncio.Task[Gated]] = field(default_factory=dict)
    _replaced: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        self._steps = Steps(self.plan, self.cache, self.pool, self.listener)

    async def execute(self) -> None:
        """Make and prove everything; each node goes to :attr:`on_settled` when it is settled."""
        for identifier in self.plan.wanted:
            self.listener(Event("planned", identifier))
        wanted = [self._state(identifier).settled for identifier in self.plan.wanted]
        try:
            await asyncio.gather(*(task for task in wanted if task is not None))
            # What was made on the way to something that failed is still to be proven and kept.
            await asyncio.gather(*(s.settled for s in self._states.values() if s.settled is not None))
        except BadInputsError as bad:
            raise bad.error from bad
        finally:
            await self._stop()

    async def _stop(self) -> None:
        """End what is still under way: after an interrupt or a full disk nobody waits for it."""
        tasks = [state.settled for state in self._states.values() if state.settled is not None]
        tasks += self._source_seen.values()  # type: ignore[arg-type]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._steps.stop(), return_exceptions=True)

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
        """What was seen of the source, if it was run by now; of several runs that of the last kind."""
        for seen in reversed(self._source_seen.values()):
            if seen.done() and not seen.cancelled() and seen.exception() is None:
                return seen.result()
        return None

    def front_end(self) -> FrontEndMade | None:
        """What was cut off at the beginning of the source and written down, if it was by now."""
        return self._steps.front_end_made()

    async def _settle(self, node: Node, state: _State) -> Settled:
        best: Settled | None = None
        failed: list[Failure] = []
        for attempt in node.attempts:
            try:
                made, gate = await self._try(node, attempt, state)
            except StageFailedError as error:
                failed.append(Failure(node.id, attempt.conversion, error.error, error.stage))
                continue
            except EdgeconvError as error:
                follows = isinstance(error, _PredecessorError)
                failed.append(Failure(node.id, attempt.conversion, error, None, follows=follows))
                continue
            if gate.passed:
                best = Settled(node, made, gate)
                break
            failed.append(Failure(node.id, attempt.conversion, gate.as_error(node), None))
            if best is None or best.gate is None or gate.nearer_to_a_pass_than(best.gate):
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
        if parent.settled is None and source.artifact.contract is not None and self.plan.observe_early:
            self._start_observing_source(source)  # beside the conversion, not after it
        made = await self._steps.convert(node, attempt, source)
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
                made = await self._steps.convert(node, attempt, source)
            reference = settled.gate
        return made, await self._steps.gate(node, made, source, attempt, reference)

    async def _observe_source(self, first: Made) -> Gated:
        """Run the source on the probes, once; its outputs are the reference of the first gates.

        Where an arrow replaced tensors for inference, the reference of all that is made from the source is
        the source with these tensors replaced: also of a fallback that knows nothing of them.
        """
        self._replaced = first.replaced or self._replaced
        return await asyncio.shield(
            self._start_observing_source(dataclasses.replace(first, replaced=self._replaced))
        )

    def _start_observing_source(self, first: Made) -> asyncio.Task[Gated]:
        key = json.dumps(first.replaced, sort_keys=True)
        if key not in self._source_seen:
            self._source_seen[key] = asyncio.create_task(self._steps.observe_source(first))
        return self._source_seen[key]


class _PredecessorError(ConversionError):
    """What an artifact is made from could not be made or proven; that failure is told by itself."""
