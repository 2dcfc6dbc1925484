"""What loads an artifact and infers. The verbs are the same for every runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.formats.base import Contract, TensorSpec

Arrays = Mapping[str, Any]
"""Logical tensor name to ``numpy.ndarray``."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Which accelerator ran the ops of an artifact, since one that cannot take an op leaves it to another.

    Attributes:
        asked: ``cpu``, ``xnnpack``, ``cuda``, ``tensorrt``, ``edgetpu``, ``gpu``, or a library.
        ran: accelerator to number of ops, as the runtime divided them after its own optimisation.
        share_of_ops: of those that ran where it was asked, 0 to 1.
        share_of_time: the same of the time of one inference; ``None`` where the runtime does not tell it.
        elsewhere: kinds of the ops that ran elsewhere.
    """

    asked: str
    ran: Mapping[str, int]
    share_of_ops: float
    share_of_time: float | None = None
    elsewhere: tuple[str, ...] = ()

    @property
    def fell_back(self) -> bool:
        """Whether some of it ran elsewhere than asked."""
        return any(count for name, count in self.ran.items() if name != self.asked)


class Session(Protocol):
    """A model that is loaded and stays loaded.

    ``inputs`` and ``outputs`` are in the contract's order, under logical names.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        """Run one inference.

        Args:
            inputs: an array for each input by logical name, with the shape and dtype of its spec
                (stored dtype for quantized inputs).

        Returns:
            An array for each output by logical name, in the contract's order.

        Raises:
            UsageError: an input is missing, unknown, or of the wrong rank or dtype.
            ConversionError: the runtime refused; names the op where the runtime does.
        """
        ...

    def __call__(self, inputs: Arrays) -> dict[str, Any]:
        """The same as :meth:`infer`."""
        return self.infer(inputs)

    def prepare(self, inputs: Arrays) -> Callable[[], object]:
        """Put the inputs where the runtime wants them; what is returned runs one inference on them.

        That is all that :meth:`time` times: what a runtime does not need for an inference is done before. It
        is good until the next call of ``prepare`` or ``infer``. Raises what :meth:`infer` raises.
        """
        return partial(self.infer, inputs)

    def time(self, inputs: Arrays, calls: int) -> Any:
        """Run that many inferences in a row and time each by itself, on a clock that only goes forward.

        Args:
            inputs: as for :meth:`infer`.
            calls: how many, at least 1. The first ones pay for what a runtime does once.

        Returns:
            Nanoseconds of each, in their order: ``numpy.ndarray`` of int64, shape ``(calls,)``.

        Raises:
            UsageError, ConversionError: as :meth:`infer`.
        """
        import numpy

        from edgeconv.agent.measure import samples_of

        if calls < 1:
            raise UsageError(f"{calls} inferences cannot be timed", hint="ask for at least one")
        call = self.prepare(inputs)
        try:
            return numpy.array(samples_of(call, calls), numpy.int64)
        except EdgeconvError:
            raise
        except Exception as error:  # the runtime's own; what would explain it is not called while it is timed
            raise ConversionError("the inference failed", why=str(error)[:500]) from error

    def placement(self, inputs: Arrays) -> Placement | None:
        """Which accelerator runs which part, found by opening the artifact once more and running it.

        Args:
            inputs: as for :meth:`infer`.

        Returns:
            ``None`` where the runtime does not tell.
        """
        return None

    def close(self) -> None:
        """Give the memory back. The session cannot be used after it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class Runtime(Protocol):
    """One runtime. One module of ``edgeconv.runtimes`` each, constant ``RUNTIME``."""

    name: str
    formats: tuple[str, ...]
    """Formats it can open, by registered name."""
    preload: tuple[str, ...]
    """Modules a worker needs, imported once in the process that workers are forked from."""
    tools: tuple[str, ...]
    """Distributions whose versions decide what it computes; part of the cache key."""

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> Session:
        """Load the artifact.

        Args:
            path: file or folder.
            contract: logical names and their tensors; taken from the file where ``None``.
            threads: intra-op threads.
            options: what else is needed to open a source (``model_builder``, ``checkpoint``,
                ``signature``, ``trust``), by the names of the command line.

        Raises:
            InvalidModelError: the file is broken.
            ConversionError: the runtime refuses the model; names the op and the reason.
        """
        ...
