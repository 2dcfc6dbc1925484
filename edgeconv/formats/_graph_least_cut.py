"""The fewest tensors that separate one part of a graph from another."""

from __future__ import annotations

from collections.abc import Iterable

_Side = tuple[tuple[str, int], bool]


def least_cut(
    sources: Iterable[tuple[str, int]],
    through: dict[tuple[str, int], list[tuple[str, int]]],
    sinks: set[tuple[str, int]],
) -> list[tuple[str, int]]:
    """The fewest tensors that all ways from ``sources`` to ``sinks`` go through, nearest to the sources.

    Each tensor is an edge of capacity 1 between its two sides (``False`` in, ``True`` out).
    """
    starts = list(sources)
    back: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for tensor, following in through.items():
        for other in following:
            back.setdefault(other, []).append(tensor)
    used: set[tuple[str, int]] = set()
    started: set[tuple[str, int]] = set()
    passed: dict[tuple[str, int], set[tuple[str, int]]] = {}

    def reach() -> tuple[dict[_Side, _Side | None], _Side | None]:
        seen: dict[_Side, _Side | None] = {(s, False): None for s in starts if s not in started}
        todo = list(seen)
        while todo:
            side = todo.pop(0)
            tensor, out = side
            following: list[_Side] = []
            if not out:
                if tensor not in used:
                    following.append((tensor, True))
                # Back along a way that flow already takes into this tensor.
                following += [
                    (other, True) for other in back.get(tensor, ()) if tensor in passed.get(other, ())
                ]
            else:
                if tensor in sinks:
                    return seen, side
                following += [(other, False) for other in through.get(tensor, ())]
                if tensor in used:
                    following.append((tensor, False))
            for each in following:
                if each not in seen:
                    seen[each] = side
                    todo.append(each)
        return seen, None

    while True:
        seen, end = reach()
        if end is None:
            return [t for t in dict.fromkeys(s for s, out in seen if not out) if (t, True) not in seen]
        at: _Side | None = end
        while at is not None:
            before = seen[at]
            if before is None:
                started.add(at[0])
            elif before[0] == at[0]:
                (used.add if at[1] else used.discard)(at[0])
            elif before[1]:
                passed.setdefault(before[0], set()).add(at[0])
            else:
                passed[at[0]].discard(before[0])
            at = before
