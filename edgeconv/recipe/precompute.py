"""``edgeconv precompute``: what a part of a model gives for a file of items, computed before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.execution import atomic
from edgeconv.execution.cache import tool_version
from edgeconv.execution.events import Listener
from edgeconv.execution.manifest import FILE_NAME, Manifest, SourceRecord
from edgeconv.execution.publish import host_facts
from edgeconv.formats.base import to_json
from edgeconv.formats.registry import file_sha256, identify, sha256_of
from edgeconv.recipe.beside import contract_beside
from edgeconv.recipe.contracts import describe_source, source_contract
from edgeconv.recipe.workbench import SurgeryRequest, Workbench, at_work, scratch_folder
from edgeconv.runtimes.registry import runtime_for


def precompute(request: SurgeryRequest, batch: int, listener: Listener) -> tuple[Manifest, list[Path]]:
    """Run a part over the items in ``request.data`` and keep what it gives.

    Args:
        request: the call; ``output`` ends in ``.npy`` where the part has one output, and is a folder with an
            ``.npy`` for each otherwise.
        batch: items at a time, where the part does not fix it.
        listener: is told of each step.

    Returns:
        The manifest, with ``results`` and how they were checked, and the files.

    Raises:
        UsageError: the items do not fit the part.
        ConversionError: the part could not be run, or mixes the items of a batch.
    """
    data = request.data
    if data is None:
        raise UsageError("no items are given", hint="say which: --data items.npz")
    if not data.exists():
        raise UsageError("no such file or folder", where=str(data), hint="check the path")
    part = identify(request.model)
    contract = contract_beside(request.model) or source_contract(
        part,
        describe_source(part, request.model, tags=request.tags, signature=request.signature),
        signature=request.signature,
        inputs=request.inputs,
        outputs=request.outputs,
        shapes=request.shapes,
    )
    runtime = runtime_for(part.name)
    target = request.output or Path(f"{data.stem}.npy")
    options: dict[str, Any] = {"trust": True} if request.trust else {}
    if contract is not None and contract.signature:
        options["signature"] = contract.signature
    with scratch_folder() as scratch:
        results = scratch / "results"
        results.mkdir()

        async def work(bench: Workbench) -> Any:
            payload = {
                "artifact": {
                    "path": str(request.model.absolute()),
                    "format": part.name,
                    "contract": to_json(contract),
                },
                "runtime": runtime.name,
                "options": options,
                "data": str(data.absolute()),
                "folder": str(results),
                "batch": batch,
            }
            call = "edgeconv.comparison.precomputing:precompute"
            return (await bench.run("items", "precompute", call, payload, runtime.preload)).value

        told = at_work(request, scratch, listener, work)
        single = target.suffix == ".npy"
        if single and len(told["outputs"]) > 1:
            names = ", ".join(f"'{output['name']}'" for output in told["outputs"])
            raise UsageError(f"the part has several outputs: {names}", hint="name a folder with -o")
        folder = target.parent if single else target
        atomic.make_writable_folder(folder)
        files, kept = [], []
        with atomic.explained_disk_errors(folder):
            for output in told["outputs"]:
                path = target if single else folder / f"{_safe(output['name'])}.npy"
                atomic.copy_into_place(results / output["file"], path)
                files.append(path)
                fresh = {"path": path.name, "sha256": file_sha256(path)}
                kept.append({**{k: output[k] for k in ("name", "dtype", "shape")}, **fresh})
            manifest = Manifest.model_validate(
                {
                    "source": SourceRecord(
                        path=str(request.model.absolute()),
                        format=part.name,
                        sha256=sha256_of(request.model, part),
                        contract=to_json(contract),
                    ),
                    "tools": {tool: tool_version(tool) for tool in ("edgeconv", *runtime.tools)},
                    "host": host_facts(),
                    "data": str(data.absolute()),
                    "results": kept,
                    **{name: told[name] for name in ("items", "batch", "checked", "difference")},
                }
            )
            where = target.with_name(f"{target.name}.{FILE_NAME}") if single else folder / FILE_NAME
            atomic.write_text(where, manifest.model_dump_json(by_alias=True, indent=1) + "\n")
    return manifest, files


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip(".") or "output"
