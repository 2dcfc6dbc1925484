"""``edgeconv.load``: an artifact opened in this process, or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import DeviceSession, Wish
from edgeconv.formats.registry import identify
from edgeconv.recipe.beside import contract_beside, is_bare
from edgeconv.recipe.contracts import describe_source, source_contract
from edgeconv.runtimes.base import Session
from edgeconv.runtimes.registry import runtime_for


def load(
    path: Path,
    *,
    device: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    accelerator: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Session:
    """Open an artifact with a runtime of its format, under the contract that it states.

    A graph states none: where edgeconv made it, the manifest beside it does.

    Args:
        path: file or folder.
        device: name of the device; with a ``runtime`` alone it is this machine, without both this process.
        runtime: that opens it there, ``NAME`` or ``NAME==VERSION``.
        threads: intra-op threads.
        accelerator: of the runtime.
        options: what else opening it needs.

    Raises:
        UsageError: the path, a name or an option is wrong.
        UnavailableError: no runtime here opens the format, or the device or its runtime is not here.
        ConversionError: the runtime refuses the model.
    """
    part = identify(path)
    given = dict(options or {})
    inputs, outputs = given.pop("inputs", ()), given.pop("outputs", ())
    contract = contract_beside(path) if not inputs and not outputs and is_bare(part) else None
    contract = contract or source_contract(
        part,
        describe_source(part, path, tags=given.get("tags"), signature=given.get("signature")),
        signature=given.get("signature"),
        inputs=inputs,
        outputs=outputs,
        as_it_is=True,
    )
    if device is None and runtime is None:
        if accelerator is not None:
            given["accelerator"] = accelerator
        return runtime_for(part.name).open(path, contract, threads=threads, options=given)
    wish = Wish(RuntimeChoice.parse(runtime) if runtime is not None else None, threads, accelerator, given)
    return DeviceSession(find_device(device or "local"), path, part.name, contract, wish)
