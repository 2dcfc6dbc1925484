"""Which tensors of a graph are its inputs and outputs, where the graph itself does not say.

Candidates are ranked with the evidence for each, and used only where they leave no doubt. What the user
names is looked up, and a name that does not exist is answered with the nearest ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._graph_outputs import ranked_outputs
from edgeconv.formats._graph_pipelines import completed, pipeline_ends
from edgeconv.formats._graph_switches import training_switches
from edgeconv.formats._graph_view import GraphView
from edgeconv.formats.base import Candidate, Contract, TensorSpec

ORDINARY_SCORE = 0.5
"""A candidate from here on is taken; one between this and :data:`RIVAL_SCORE` makes the choice ambiguous."""
RIVAL_SCORE = 0.3
_SHOWN = 8


def candidate_outputs(graph_def: Any) -> tuple[Candidate, ...]:
    """The tensors that may be the outputs of a ``GraphDef``, likeliest first, equals in graph order.

    They are what nothing else takes, without savers, assignments, summaries, losses, metrics and
    optimisers; in a training graph also what only those take.
    """
    return ranked_outputs(GraphView(graph_def))


def candidate_inputs(graph_def: Any) -> tuple[Candidate, ...]:
    """The tensors that may be the inputs of a ``GraphDef``, likeliest first, equals in graph order.

    Placeholders that the likely outputs depend on come first; labels, training switches, placeholders
    that only feed assignments, and queues and iterators, at which a graph can be cut, follow.
    """
    view = GraphView(graph_def)
    likely = [_split(c.tensor.inner_name)[0] for c in ranked_outputs(view) if c.score >= RIVAL_SCORE]
    needed = view.upstream(likely) if likely else set(view.nodes)
    found: list[Candidate] = []
    for name, node in view.nodes.items():
        judged = _judge_input(view, name, name in needed)
        if judged is None:
            continue
        score, evidence = judged
        ports = range(view.output_count(name)) if node.op not in vocabulary.PLACEHOLDER_OPS else range(1)
        specs = [completed(view, view.spec(name, port), name, port) for port in ports]
        found.extend(Candidate("input", spec, node.op, score, evidence) for spec in specs)
    return tuple(sorted(found, key=lambda c: -c.score))


def unambiguous(candidates: Sequence[Candidate]) -> tuple[TensorSpec, ...] | None:
    """The tensors of the ordinary candidates, in the order of the graph; ``None`` where there is doubt.

    There is doubt where no candidate reaches :data:`ORDINARY_SCORE`, and where another one comes near.
    ``candidates`` are those of one role, as :func:`candidate_outputs` gives them.
    """
    if any(RIVAL_SCORE <= c.score < ORDINARY_SCORE for c in candidates):
        return None
    ordinary = [c.tensor for c in candidates if c.score >= ORDINARY_SCORE]
    return tuple(ordinary) or None


def contract_for_graph(
    graph_def: Any,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    *,
    switches: bool = False,
) -> Contract:
    """The contract of a graph: the tensors that the user names, the rest found by looking.

    Args:
        graph_def: a ``GraphDef``.
        inputs: node names or tensor names (``node:port``); an inner tensor cuts the graph there. Where
            ``None``, the placeholders that the outputs depend on, and what queues and iterators give.
            Switches between training and inference are inputs only where they are named.
        outputs: node names or tensor names. Where ``None``, the candidates, if they leave no doubt.
        switches: whether such switches are inputs though nobody names them: for running the graph as it is.

    Returns:
        A contract whose logical names are the node names (with ``:port`` behind port 0) and whose
        ``tensor`` is always ``node:port``.

    Raises:
        UsageError: a name does not exist (says the nearest), the outputs are ambiguous (lists the
            candidates), or an output depends on a placeholder that is not fed, or none on an input.
    """
    view = GraphView(graph_def)
    if not view.nodes:
        raise UsageError("the graph has no nodes", hint="check that this is the model")
    chosen_outputs = _outputs(view, outputs)
    fed = [_resolve(view, name, "--inputs") for name in dict.fromkeys(inputs)] if inputs else []
    needed = view.upstream((name for name, _ in chosen_outputs if (name, 0) not in fed), frozenset(fed))
    if inputs:
        _check_fed(view, fed, needed, chosen_outputs)
    else:
        ends = pipeline_ends(view, chosen_outputs, frozenset())
        for name, port in ends:
            if view.dtype(name, port) == "unknown":
                raise _unknown_pipeline(view, name)
        needed = view.upstream((n for n, port in chosen_outputs if (n, port) not in ends), frozenset(ends))
        fed = [*_placeholders(view, needed, switches), *ends]
        fed.sort(key=lambda tensor: (view.order[tensor[0]], tensor[1]))
    return Contract(
        inputs=tuple(completed(view, view.spec(name, port), name, port) for name, port in dict.fromkeys(fed)),
        outputs=tuple(view.spec(name, port) for name, port in dict.fromkeys(chosen_outputs)),
    )


def _outputs(view: GraphView, named: Sequence[str] | None) -> list[tuple[str, int]]:
    if named:
        return [_resolve(view, name, "--outputs") for name in dict.fromkeys(named)]
    candidates = ranked_outputs(view)
    specs = unambiguous(candidates)
    if specs is None:
        likely = [c for c in candidates if c.score >= RIVAL_SCORE] or list(candidates)
        raise UsageError(
            "it is not clear which tensors are the outputs of this graph"
            if candidates
            else "no tensor of this graph looks like an output",
            why=_listing(likely) if likely else "nothing in it depends on an input",
            hint=f"name them, for example --outputs {likely[0].tensor.name}"
            if likely
            else "name them: --outputs",
        )
    ordered = sorted(specs, key=lambda spec: _position(view, spec))
    return [_split(spec.inner_name) for spec in ordered]


def _check_fed(
    view: GraphView, fed: list[tuple[str, int]], needed: set[str], outputs: list[tuple[str, int]]
) -> None:
    cut = frozenset(fed)
    takers = {name for name, _ in outputs} | needed
    switches = training_switches(view, needed)
    missing = [
        name
        for name in view.nodes
        if name in needed and view.nodes[name].op in ("Placeholder", "PlaceholderV2") and (name, 0) not in cut
        if name not in switches
    ]
    if missing:
        raise UsageError(
            f"the outputs also depend on {_names(missing)}, which --inputs does not name",
            where=missing[0],
            why="a placeholder has no value unless it is fed",
            hint=f"add it to --inputs: {','.join([_join(*tensor) for tensor in fed] + missing)}",
        )
    for name, port in fed:
        used = (name, port) in outputs or any(
            (name, port) in view.data_inputs(taker) for taker in takers if taker in view.nodes
        )
        if not used:
            raise UsageError(
                f"no output depends on the input '{_join(name, port)}'",
                where=_join(name, port),
                hint="leave it out of --inputs, or name the output that needs it",
            )


def _placeholders(view: GraphView, needed: set[str], with_switches: bool) -> list[tuple[str, int]]:
    switches = {} if with_switches else training_switches(view, needed)
    return [
        (name, 0)
        for name, node in view.nodes.items()
        if name in needed and node.op in vocabulary.PLACEHOLDER_OPS
        if name not in switches and not _is_optional(view, name)
    ]


def _unknown_pipeline(view: GraphView, name: str) -> UsageError:
    kind = "a queue" if view.nodes[name].op in vocabulary.QUEUE_OPS else "a dataset iterator"
    return UsageError(
        f"the outputs read their input from {kind} that does not say what it holds",
        where=name,
        why="it would wait for data that nobody delivers",
        hint=f"cut the graph behind it: --inputs TENSOR, where TENSOR takes from {name}",
    )


def _judge_input(view: GraphView, name: str, needed: bool) -> tuple[float, tuple[str, ...]] | None:
    operation = view.nodes[name].op
    if operation in vocabulary.QUEUE_OPS | vocabulary.ITERATOR_OPS:
        reason = "a data pipeline ends here: the graph can be cut"
        return (0.5, (reason,)) if needed else (0.1, (reason, "no likely output depends on it"))
    if operation not in vocabulary.PLACEHOLDER_OPS:
        return None
    evidence = [operation]
    if not needed:
        takers = {view.nodes[taker].op for taker in view.consumers[name]}
        reason = "no likely output depends on it"
        if takers and all(vocabulary.is_bookkeeping(taker) for taker in takers):
            reason = f"feeds only {', '.join(sorted(takers)[:3])}"
        label = vocabulary.is_label(name)
        return 0.1, (*evidence, *(("named like a label",) if label else ()), reason)
    evidence.append("a likely output depends on it")
    if vocabulary.is_training_switch(name):
        return 0.25, (*evidence, "named like a switch between training and inference")
    if _is_optional(view, name):
        return 0.2, (*evidence, "a scalar with a default value")
    if view.shape(name) is None:
        demanded = completed(view, view.spec(name), name, 0).shape is not None
        return 0.8, (
            *evidence,
            "its shape is not stated" + (", but what takes it demands this one" if demanded else ""),
        )
    return 0.9, tuple(evidence)


def _is_optional(view: GraphView, name: str) -> bool:
    node = view.nodes[name]
    if node.op != "PlaceholderWithDefault":
        return False
    return view.shape(name) == () or vocabulary.is_training_switch(name)


def _resolve(view: GraphView, text: str, flag: str) -> tuple[str, int]:
    name, port = _split(text.removeprefix("^"))
    if name not in view.nodes:
        nearest = _nearest(view, name)
        raise UsageError(
            f"the graph has no node '{name}'",
            where=flag,
            why=f"nearest names: {', '.join(nearest)}" if nearest else f"it has {len(view.nodes)} nodes",
            hint=f"try {flag} {nearest[0]}" if nearest else _likely(view, flag),
        )
    count = view.exact_output_count(name)
    if count is not None and port >= count:
        have = "1 output" if count == 1 else f"{count} outputs"
        raise UsageError(
            f"'{name}' ({view.nodes[name].op}) has {have}, so there is no port {port}",
            where=flag,
            hint=f"try {flag} {name}",
        )
    return name, port


def _nearest(view: GraphView, name: str) -> list[str]:
    lowered = name.lower()
    same_leaf = [n for n in view.nodes if n.rpartition("/")[2].lower() == lowered.rpartition("/")[2]]
    containing = [n for n in view.nodes if lowered in n.lower()]
    close = difflib.get_close_matches(name, list(view.nodes)[:20000], n=3, cutoff=0.6)
    return list(dict.fromkeys([*close, *same_leaf[:3], *containing[:3]]))[:5]


def _likely(view: GraphView, flag: str) -> str:
    """What may have been meant where no name is like the one given."""
    candidates = candidate_inputs(view.graph_def) if flag == "--inputs" else candidate_outputs(view.graph_def)
    names = [c.tensor.name for c in candidates if c.score >= RIVAL_SCORE][:_SHOWN]
    rest = "list the candidates with 'edgeconv inspect'"
    return f"likely is {flag} {' or '.join(names)}; {rest}" if names else rest


def _split(text: str) -> tuple[str, int]:
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit():
        return name, int(port)
    return text, 0


def _join(name: str, port: int) -> str:
    return f"{name}:{port}" if port else name


def _position(view: GraphView, spec: TensorSpec) -> tuple[int, int]:
    name, port = _split(spec.inner_name)
    return view.order[name], port


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(f"'{name}'" for name in listed[:_SHOWN])
    return shown + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def _listing(candidates: Sequence[Candidate]) -> str:
    lines = [f"{c.tensor.name} [{c.op}, {c.score:.2f}: {'; '.join(c.evidence)}]" for c in candidates[:_SHOWN]]
    more = len(candidates) - _SHOWN
    return "candidates: " + ", ".join(lines) + (f", and {more} more" if more > 0 else "")
