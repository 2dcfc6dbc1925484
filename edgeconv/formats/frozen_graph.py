"""Frozen graphs: a ``GraphDef`` in one file, binary or text, whatever its suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._front_end_findings import front_end_findings
from edgeconv.formats._graph_analysis import constant_weights, producer_era, variables_in
from edgeconv.formats._graph_findings import control_flow, graph_findings
from edgeconv.formats._graph_macs import multiply_accumulates
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._graph_vocabulary import in_training_scope
from edgeconv.formats._model_bytes import read_file
from edgeconv.formats._tensorflow_protos import parse_binary, parse_text, tensorflow_protos
from edgeconv.formats._wire import looks_like_graph_def, text_begins_with
from edgeconv.formats.base import Contract, Description, Finding
from edgeconv.formats.graph_candidates import (
    RIVAL_SCORE,
    candidate_inputs,
    candidate_outputs,
    contract_for_graph,
)

_TEXT_FIELDS = ("node", "versions", "library", "version")
_NEWEST_CONSUMER = 10_000
"""GraphDef versions count days since 2018, so this is far ahead; beyond it lies no file of TensorFlow."""


class FrozenGraph:
    """The format ``frozen_graph``; see :class:`edgeconv.formats.base.Format`."""

    name = "frozen_graph"
    suffix = ".pb"

    def recognise(self, path: Path, head: bytes) -> float:
        """By the first node of the binary form, or the first field of the text form."""
        if not head:
            return 0.0
        if text_begins_with(head, _TEXT_FIELDS):
            return 0.8
        try:
            size = path.stat().st_size
        except OSError:
            return 0.0
        return looks_like_graph_def(head, size)

    def describe(self, path: Path) -> Description:
        """Describe the graph.

        Raises:
            InvalidModelError: truncated, corrupt, or no graph.
        """
        data = read_file(path)
        graph_def, text = parse_graph_def(data, path)
        view = GraphView(graph_def)
        inputs, outputs = candidate_inputs(graph_def), candidate_outputs(graph_def)
        likely = [tensor_node(c.tensor.inner_name)[0] for c in outputs if c.score >= RIVAL_SCORE]
        running = view.upstream(likely) if likely else {n for n in view.nodes if not in_training_scope(n)}
        ordered = [name for name in view.nodes if name in running]
        everything = list(view.all_nodes(view.nodes))
        variables = variables_in(everything)
        sizes = [count for _, count in variables.values()]
        weights = constant_weights(everything)
        return Description(
            format=self.name,
            path=str(path),
            bytes=len(data),
            producer=producer_era(view.producer) if view.producer else None,
            version=f"GraphDef {view.producer}{', text' if text else ''}",
            candidates=(*inputs, *outputs),
            parameters=None if None in sizes else weights + sum(count or 0 for count in sizes),
            macs=multiply_accumulates(view, ordered),
            ops=view.operations(view.nodes),
            metadata={
                "text": text,
                "graph_def_producer": view.producer,
                "min_consumer": int(graph_def.versions.min_consumer),
                "nodes": len(view.nodes),
                "functions": len(view.functions),
                "control_flow": list(control_flow(everything)),
                "variables": sorted(variables),
            },
            findings=(
                *graph_findings(view, ordered, frozen=True),
                *front_end_findings(graph_def),
                *_off_path_variables(variables, running),
            ),
        )

    def contract(self, path: Path, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> Contract:
        """The contract between the tensors named, or the unambiguous candidates where none are.

        Raises:
            UsageError: see :func:`edgeconv.formats.graph_candidates.contract_for_graph`.
            InvalidModelError: truncated, corrupt, no graph, or not frozen: variables whose values are not
                in it lie between the tensors.
        """
        return self._contract(path, inputs, outputs, switches=False)

    def contract_as_it_is(
        self, path: Path, inputs: Sequence[str] | None, outputs: Sequence[str] | None
    ) -> Contract:
        """The same with what switches between training and inference among the inputs."""
        return self._contract(path, inputs, outputs, switches=True)

    def _contract(
        self, path: Path, inputs: Sequence[str] | None, outputs: Sequence[str] | None, *, switches: bool
    ) -> Contract:
        graph_def = read_graph_def(path)
        contract = contract_for_graph(graph_def, inputs, outputs, switches=switches)
        _require_values(GraphView(graph_def), contract, path)
        return contract

    def files(self, path: Path) -> list[Path]:
        """The one file."""
        return [path]


def read_graph_def(path: Path) -> Any:
    """The ``GraphDef`` in the file at ``path``, binary or text.

    Raises:
        InvalidModelError: missing, truncated, corrupt, or no graph.
    """
    return parse_graph_def(read_file(path), path)[0]


def parse_graph_def(data: bytes, path: Path) -> tuple[Any, bool]:
    """The ``GraphDef`` in ``data``, and whether it was text; ``path`` is for messages.

    Raises:
        InvalidModelError: truncated, corrupt, or no graph.
    """
    kind = tensorflow_protos().GraphDef
    text = text_begins_with(data[:4096], _TEXT_FIELDS)
    graph_def = (parse_text if text else parse_binary)(kind, data, path, "graph")
    _check(graph_def, path)
    return graph_def, text


def _check(graph_def: Any, path: Path) -> None:
    if not graph_def.node and not graph_def.library.function:
        raise InvalidModelError(
            "the graph has no nodes",
            where=str(path),
            hint="check that this is the model, and export it again",
        )
    if graph_def.versions.min_consumer > _NEWEST_CONSUMER:
        raise InvalidModelError(
            f"the graph asks for a consumer of version {graph_def.versions.min_consumer}",
            where=str(path),
            why="no release of TensorFlow is that new",
            hint="copy or export the model again",
        )
    names: set[str] = set()
    for node in graph_def.node:
        if not node.name or not node.op:
            raise InvalidModelError(
                "the graph has a node without a name or op",
                where=str(path),
                why="it is truncated or corrupt",
                hint="copy or export the model again",
            )
        if node.name in names:
            raise InvalidModelError(
                f"the graph has two nodes named '{node.name}'", where=str(path), hint="export the model again"
            )
        names.add(node.name)
    for node in graph_def.node:
        for text in node.input:
            source, _ = tensor_node(text)
            if source not in names:
                raise InvalidModelError(
                    f"node '{node.name}' takes '{text}', which the graph does not have",
                    where=str(path),
                    why="it is truncated or corrupt",
                    hint="copy or export the model again",
                )


def _require_values(view: GraphView, contract: Contract, path: Path) -> None:
    """Refuse a graph in which variables, which have no values here, lie between the contract's tensors."""
    fed = frozenset(tensor_node(spec.inner_name) for spec in contract.inputs)
    outputs = [tensor_node(spec.inner_name) for spec in contract.outputs]
    running = view.upstream([name for name, port in outputs if (name, port) not in fed], fed)
    variables = sorted(variables_in(view.all_nodes(n for n in view.nodes if n in running)))
    if not variables:
        return
    more = f" and {len(variables) - 3} more" if len(variables) > 3 else ""
    raise InvalidModelError(
        f"the graph is not frozen: it needs {', '.join(variables[:3])}{more}, whose values are not in it",
        where=str(path),
        why="the values of variables are kept in a checkpoint, beside the graph",
        hint="give the checkpoint that has them: --checkpoint PREFIX; or convert the SavedModel that was "
        "exported with them",
    )


def _off_path_variables(variables: dict[str, tuple[str, int | None]], running: set[str]) -> list[Finding]:
    unused = [name for name in variables if name not in running]
    if not unused or len(unused) < len(variables):
        return []
    return [
        Finding(
            "not-frozen",
            f"{len(unused)} variables are left in the graph, which no likely output depends on: "
            f"{', '.join(sorted(unused)[:5])}",
            where=unused[0],
        )
    ]


FORMAT = FrozenGraph()
