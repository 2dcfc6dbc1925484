"""From formats asked for to a plan: which arrows, in which order of preference."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.conversions.base import Conversion
from edgeconv.conversions.registry import conversions
from edgeconv.errors import UnavailableError, UsageError
from edgeconv.execution.plan import SOURCE, Attempt, Node, Opener
from edgeconv.formats.registry import format_named
from edgeconv.recipe.preloading import worker_modules
from edgeconv.recipe.request import DEFAULT_TARGETS, Target
from edgeconv.runtimes.registry import runtime_for

Place = tuple[str, str]
"""A format and a precision."""
GIVEN: Place = ("", "")
"""The model that was given, which is not what we make of it, even where both are of one format."""

_SUFFIX_OF_FOLDERS = {"saved_model": ".saved_model"}
_CALIBRATED_WORK = 8.0


def default_targets(source: Place, kind: str | None = None) -> tuple[Target, ...]:
    """What is made where nothing was asked for: the default formats that can be reached, in fp32.

    Args:
        source: format and precision of the model given.
        kind: its kind within the format, where that decides which arrows take it.
    """
    reachable = _distances(source, _arrows(source, kind))
    return tuple(Target(name, "fp32") for name in DEFAULT_TARGETS if (name, "fp32") in reachable)


def reachable_from(source: Place, kind: str | None = None) -> frozenset[Place]:
    """Formats and precisions that can be made of a model; see :func:`default_targets`."""
    return frozenset(_distances(source, _arrows(source, kind))) - {GIVEN}


def plan_nodes(
    source: Place,
    targets: tuple[Target, ...],
    options: Mapping[str, Any],
    tolerances: Mapping[str, Any],
    kind: str | None = None,
) -> dict[str, Node]:
    """All nodes that the targets may need, with the source's, by id.

    Args:
        source: format and precision of the model given.
        targets: what to make.
        options: the user's options by name; each arrow takes those it declares.
        tolerances: precision to tolerance, as JSON takes it.
        kind: of the source within its format, where that decides which arrows take it.

    Raises:
        UsageError: there is no way from the source to a target.
    """
    arrows = _arrows(source, kind)
    distances = _distances(source, arrows)
    nodes: dict[str, Node] = {SOURCE: _node(source, (), tolerances, SOURCE)}
    todo = [(target.format, target.precision) for target in targets]
    for place in todo:
        if place == source and place not in distances:
            raise UsageError(
                f"the model is a {_show(place)} already", hint="leave it out of --to, or ask for another"
            )
        if place not in distances:
            raise UsageError(
                f"there is no way from {_show(source)} to {_show(place)}", hint=_ways_out(source, distances)
            )
    while todo:
        place = todo.pop()
        if _id(place) in nodes:
            continue
        ways = _ways(place, source, distances, arrows)
        attempts = tuple(_attempt(way, place, source, options) for way in ways)
        nodes[_id(place)] = _node(place, attempts, tolerances, _id(place))
        todo.extend(_tail(way, source) for way in ways)
    return _with_priorities(_with_shared_processes(nodes))


def _ways_out(source: Place, distances: Mapping[Place, float]) -> str:
    """What can be had instead of a place that cannot be reached."""
    others = ", ".join(sorted(_show(other) for other in distances if other not in (source, GIVEN)))
    if others:
        return f"from here can be made: {others}"
    if source[1] != "fp32":
        return f"nothing is made of a model that is {source[1]} already: convert the float model it came from"
    return f"nothing is made of {source[0]}: convert the model it came from"


def _tail(arrow: Conversion, source: Place) -> Place:
    """Where an arrow starts: from the model given, or from an artifact that is made of it.

    Where there is an arrow from the source's format to the same one (a GraphDef to a frozen graph for
    inference), everything starts from what that makes, never from the model as it was given.
    """
    place = (arrow.source, arrow.source_precision)
    if place != source:
        return place
    renewing = [each for each in conversions() if _renews(each, source)]
    return GIVEN if not renewing or _renews(arrow, source) else place


def _renews(arrow: Conversion, place: Place) -> bool:
    return (arrow.source, arrow.source_precision) == place == (arrow.target, place[1]) and (
        place[1] in arrow.precisions
    )


def _arrows(source: Place, kind: str | None) -> list[Conversion]:
    """The arrows that a source of that kind may take; all where its kind is not known."""
    return [
        arrow
        for arrow in conversions()
        if kind is None or arrow.source != source[0] or not arrow.source_kinds or kind in arrow.source_kinds
    ]


def _distances(source: Place, arrows: Sequence[Conversion]) -> dict[Place, float]:
    """Least total cost from the source to every place that can be reached (Dijkstra's algorithm)."""
    tails = {id(arrow): _tail(arrow, source) for arrow in arrows}
    distances: dict[Place, float] = {}
    queue: list[tuple[float, Place]] = [(0.0, GIVEN)]
    while queue:
        cost, place = heapq.heappop(queue)
        if place in distances:
            continue
        distances[place] = cost
        for arrow in arrows:
            if tails[id(arrow)] == place:
                for precision in arrow.precisions:
                    heapq.heappush(queue, (cost + arrow.cost, (arrow.target, precision)))
    return distances


def _ways(
    place: Place, source: Place, distances: Mapping[Place, float], arrows: Sequence[Conversion]
) -> list[Conversion]:
    """The arrows that end at a place, the cheapest way first.

    Only those that start nearer to the source than the place itself: so no fallback of one node can
    wait for another that waits for it.
    """
    ways = [
        arrow
        for arrow in arrows
        if arrow.target == place[0]
        and place[1] in arrow.precisions
        and distances.get(_tail(arrow, source), math.inf) < distances[place]
    ]
    return sorted(ways, key=lambda a: (distances[_tail(a, source)] + a.cost, a.name))


def _attempt(arrow: Conversion, place: Place, source: Place, options: Mapping[str, Any]) -> Attempt:
    return Attempt(
        conversion=arrow.name,
        source=_id(_tail(arrow, source)),
        preload=arrow.preload,
        tools=arrow.tools,
        options={name: options[name] for name in arrow.options if options.get(name) is not None},
        calibrated=place[1] in arrow.needs_calibration,
    )


def _node(
    place: Place, attempts: tuple[Attempt, ...], tolerances: Mapping[str, Any], identifier: str
) -> Node:
    try:
        runtime = runtime_for(place[0])
        opener = Opener(runtime.name, runtime.preload, runtime.tools)
    except UnavailableError:
        opener = None
    return Node(
        id=identifier,
        format=place[0],
        precision=place[1],
        suffix=format_named(place[0]).suffix or _SUFFIX_OF_FOLDERS.get(place[0], f".{place[0]}"),
        attempts=attempts,
        opener=opener,
        tolerance=tolerances.get(place[1]),
    )


def _with_shared_processes(nodes: dict[str, Node]) -> dict[str, Node]:
    """The nodes with preferred steps that need TensorFlow naming the same modules: they share a process."""
    preferred = [node.attempts[0].preload for node in nodes.values() if node.attempts]
    openers = [node.opener.preload for node in nodes.values() if node.opener]
    together = [*preferred, *openers]

    def shared(node: Node) -> Node:
        attempts = tuple(
            dataclasses.replace(attempt, preload=worker_modules(attempt.preload, together))
            for attempt in node.attempts
        )
        opener = node.opener and dataclasses.replace(
            node.opener, preload=worker_modules(node.opener.preload, together)
        )
        return dataclasses.replace(node, attempts=attempts, opener=opener)

    return {identifier: shared(node) for identifier, node in nodes.items()}


def _with_priorities(nodes: dict[str, Node]) -> dict[str, Node]:
    """Priority of a node: the longest work that hangs on it, itself included, along preferred ways."""
    children: dict[str, list[str]] = {identifier: [] for identifier in nodes}
    for node in nodes.values():
        if node.attempts:
            children[node.attempts[0].source].append(node.id)

    def work(identifier: str) -> float:
        node = nodes[identifier]
        own = _CALIBRATED_WORK if node.attempts and node.attempts[0].calibrated else 1.0
        return own + max((work(child) for child in children[identifier]), default=0.0)

    return {
        identifier: dataclasses.replace(node, priority=work(identifier)) for identifier, node in nodes.items()
    }


def _id(place: Place) -> str:
    return SOURCE if place == GIVEN else _show(place)


def _show(place: Place) -> str:
    return f"{place[0]}.{place[1]}"
