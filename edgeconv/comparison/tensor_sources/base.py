"""What locating a divergence needs of a format: its inner tensors, in order, and their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract
from edgeconv.registry import discover

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class InnerTensor:
    """A tensor that an op computes.

    Attributes:
        name: unique within its source.
        op: name of the op that computes it; its first output where the format has no op names.
        op_type: as the format calls it (``Conv2D``, ``CONV_2D``, ``Conv``).
        inputs: names of the tensors that the op reads, constants left out; model inputs among them.
        aliases: other names it goes by (TFLite keeps the names of all fused ops).
    """

    name: str
    op: str
    op_type: str
    inputs: tuple[str, ...]
    aliases: tuple[str, ...] = ()


class TensorSource(Protocol):
    """A model opened for looking inside.

    Attributes:
        tensors: what its ops compute, in an order they can run in.
        inputs: inner name of each input by logical name.
        outputs: inner name of each output by logical name.
        can_rerun: whether :meth:`rerun` works.
    """

    tensors: tuple[InnerTensor, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    can_rerun: bool

    def values(self, names: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Real values of inner tensors.

        Args:
            names: inner names; one that this run does not compute is left out of the answer.
            inputs: by logical name, in stored dtype.
        """
        ...

    def rerun(self, name: str, feeds: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array | None:
        """The tensor ``name`` when inner tensors are replaced by ``feeds``; ``None`` if it cannot be had.

        Args:
            name: inner name.
            feeds: real values by inner name.
            inputs: by logical name, for what ``feeds`` do not decide.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceKind:
    """How models of some formats are opened for looking inside."""

    formats: tuple[str, ...]
    open: Callable[[Path, Contract], TensorSource]


@cache
def source_kinds() -> dict[str, SourceKind]:
    """Known kinds by format."""
    found = discover("edgeconv.comparison.tensor_sources", "SOURCE")
    return {name: part for part in found if isinstance(part, SourceKind) for name in part.formats}


def open_source(path: Path, format_name: str, contract: Contract) -> TensorSource:
    """Open a model for looking inside.

    Raises:
        UsageError: the inner tensors of this format cannot be seen.
    """
    kind = source_kinds().get(format_name)
    if kind is None:
        raise UsageError(
            f"the tensors inside a {format_name} cannot be seen",
            where=str(path),
            hint=f"compare what it was made from, or made into: {', '.join(sorted(source_kinds()))}",
        )
    return kind.open(path, contract)
