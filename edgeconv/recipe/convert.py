"""``edgeconv convert``: from a request to artifacts and their manifest."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ExitCode, UsageError
from edgeconv.execution.cache import Cache
from edgeconv.execution.events import Listener
from edgeconv.execution.manifest import FILE_NAME, Manifest
from edgeconv.execution.plan import FrontEndPlan, Plan
from edgeconv.execution.publish import Publisher
from edgeconv.execution.run import Run
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats._graph_index_ranges import index_ranges
from edgeconv.formats.base import Artifact, Contract, Description
from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.formats.registry import identify, sha256_of
from edgeconv.paths import cache_folder
from edgeconv.recipe.back_ends import cut_off, supply
from edgeconv.recipe.completion import completed, in_roles, kind_of
from edgeconv.recipe.contracts import describe_source, require_ranks, source_contract
from edgeconv.recipe.cut_detectors import cut_by_structure, cut_where_refused, is_cut_by_structure
from edgeconv.recipe.detection import looked_at
from edgeconv.recipe.fingerprints import option_sha256
from edgeconv.recipe.for_targets import (
    chosen_for,
    fits_nowhere,
    opset_for,
    pinned_shapes,
    places_of,
    runs_on,
    with_checks,
)
from edgeconv.recipe.front_ends import plan_front_end
from edgeconv.recipe.inputs import InputMaker, gate_tolerances
from edgeconv.recipe.loop import run_in_own_loop
from edgeconv.recipe.planning import default_targets, plan_nodes, reachable_from
from edgeconv.recipe.preloading import worker_modules
from edgeconv.recipe.request import ConversionRequest
from edgeconv.runtimes.registry import runtime_for
from edgeconv.targets.loading import Place

OF_TRAINING = frozenset(
    {"training-batch-norm", "live-dropout", "random-op", "training-switch", "queue-input", "iterator-input"}
)
"""Findings of graphs whose reference is not the graph as it stands."""


def make_plan(request: ConversionRequest, inputs_folder: Path) -> Plan:
    """Look at the model and decide what to make by which arrows.

    Args:
        request: what was asked for.
        inputs_folder: where probes and calibration samples are kept; it must outlive the run, and
            should outlive it longer, so that a failed step can be repeated.

    Raises:
        UsageError: the model, a name, a shape or a target is wrong.
    """
    request, back_end = in_roles(request), None
    places = places_of(request)
    part = identify(request.model)
    if request.graph is not None:
        description, contract, kind = completed(request)
    else:
        description = describe_source(part, request.model, tags=request.tags, signature=request.signature)
        kind = kind_of(request, description)
        request, back_end = cut_off(request, part, description)
        contract = source_contract(
            part,
            description,
            signature=request.signature,
            inputs=request.inputs,
            outputs=request.outputs,
            shapes=request.shapes,
        )
        if fixed := pinned_shapes(places, contract):
            request = dataclasses.replace(request, shapes={**request.shapes, **fixed})
            contract = source_contract(
                part,
                description,
                signature=request.signature,
                inputs=request.inputs,
                outputs=request.outputs,
                shapes=request.shapes,
            )
    detector = looked_at(request, description, contract, kind)
    contract, kind = detector.contract, detector.kind
    begins = plan_front_end(request, description, contract) if contract is not None else None
    left_out: tuple[str, ...] = ()
    if begins is not None and begins.cuts and not begins.front_end.cut:
        # Only what comes out as text is left out. The source is run without it too: where a graph was frozen,
        # the tables that such texts come from are often empty.
        contract, left_out, begins = begins.rest, begins.front_end.said(), None
    if begins is not None:
        contract = begins.source
        require_ranks(begins.rest)
    inputs = InputMaker(request, inputs_folder, begins, _index_ranges(request, description, contract))
    if contract is not None:
        require_ranks(contract)
        inputs.check(contract)
    precision = str(description.metadata.get("precision", "fp32"))
    source = Artifact(
        request.model.absolute(), part.name, precision, sha256_of(request.model, part), contract
    )
    place = (part.name, precision)
    targets, why_not = request.to, tuple[str, ...]()
    if not targets and places:
        chosen = chosen_for(places, reachable_from(place, kind), calibrated=request.calibration is not None)
        targets, why_not = chosen.targets, chosen.notes
        if not targets:
            names = ", ".join(each.name for each in places)
            raise UsageError(f"nothing that runs on {names} can be made of {precision} {part.name}")
    targets = targets or default_targets(place, kind)
    if not targets:
        raise UsageError(
            f"nothing can be made of {precision} {part.name} by default", hint="say what with --to"
        )
    options = {**_options(request, contract.signature if contract else None), **detector.options}
    of_arrows = {**options, "runs_on": runs_on(places), **_opset(request, places)}
    return Plan(
        source=source,
        nodes=plan_nodes(place, targets, of_arrows, gate_tolerances(request.tolerance), kind),
        wanted=tuple(target.id for target in targets),
        open_options=options,
        option_sha256=option_sha256(options),
        probes=inputs.probes,
        calibration=inputs.calibration,
        front_end=None
        if begins is None or not begins.cuts
        else FrontEndPlan(begins.front_end, begins.rest, inputs.before_front_end, model_name(request.model)),
        back_end=back_end,
        notes=(*detector.notes, *left_out, *why_not),
        observe_early=not {finding.code for finding in description.findings} & OF_TRAINING,
    )


def _index_ranges(
    request: ConversionRequest, description: Description, contract: Contract | None
) -> dict[str, list[float]]:
    """What inputs that are indices can carry, where the model is a graph that tells."""
    indices = contract is not None and any(spec.dtype in ("int32", "int64") for spec in contract.inputs)
    if contract is None or not indices or description.format != "frozen_graph":
        return {}
    return index_ranges(read_graph_def(request.model), contract)


def convert(request: ConversionRequest, listener: Listener) -> tuple[Manifest, Path]:
    """Convert and prove; artifacts and manifest are in the folder returned, whatever failed.

    Returns:
        The manifest of this run, and the output folder.

    Raises:
        UsageError: nothing was begun because the request is wrong.
    """
    places_of(request)  # a name that is wrong is told before anything is looked at
    if is_cut_by_structure(request):
        return cut_by_structure(request, listener, convert_whole, carry_out)
    manifest, folder = convert_whole(request, listener)
    return cut_where_refused(request, manifest, folder, listener, convert_whole, carry_out), folder


def convert_whole(request: ConversionRequest, listener: Listener) -> tuple[Manifest, Path]:
    """As :func:`convert`, with nothing cut off but what the request itself tells."""
    part = identify(request.model)
    return carry_out(request, listener, lambda inputs: make_plan(request, inputs), part.name)


def _opset(request: ConversionRequest, places: Sequence[Place]) -> dict[str, int]:
    """What the arrows to ONNX are told of the opset; what the user says comes before what targets take."""
    return opset_for(places) if request.opset is None else {"opset": request.opset}


def carry_out(
    request: ConversionRequest, listener: Listener, plan_with: Callable[[Path], Plan], source_format: str
) -> tuple[Manifest, Path]:
    """Make a plan, given the folder for inputs, and carry it out into the folder of the request.

    Returns:
        The manifest of this run, and the output folder.
    """
    name = model_name(request.model)
    folder = request.output or Path(f"{name}.edgeconv")
    places = places_of(request)
    with _cache(request) as cache:

        async def work() -> Manifest:
            async with WorkerPool(jobs=request.jobs, limits=request.limits) as pool:
                if not (folder / FILE_NAME).exists():
                    # Most likely there is work to do: TensorFlow is imported while the plan is made.
                    pool.warm(worker_modules(runtime_for(source_format).preload))
                plan = await asyncio.to_thread(plan_with, cache.inputs)
                publisher = Publisher(folder, name, plan)
                manifest = await _carry_out(plan, publisher, cache, pool, listener)
                manifest = await supply(plan, folder, name, pool, manifest)
                return with_checks(manifest, folder, plan.wanted, places)

        return run_in_own_loop(work), folder


def exit_code(manifest: Manifest) -> ExitCode:
    """What the command line exits with: 5 where a conversion failed, 4 a device, 1 a gate or a check."""
    made = {artifact.id for artifact in manifest.artifacts}
    if any(failure.artifact not in made for failure in manifest.failures):
        return ExitCode.CONVERSION_FAILED
    if any(failure.device is not None for failure in manifest.failures):
        return ExitCode.UNAVAILABLE
    wrong = manifest.front_end is not None and manifest.front_end.gate.verdict == "fail"
    wrong = wrong or (manifest.back_end is not None and not manifest.back_end.passed)
    if wrong or any(a.gate.verdict != "pass" for a in manifest.artifacts) or fits_nowhere(manifest.artifacts):
        return ExitCode.VERDICT_FAILED
    if any(gate.verdict != "pass" for a in manifest.artifacts for gate in a.device_gates):
        return ExitCode.VERDICT_FAILED
    return ExitCode.OK


def model_name(model: Path) -> str:
    """The name of a model, from its file or folder, safe in file names and shells.

    >>> model_name(Path("models/My Net.v2.keras"))
    'My-Net.v2'
    """
    path = model.absolute()
    if path.name == "saved_model.pb" or re.fullmatch(r"\d+", path.name):
        path = path.parent  # the folder says more than the fixed name or the version number
    stem = path.name if path.is_dir() else path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "model"


async def _carry_out(
    plan: Plan, publisher: Publisher, cache: Cache, pool: WorkerPool, listener: Listener
) -> Manifest:
    run = Run(plan, cache, pool, listener, publisher.publish)
    try:
        await run.execute()
    finally:
        # Also after an interrupt or a defect: what was finished stays, and is said to be there.
        publisher.publish_front_end(run.front_end())
        manifest = publisher.finish(run.failures, run.source_gate())
    return manifest


@contextlib.contextmanager
def _cache(request: ConversionRequest) -> Iterator[Cache]:
    if request.use_cache:
        yield Cache(cache_folder())
    else:
        with tempfile.TemporaryDirectory(prefix="edgeconv-") as own:
            yield Cache(Path(own))


def _options(request: ConversionRequest, signature: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "signature": signature or request.signature,
        "tags": list(request.tags) if request.tags is not None else None,
        "trust": True if request.trust else None,
        "checkpoint": str(request.checkpoint.absolute()) if request.checkpoint else None,
        "graph": str(request.graph.absolute()) if request.graph else None,
        "map_variable": list(request.map_variable) or None,
        "restore": list(request.restore) or None,
        "moving_averages": True if request.moving_averages else None,
        "model_builder": request.model_builder,
        "keep_weights": True if request.keep_weights else None,
        "custom_objects": request.custom_objects,
        "config": str(request.config.absolute()) if request.config else None,
        "keras_backend": request.keras_backend,
    }
    return {name: value for name, value in options.items() if value is not None}
