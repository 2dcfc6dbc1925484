"""The contract of the model that was given: from its signature or graph, with what the user pinned."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgeconv.errors import UsageError
from edgeconv.formats._graph_switches import is_switch
from edgeconv.formats.base import Contract, Description, Format, Shape, Signature, TensorSpec, contract_of

_DEFAULT_SIGNATURE = "serving_default"


@runtime_checkable
class StatesContract(Protocol):
    """A format whose files name no inputs and outputs of their own, but whose graph tells."""

    def contract(
        self, path: Path, inputs: Sequence[str] | None, outputs: Sequence[str] | None
    ) -> Contract | None:
        """The contract between the named tensors, or the unambiguous candidates where none are named.

        ``None`` where there is no graph that tells (a checkpoint without one).

        Raises:
            UsageError: a name that is not there (the nearest are named), or an ambiguous choice.
        """
        ...


@runtime_checkable
class RunsAsItIs(Protocol):
    """A format whose graphs may have switches between training and inference, which running them needs."""

    def contract_as_it_is(
        self, path: Path, inputs: Sequence[str] | None, outputs: Sequence[str] | None
    ) -> Contract:
        """As ``StatesContract.contract``, with those switches among the inputs."""
        ...


@runtime_checkable
class HasParts(Protocol):
    """A format that may hold several graphs, told apart by tags."""

    def describe_part(self, path: Path, tags: Sequence[str] | None, signature: str | None) -> Description:
        """Describe the graph of those tags, with what one signature of it runs.

        Raises:
            UsageError: there is no such graph; lists what there is.
        """
        ...


def describe_source(
    part: Format, path: Path, *, tags: Sequence[str] | None = None, signature: str | None = None
) -> Description:
    """Describe what the user chose of a model by ``--tags`` and ``--signature``.

    Raises:
        UsageError: tags that are not there.
        InvalidModelError: truncated, corrupt, or of a newer version.
    """
    if isinstance(part, HasParts) and tags is not None:
        return part.describe_part(path, tags, signature)
    return part.describe(path)


def source_contract(
    part: Format,
    description: Description,
    *,
    signature: str | None = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    shapes: Mapping[str, Shape] | None = None,
    as_it_is: bool = False,
) -> Contract | None:
    """The contract of a source model; ``None`` where only opening the model tells (a checkpoint).

    What switches between training and inference is no input unless it is named; with ``as_it_is``, for a
    model that is run and not converted, it is one like any other.

    Raises:
        UsageError: an ambiguous or unknown signature, a name that is not there, a shape that contradicts.
    """
    contract = _stated(part, description, signature, inputs, outputs, as_it_is)
    if contract is None:
        return None
    if not inputs and (pinned := [name for name in shapes or {} if not _has(contract.inputs, name)]):
        # A shape is a way to name an input: a switch between training and inference, that is left out else.
        everything = [*(spec.name for spec in contract.inputs), *pinned]
        contract = _stated(part, description, signature, everything, outputs, as_it_is) or contract
    return pin_shapes(contract, shapes or {})


def pin_shapes(contract: Contract, shapes: Mapping[str, Shape]) -> Contract:
    """The contract with the shapes the user pinned.

    Raises:
        UsageError: no such input, or a shape that contradicts what the model says.
    """
    for name, shape in shapes.items():
        spec = _named(contract.inputs, name, "--shape")
        if not compatible(spec.shape, shape):
            raise UsageError(
                f"--shape {name}={show_shape(shape)} contradicts the model's {show_shape(spec.shape)}",
                hint="keep the rank and the fixed dimensions",
            )
    inputs = tuple(
        dataclasses.replace(spec, shape=shapes[spec.name]) if spec.name in shapes else spec
        for spec in contract.inputs
    )
    return dataclasses.replace(contract, inputs=inputs)


def require_ranks(contract: Contract) -> None:
    """Refuse a contract with an input of unknown rank: nothing could be fed to it, so nothing proven.

    Raises:
        UsageError: names each such input and how to say its shape.
    """
    unknown = [spec.name for spec in contract.inputs if spec.shape is None]
    if unknown:
        raise UsageError(
            f"the model does not say the shape of {', '.join(unknown)}",
            hint="say it: "
            + " ".join(f"--shape {name}=1,…" for name in unknown)
            + f"; for a scalar: --shape {unknown[-1]}=",
        )


def compatible(stated: Shape | None, wanted: Shape) -> bool:
    """Whether a wanted shape can be had of a stated one: same rank, and no fixed dimension changed."""
    if stated is None:
        return True
    return len(stated) == len(wanted) and all(
        have is None or have == want for have, want in zip(stated, wanted, strict=True)
    )


def show_shape(shape: Shape | None) -> str:
    """A shape as ``--shape`` takes it; ``unknown`` for an unknown rank."""
    if shape is None:
        return "unknown"
    return ",".join("?" if d is None else str(d) for d in shape) or "a scalar"


def _stated(
    part: Format,
    description: Description,
    signature: str | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
    as_it_is: bool,
) -> Contract | None:
    if description.signatures:
        contract = contract_of(_choose_signature(description, signature))
        try:
            return _subset(contract, inputs, outputs, as_it_is)
        except UsageError:
            # What the signature does not name may be a tensor of the graph.
            if signature is not None or not isinstance(part, StatesContract):
                raise
    if as_it_is and isinstance(part, RunsAsItIs):
        return part.contract_as_it_is(Path(description.path), list(inputs) or None, list(outputs) or None)
    if isinstance(part, StatesContract):
        return part.contract(Path(description.path), list(inputs) or None, list(outputs) or None)
    return None


def _choose_signature(description: Description, wanted: str | None) -> Signature:
    by_name = {signature.name: signature for signature in description.signatures}
    if wanted is not None:
        if wanted in by_name:
            return by_name[wanted]
        near = difflib.get_close_matches(wanted, by_name, n=1)
        raise UsageError(
            f"there is no signature '{wanted}'",
            where=description.path,
            hint=f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(sorted(by_name))}",
        )
    if _DEFAULT_SIGNATURE in by_name:
        return by_name[_DEFAULT_SIGNATURE]
    if len(by_name) == 1:
        return description.signatures[0]
    raise UsageError(
        "the model has several signatures and none is the default one",
        where=description.path,
        hint=f"choose one with --signature: {', '.join(sorted(by_name))}",
    )


def _subset(contract: Contract, inputs: Sequence[str], outputs: Sequence[str], as_it_is: bool) -> Contract:
    chosen = contract
    if outputs:
        chosen = dataclasses.replace(
            chosen, outputs=tuple(_named(contract.outputs, name, "--outputs") for name in outputs)
        )
    if inputs:
        picked = tuple(_named(contract.inputs, name, "--inputs") for name in inputs)
        missing = [spec.name for spec in contract.inputs if spec not in picked and not is_switch(spec)]
        if missing:
            raise UsageError(
                f"--inputs leaves out {', '.join(missing)}, which the signature needs",
                hint="name all inputs of the signature; to cut inside the graph, convert its frozen graph",
            )
        return dataclasses.replace(chosen, inputs=picked)
    if as_it_is:
        return chosen
    return dataclasses.replace(chosen, inputs=tuple(s for s in chosen.inputs if not is_switch(s)))


def _has(specs: Sequence[TensorSpec], name: str) -> bool:
    return any(name in (spec.name, spec.tensor) for spec in specs)


def _named(specs: Sequence[TensorSpec], name: str, flag: str) -> TensorSpec:
    for spec in specs:
        if name in (spec.name, spec.tensor):
            return spec
    known = [spec.name for spec in specs]
    near = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        f"{flag}: there is no '{name}'",
        hint=f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(known)}",
    )
