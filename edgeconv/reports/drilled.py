"""What a drill showed: sentences, and plain values for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgeconv.latency.rates import Rate, more_often_than_stated
from edgeconv.recipe.drilling import Drilled


def of(rate: Rate) -> str:
    """A rate with its interval: ``0 of 440 (0 to 0.68 %)``."""
    if not rate.of:
        return "none"
    return f"{rate.hits} of {rate.of} ({percent(rate.low)} to {percent(rate.high)} %)"


def percent(share: float) -> str:
    """A share in percent, with two digits of what is small."""
    return f"{100 * share:.2g}" if share < 0.0995 else f"{100 * share:.3g}"


def sentences(found: Drilled) -> list[str]:
    """What can be relied on there, rates with their 95 % intervals."""
    said, told = found.summary, []
    for what, (wrong, number, stated) in more_often_than_stated(said.cells, found.request.policy).items():
        told.append(f"{what}: {wrong} of {number}, more often than the {percent(stated)} % that are stated")
    if said.false_alarms.of:
        told.append(f"equals called regressed or improved: {of(said.false_alarms)}")
        told.append(f"equals called ok: {of(said.ok)}")
    for effect, each in said.found.items():
        quick = said.found_within_5_s[effect].hits
        told.append(f"+{effect:g} % called regressed: {of(each)}, {quick} of them within 5 s")
    told.append(f"95 % intervals that have the true ratio: {of(said.covered)}")
    runs = next(iter(said.calibration.values())).of
    if runs:
        levels = ", ".join(f"{each.hits} at {level:.0%}" for level, each in said.calibration.items())
        told.append(f"equals called different, {runs} runs of the launches cut anew: {levels}")
    for model in dict.fromkeys(cell.model for cell in said.cells):
        for loops in sorted({cell.loops for cell in said.cells if cell.model == model}):
            told.append(detected(found, model, loops))
    return told


def detected(found: Drilled, model: str, loops: int) -> str:
    """The least change that was found each time, of one model beside so many loops."""
    cells = [
        cell for cell in found.summary.cells if (cell.model, cell.loops) == (model, loops) and cell.effect
    ]
    always = [cell for cell in cells if cell.right.hits == cell.right.of]
    # from the largest down: a smaller one that was found by chance proves nothing where a larger was missed
    least = None
    for cell in sorted(cells, key=lambda cell: -cell.effect):
        if cell not in always:
            break
        least = cell
    where = f"{model}, {loops} loops" if loops else model
    if not cells:
        return f"{where}: no change was injected"
    if least is None:
        return f"{where}: none of the changes was found each time"
    return f"{where}: +{least.effect:g} % was found each time ({least.right.of}), in {least.seconds[0]:.1f} s"


def as_document(found: Drilled) -> dict[str, Any]:
    """Plain values: rates as hits, of, low, high; effects and levels as texts."""
    request = dataclasses.asdict(found.request)
    request["artifacts"] = [str(path) for path in request["artifacts"]]
    request["keep"] = None if request["keep"] is None else str(request["keep"])
    return {
        "request": request,
        "seed": found.seed,
        "runtimes": dict(found.runtimes),
        "summary": _plain(dataclasses.asdict(found.summary)),
        "left_out": list(found.left),
        "sentences": sentences(found),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            f"{key:g}" if isinstance(key, float) else str(key): _plain(each) for key, each in value.items()
        }
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
