"""A switch between training and inference becomes the constant that means inference.

before:  is_training = Placeholder(bool) ─▶ Switch, Merge, If, Select, LogicalAnd …
after:   is_training = Const(False)      ─▶ Switch, Merge, If, Select, LogicalAnd …

What counts as such a switch is a boolean of rank 0 (or a number that is cast to one) that nobody named as
an input: a Placeholder, a PlaceholderWithDefault, or a variable. Its inference value is the one under which
the outputs need less of what only training has (random ops, statistics of the batch, writes to variables).
Where both values need the same, the name decides, if it is one that people give to such switches. Where
neither speaks, or the two contradict each other, it is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._tensor_types import dtype_name
from edgeconv.surgery._liveness import BRANCHES, SELECTS, SWITCHES, Liveness
from edgeconv.surgery._variables import stated_sizes
from edgeconv.surgery.changes import Change, Replaced
from edgeconv.surgery.graph import Graph, full, short

_NAME = "fix_training_switches"
_DTYPES = frozenset({"bool", "uint8", "int8", "int32", "int64"})
_READS = frozenset({"Identity", "ReadVariableOp"})
_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_LOGIC = frozenset(
    {"LogicalAnd", "LogicalOr", "LogicalNot", "Identity", "Cast", "Equal", "NotEqual", "Greater"}
)
_BEFORE_CONDITIONS = frozenset({"ReadVariableOp", "Enter", "RefEnter", "StopGradient", "Squeeze", "Reshape"})
_AMOUNT = re.compile(r"(^|[/_])(keep_?prob|drop|dropout)", re.IGNORECASE)
_INFERENCE_NAME = re.compile(
    r"(^|[/_])(is_?)?(infer(ence|ring)?|test(ing)?(_?(phase|mode))?|eval(uat(ion|e|ing))?|deterministic"
    r"|predict(ion|ing)?)(_?(mode|flag))?(_\d+)?$",
    re.IGNORECASE,
)


def rewrite(graph: Graph) -> list[Change]:
    """Fix each recognised switch to its inference value."""
    changes = []
    for name in sorted(graph.on_path() - set(graph.inputs)):
        node = graph.nodes[name]
        if node.op not in vocabulary.PLACEHOLDER_OPS | _VARIABLES or not _is_flag(node):
            continue
        references = list(_reads(graph, name)) if node.op in _VARIABLES else [name]
        if not references or not _decides(graph, references):
            continue
        value, evidence = _inference_value(graph, name, references)
        if value is not None:
            changes.append(_fix(graph, node, references, value, evidence))
    return changes


def _is_flag(node: Any) -> bool:
    kind = dtype_name(node.attr["dtype"].type % 100)
    # Before version 24 of GraphDefs an empty shape meant an unknown one, so rank 0 and unknown both count.
    sizes = stated_sizes(node) or ()
    # A variable that counts is no flag; only placeholders are known to be fed with numbers for one.
    kinds = _DTYPES if node.op in vocabulary.PLACEHOLDER_OPS else {"bool"}
    return kind in kinds and all(size == 1 for size in sizes)


def _reads(graph: Graph, variable: str) -> Iterator[str]:
    for reader in graph.readers(variable):
        if reader.op in _READS and short(reader.input[0]) == variable:
            yield reader.name


def _decides(graph: Graph, references: list[str]) -> bool:
    """Whether all on the path that read it, through logic, are conditions."""
    path = graph.on_path()
    todo = list(references)
    seen: set[str] = set()
    conditions = 0
    while todo:
        reference = todo.pop()
        if reference in seen:
            continue
        seen.add(reference)
        for reader, index in graph.readers_of(reference):
            if reader.name not in path:
                continue
            if reader.op in SWITCHES:
                conditions += index == 1
                # A condition that is handed into its own branch is the pivot for control inputs there.
                if index == 0:
                    todo.extend((reader.name, f"{reader.name}:1"))
            elif reader.op in SELECTS | BRANCHES and index == 0:
                conditions += 1
            elif reader.op in _LOGIC | _BEFORE_CONDITIONS or reader.op in ("Merge", "Assert", "Exit"):
                todo.append(reader.name)
            elif reader.op in BRANCHES:
                continue  # handed into a branch; what it does there follows from the same value
            else:
                return False
    return conditions > 0


def _inference_value(graph: Graph, name: str, references: list[str]) -> tuple[bool | None, str]:
    """The value that means inference, and the evidence in words; ``None`` where nothing is sure."""
    import numpy

    named: bool | None = None
    if _INFERENCE_NAME.search(name):
        named = True
    elif vocabulary.is_training_switch(name) and not _AMOUNT.search(name):
        named = False
    dtype = dtype_name(graph.nodes[name].attr["dtype"].type % 100)
    # Normal random numbers may be what a switch without a telling name is for: to sample or not.
    marks = {
        value: Liveness(graph, dict.fromkeys(references, numpy.asarray(value, dtype))).training_marks(
            noise=named is not None
        )
        for value in (False, True)
    }
    lesser = None if marks[False] == marks[True] else marks[True] < marks[False]
    if lesser is not None and named is not None and named != lesser:
        return None, ""
    if lesser is not None:
        count = abs(marks[True] - marks[False])
        return (
            lesser,
            f"the other value brings {count} op{'s' if count > 1 else ''} in that only training has",
        )
    return named, "its name says so"


def _fix(graph: Graph, node: Any, references: list[str], value: bool, evidence: str) -> Change:
    import numpy
    import tensorflow as tf

    dtype = tf.as_dtype(node.attr["dtype"].type % 100)
    array = numpy.full(stated_sizes(node) or (), value, dtype.as_numpy_dtype)
    noun = "the variable" if node.op in _VARIABLES else "the placeholder"
    replaced = []
    for reference in references:
        graph.become(graph.nodes[reference], "Const", (), dtype=dtype, value=array)
        attributes = {"value": array.tolist(), "dtype": dtype.name}
        replaced.append(Replaced(full(reference), "constant", (), attributes))
    return Change(
        _NAME,
        f"{noun} '{node.name}' switches between training and inference: fixed to "
        f"{value if dtype == tf.bool else int(value)} ({evidence})",
        tuple(replaced),
    )
