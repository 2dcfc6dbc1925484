"""``edgeconv.load``: an artifact opened in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.formats.registry import identify
from edgeconv.recipe.beside import contract_beside, is_bare
from edgeconv.recipe.contracts import describe_source, source_contract
from edgeconv.runtimes.base import Session
from edgeconv.runtimes.registry import runtime_for


def load(path: Path, *, threads: int = 1, options: Mapping[str, Any] | None = None) -> Session:
    """Open an artifact with the runtime of its format, under the contract that it states.

    A graph states none: where edgeconv made it, the manifest beside it does.

    Raises:
        UsageError: the path, a name or an option is wrong.
        UnavailableError: no runtime here opens the format.
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
    return runtime_for(part.name).open(path, contract, threads=threads, options=given)
