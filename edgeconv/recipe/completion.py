"""A graph in one file and its values in another: which of the two is converted, and what the other one is.

``convert GRAPH --checkpoint VALUES`` and ``convert VALUES --graph GRAPH`` say the same. Values that are
stored by the names of variables are the source of what is made, and the graph is an option: so one arrow
serves metagraphs, GraphDefs and SavedModels alike. Values stored by objects (TensorFlow 2) go into a model.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, Description
from edgeconv.formats.checkpoint import describe_meta_graph, is_by_name
from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.formats.graph_candidates import contract_for_graph
from edgeconv.formats.registry import identify
from edgeconv.recipe.contracts import describe_source, pin_shapes, source_contract
from edgeconv.recipe.request import ConversionRequest
from edgeconv.runtimes._checkpoint_values import StoredValues
from edgeconv.runtimes._trained_graphs import no_graph

_BY_NAME = "tf1-v2"
_WITH_GRAPHS = ("frozen_graph", "saved_model", "checkpoint")


def in_roles(request: ConversionRequest) -> ConversionRequest:
    """The request with the values as the model and the graph as ``graph``, where it names both.

    Raises:
        UsageError: both options are given, or one that the model cannot have.
        InvalidModelError: the checkpoint is missing, truncated or corrupt.
    """
    if request.graph is not None and request.checkpoint is not None:
        raise UsageError(
            "--graph and --checkpoint say the same from two sides",
            hint="write 'convert CHECKPOINT --graph FILE' or 'convert FILE --checkpoint CHECKPOINT'",
        )
    if request.graph is not None:
        values, graph = request.model, request.graph
        if _kind(values) != "checkpoint":
            raise UsageError(
                f"--graph is for a checkpoint, and this is a {_kind(values)} file",
                where=str(values),
                hint="name the checkpoint first: edgeconv convert CHECKPOINT --graph FILE",
            )
    elif request.checkpoint is not None and _kind(request.model) in _WITH_GRAPHS:
        values, graph = request.checkpoint, request.model
    else:
        _check_rules(request)
        return request
    if _kind(graph) == "saved_model" and not is_by_name(values):
        return dataclasses.replace(request, model=graph, checkpoint=values, graph=None)
    return dataclasses.replace(request, model=values, checkpoint=None, graph=graph)


def completed(request: ConversionRequest) -> tuple[Description, Contract | None, str | None]:
    """Description, contract and kind of a request that names a graph, as :func:`in_roles` gave it.

    Raises:
        UsageError: a name that is not in the graph, or an ambiguous choice.
        InvalidModelError: a file is missing, truncated or corrupt.
    """
    assert request.graph is not None
    StoredValues(request.model)  # refuses what is missing or cut off before anything is begun
    part = identify(request.graph)
    if part.name == "frozen_graph":
        description = part.describe(request.graph)
        found = contract_for_graph(
            read_graph_def(request.graph), list(request.inputs) or None, list(request.outputs) or None
        )
        return description, pin_shapes(found, request.shapes), _BY_NAME
    if part.name == "checkpoint":
        description = describe_meta_graph(request.graph)
    elif part.name == "saved_model":
        description = describe_source(part, request.graph, tags=request.tags, signature=request.signature)
    else:
        raise UsageError(
            f"--graph: a {part.name} file has no graph of TensorFlow that values could be put into",
            where=str(request.graph),
            hint="give a .meta file, a GraphDef or a SavedModel",
        )
    contract = source_contract(
        part,
        description,
        signature=request.signature,
        inputs=request.inputs,
        outputs=request.outputs,
        shapes=request.shapes,
    )
    if contract is None:
        raise no_graph(request.graph)
    return description, contract, _BY_NAME


def kind_of(request: ConversionRequest, description: Description) -> str | None:
    """The kind of a model given alone, which decides the arrows that take it.

    Raises:
        UsageError: a checkpoint by names whose graph nobody named.
    """
    kind = description.metadata.get("kind")
    if description.format != "checkpoint" or kind == "tf2-object":
        return kind
    if request.model_builder is not None:
        return "built"  # what the builder builds decides: a graph, or a Keras model
    if description.metadata.get("graph") is None and not _inside_saved_model(description):
        raise no_graph(Path(description.path))
    return kind


def _check_rules(request: ConversionRequest) -> None:
    if not (request.map_variable or request.restore or request.moving_averages):
        return
    if _kind(request.model) == "checkpoint" or request.checkpoint is not None:
        return
    flag = (
        "--map-variable" if request.map_variable else "--restore" if request.restore else "--moving-averages"
    )
    raise UsageError(
        f"{flag} is about the variables of a checkpoint, and none is given",
        where=str(request.model),
        hint="name it with --checkpoint",
    )


def _inside_saved_model(description: Description) -> bool:
    return any(finding.code == "inside-saved-model" for finding in description.findings)


def _kind(path: Path) -> str:
    return identify(path).name
