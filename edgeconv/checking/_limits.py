"""What a target's own limits refuse: where no runtime was measured, and a list is all that is known."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from edgeconv.checking.base import Problem
from edgeconv.formats.base import Description, TensorSpec
from edgeconv.targets.schema import Limits


def limit_problems(limits: Limits, description: Description, precision: str | None) -> list[Problem]:
    """What of the artifact is outside of the limits; a problem an op, not one a node."""
    own = [op for op in description.ops if op.removeprefix("custom:") in limits.custom_ops]
    found = list(_op_problems(limits, description, own))
    if limits.precisions and precision not in limits.precisions:
        taken = ", ".join(limits.precisions)
        found.append(
            Problem(
                "precision",
                f"it is {precision or 'of unknown precision'}; taken there is {taken} only",
                hint=f"convert it with '--to {description.format}:{limits.precisions[0]}'",
            )
        )
    found.extend(_open_shapes(limits, description))
    if not limits.control_flow and int(description.metadata.get("subgraphs", 1)) > 1:
        found.append(Problem("control-flow", "it has branches or loops, which are not taken there"))
    if limits.note and not own and not any(problem.severity == "refused" for problem in found):
        found.append(Problem("limits", limits.note, severity="note"))
    return found


def _op_problems(limits: Limits, description: Description, own: list[str]) -> Iterator[Problem]:
    allowed = limits.ops.get(description.format)
    if allowed is None:
        return
    for op, count in description.ops.items():
        if op in allowed or op in own:
            continue
        kind, colon, name = op.partition(":")
        shown = f"{'custom op' if kind == 'custom' else 'TensorFlow op'} {name}" if colon else op
        yield Problem(
            "op",
            f"{shown} is not among the ops taken there"
            + (", it runs on the CPU" if limits.outside == "note" else ""),
            where=f"{count} of them" if count > 1 else None,
            severity=limits.outside,
        )


def _open_shapes(limits: Limits, description: Description) -> Iterator[Problem]:
    flags = shape_flags(limits, description)
    for tensor in _open_inputs(limits, description):
        shape = "any rank" if tensor.shape is None else "×".join(str(d or "?") for d in tensor.shape)
        yield Problem(
            "open-shape",
            f"input '{tensor.name}' has an open dimension ({shape}), all must be fixed there",
            hint=f"convert it with {flags}" if flags else None,
        )


def shape_flags(limits: Limits, description: Description) -> str:
    """The flags that pin what must be fixed to one, quoted for a shell; empty where nothing has to be."""
    words = []
    for tensor in _open_inputs(limits, description):
        if tensor.shape:
            pinned = ",".join(str(d or 1) for d in tensor.shape)
            words += ["--shape", f"{tensor.name}={pinned}"]
    return shlex.join(words)


def _open_inputs(limits: Limits, description: Description) -> list[TensorSpec]:
    if not limits.static_shapes:
        return []
    fixed = 1 if limits.open_batch else 0
    inputs = [tensor for signature in description.signatures for tensor in signature.inputs]
    found = {tensor.name: tensor for tensor in inputs if tensor.shape is None or None in tensor.shape[fixed:]}
    return list(found.values())
