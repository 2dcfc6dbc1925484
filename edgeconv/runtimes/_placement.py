"""Where the ops of an artifact run, found as the agent finds it on a device, so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.agent.backends.base import Backend
from edgeconv.agent.errors import AgentError
from edgeconv.errors import ConversionError, EdgeconvError, UnavailableError, UsageError
from edgeconv.formats.base import TensorSpec
from edgeconv.runtimes.base import Placement


def placement_of(
    backend: Backend,
    path: Path,
    format_name: str,
    options: Mapping[str, Any],
    inputs: Mapping[str, Any],
    specs: Sequence[TensorSpec],
) -> Placement | None:
    """Open the artifact once more in the agent's back end, run it, and ask where its ops ran.

    Args:
        backend: of the agent, for the same runtime.
        path: the artifact.
        format_name: its format.
        options: ``accelerator``, ``threads`` and what else the back end takes.
        inputs: arrays by logical name.
        specs: of the inputs.

    Raises:
        UnavailableError: the accelerator is not here.
        ConversionError: the runtime refused the model or the inference.
    """
    by_name = {name: inputs[spec.name] for spec in specs for name in (spec.name, spec.inner_name)}
    try:
        model = backend.open(str(path), format_name, dict(options))
        try:
            arrays = [by_name[_known(tensor, by_name)] for tensor in model.inputs]
            found = model.placement(arrays)
        finally:
            model.close()
    except AgentError as error:
        raise of_agent(error, path) from error
    if found is None:
        return None
    return Placement(
        found["asked"],
        dict(found["ran"]),
        float(found["share_of_ops"]),
        found["share_of_time"],
        tuple(found["elsewhere"]),
    )


def of_agent(error: AgentError, path: Path) -> EdgeconvError:
    """An error of the agent as one of ours."""
    kinds: dict[str, type[EdgeconvError]] = {"usage": UsageError, "unavailable": UnavailableError}
    return kinds.get(error.kind, ConversionError)(error.what, where=str(path), hint=error.hint)


def _known(tensor: Mapping[str, Any], by_name: Mapping[str, Any]) -> str:
    names = [str(tensor[key]) for key in ("name", "key", "tensor") if tensor.get(key)]
    return next((name for name in names if name in by_name), names[0])
