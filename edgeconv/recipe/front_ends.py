"""Whether a model begins with a front end, and what follows from it for a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats._graph_calls import looked_through
from edgeconv.formats._graph_front_ends import FRONT_END_OPS, FrontEnd, find_front_end
from edgeconv.formats._saved_model_files import find_saved_model, read_saved_model
from edgeconv.formats.base import Contract, Description, Shape
from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.formats.saved_model import choose_meta_graph
from edgeconv.front_ends.probes import Maker, text_makers, with_text_shapes
from edgeconv.recipe.contracts import compatible, show_shape
from edgeconv.recipe.request import ConversionRequest

_LONGEST_VOCABULARY = 10_000


@dataclass(frozen=True, slots=True)
class PlannedFrontEnd:
    """A front end that was found.

    Attributes:
        front_end: where the model is cut.
        source: the contract of the source, string inputs and all.
        rest: the contract of what is left behind the cut.
        makers: what makes valid strings for the string inputs.
        cuts: whether the model is cut; not where nothing would be left of it.
    """

    front_end: FrontEnd
    source: Contract
    rest: Contract
    makers: Mapping[str, Maker]
    cuts: bool = True


def plan_front_end(
    request: ConversionRequest, description: Description, contract: Contract
) -> PlannedFrontEnd | None:
    """The front end of the model asked for; ``None`` where it has none, or the user named the inputs.

    Raises:
        UsageError: a shape that was pinned contradicts.
    """
    if request.inputs or not _may_have(description, contract):
        return None
    graph_def, vocabulary = _graph(request, description)
    if graph_def is None:
        return None
    found = find_front_end(graph_def, contract)
    if found is None:
        return None
    whole = looked_through(graph_def)
    if found.whole:
        # Left as it is: a frozen graph holds strings, ONNX some ops on them; the others say that they do not.
        nodes = frozenset(node.name for node in whole.node)
        found = dataclasses.replace(found, inputs=contract.inputs, nodes=nodes)
        source = with_text_shapes(whole, contract, found)
        return PlannedFrontEnd(found, source, source, text_makers(whole, found, vocabulary), cuts=False)
    found = _pinned(found, contract, request.shapes)
    source = with_text_shapes(whole, contract, found)
    stated = {spec.name: spec for spec in source.inputs}
    found = dataclasses.replace(found, inputs=tuple(stated[spec.name] for spec in found.inputs))
    return PlannedFrontEnd(found, source, found.contract(source), text_makers(whole, found, vocabulary))


def _may_have(description: Description, contract: Contract) -> bool:
    if any(spec.dtype == "string" for spec in (*contract.inputs, *contract.outputs)):
        return True
    return not FRONT_END_OPS.isdisjoint(description.ops)


def _graph(request: ConversionRequest, description: Description) -> tuple[Any | None, Sequence[bytes]]:
    """The graph of the model, and the words of the files that belong to it."""
    if description.format == "frozen_graph":
        return read_graph_def(request.model), ()
    if description.format == "saved_model":
        found = find_saved_model(request.model)
        meta = choose_meta_graph(read_saved_model(found), request.tags, where=str(found.proto))
        return meta.graph_def, _vocabulary(found.folder / "assets")
    return None, ()


def _vocabulary(folder: Path) -> list[bytes]:
    words: list[bytes] = []
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if file.is_file() and file.stat().st_size < 1 << 24 and b"\0" not in file.read_bytes()[:4096]:
            lines = file.read_bytes().splitlines()[:_LONGEST_VOCABULARY]
            words += [line.split(b"\t")[0] for line in lines if line]
    return words


def _pinned(found: FrontEnd, contract: Contract, shapes: Mapping[str, Shape]) -> FrontEnd:
    """The front end with the shapes of its cut that the user pinned."""
    cut = []
    for spec in found.cut:
        wanted = shapes.get(spec.name)
        if wanted is not None and not compatible(spec.shape, wanted):
            raise UsageError(
                f"--shape {spec.name}={show_shape(wanted)} contradicts the cut's {show_shape(spec.shape)}",
                hint="keep the rank and the fixed dimensions",
            )
        cut.append(spec if wanted is None else dataclasses.replace(spec, shape=wanted))
    return dataclasses.replace(found, cut=tuple(cut))
