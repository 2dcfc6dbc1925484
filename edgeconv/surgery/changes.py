"""What a rewrite of a TensorFlow graph says about what it did, as data that a proof can be made from.

A rewrite that only tidies keeps what every tensor computes. One that turns a training graph into an
inference graph does not: a batch normalisation uses the moving statistics instead of those of the batch, a
dropout lets everything through. Such a rewrite names each tensor of the *source* whose value it replaced,
and the formula of the value it should have. The proof needs nothing of the rewrite itself: the source is run
with these tensors fed, each with its formula's value (``edgeconv.runtimes._inference_reference``), and what
it then gives must be what the rewritten graph gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Replaced:
    """A tensor of the source whose value is meant to be another one in inference.

    Attributes:
        tensor: ``node:port`` in the source graph.
        formula: name of the formula in ``edgeconv.runtimes.formulas``: ``identity``, ``constant``,
            ``batch_norm`` …
        inputs: tensors of the source graph that the formula takes, in its order.
        attributes: what else the formula takes; goes to JSON.
    """

    tensor: str
    formula: str
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a rewrite did.

    Attributes:
        rewrite: name of the rewrite's module, without ``graph_`` (``batch_norm_to_inference``).
        message: one sentence for a person, that names the node.
        replaced: the tensors that compute something else now; empty for a rewrite that only tidies.
        warning: whether a person should look at it (moving statistics that still are the initial ones).
    """

    rewrite: str
    message: str
    replaced: tuple[Replaced, ...] = ()
    warning: bool = False


SHOWN = 3
"""Changes of one kind that are told one by one; a deep network has a hundred batch normalisations."""


def messages(changes: Sequence[Change]) -> list[str]:
    """What to tell a person: every warning, and of each rewrite the first changes and how many more."""
    told: list[str] = []
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.rewrite] = counts.get(change.rewrite, 0) + (not change.warning)
        if change.warning or counts[change.rewrite] <= SHOWN:
            told.append(change.message)
    for rewrite, count in counts.items():
        if count > SHOWN:
            told.append(f"{count - SHOWN} more changes by {rewrite} like those above")
    return list(dict.fromkeys(told))


def places(count: int) -> str:
    """``in one place``, ``in 12 places``: for messages."""
    return "in one place" if count == 1 else f"in {count} places"


def change_from_json(data: Mapping[str, Any]) -> Change:
    """Inverse of ``edgeconv.formats.base.to_json`` for a :class:`Change`."""
    return Change(
        rewrite=data["rewrite"],
        message=data["message"],
        replaced=tuple(replaced_from_json(item) for item in data["replaced"]),
        warning=data["warning"],
    )


def replaced_from_json(data: Mapping[str, Any]) -> Replaced:
    """Inverse of ``edgeconv.formats.base.to_json`` for a :class:`Replaced`."""
    return Replaced(data["tensor"], data["formula"], tuple(data["inputs"]), dict(data["attributes"]))
