"""Which stored value belongs to which variable of a graph: by the graph's own restore ops, else by name.

Nothing is guessed: a variable without a value of its shape is an error that shows what the graph needs, what
the checkpoint has left over, and which names are near.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Shape
from edgeconv.formats.checkpoint import SHADOW
from edgeconv.formats.graph_reading import split_reference

_ASSIGNS = ("Assign", "AssignVariableOp")
_RESTORES = ("RestoreV2", "Restore", "RestoreSlice")
_PASSING = ("Identity", "IdentityN", "RefIdentity", "StopGradient", "Enter")
_SHOWN = 6
_NEAR = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A variable of the graph: its name, alternative names, shape (``None``: not stated) and dtype."""

    name: str
    shape: Shape | None
    dtype: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the value of a variable lies.

    Attributes:
        keys: one key of the checkpoint, or those of the parts in their order.
        axis: dimension along which parts are put together.
        extent: the part of the stored value that this is, as shape-and-slice texts have it
            (``10 4 0,5:-``: rows 0 to 4 of 10); empty for the whole.
    """

    keys: tuple[str, ...]
    axis: int = 0
    extent: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user says about names.

    Attributes:
        renames: pairs of a regular expression and its replacement, on the graph's names of variables.
        only: regular expressions; a variable that none matches keeps the value it has. Empty: all.
        moving_averages: whether the moving average of a variable takes its place.
    """

    renames: tuple[tuple[str, str], ...] = ()
    only: tuple[str, ...] = ()
    moving_averages: bool = False

    @property
    def plain(self) -> bool:
        """Whether the checkpoint is to be restored as it was saved."""
        return not (self.renames or self.only or self.moving_averages)

    def takes(self, name: str) -> bool:
        """Whether the checkpoint's value is wanted for the variable of that name."""
        return not self.only or any(compiled(pattern).search(name) for pattern in self.only)

    def renamed(self, name: str) -> str:
        """The name that the variable has in the checkpoint.

        Raises:
            UsageError: a replacement does not fit its pattern.
        """
        for pattern, replacement in self.renames:
            name = _substituted(pattern, replacement, name)
        return name


@dataclass(slots=True)
class Matched:
    """What :func:`match` found: values by variable, variables that keep their own, and what to tell."""

    stored: dict[str, Stored] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def restored_by_graph(graph_def: Any, restore: str) -> dict[str, Stored]:
    """Variable to stored value, as the restore ops below the node ``restore`` say it.

    They are of any age: ``RestoreV2`` gives many values at once, ``Restore`` and ``RestoreSlice`` one each.
    Where ``restore`` is empty, as for a GraphDef, whose saver nobody knows, all restore ops of the graph
    count, without what two of them say differently.
    """
    nodes = {node.name: node for node in graph_def.node}
    found: dict[str, Stored] = {}
    doubted: set[str] = set()
    # One list names all variables, and is long.
    strings = cache(lambda reference: _strings(nodes, reference))
    for name in _upstream(nodes, restore) if restore else nodes:
        node = nodes[name]
        if node.op not in _ASSIGNS or len(node.input) < 2:
            continue
        variable, _ = _origin(nodes, node.input[0])
        source, port = _origin(nodes, node.input[1])
        if source not in nodes or nodes[source].op not in _RESTORES:
            continue
        inputs = [reference for reference in nodes[source].input if not reference.startswith("^")]
        keys = strings(inputs[1])
        slices = strings(inputs[2]) if len(inputs) > 2 else None
        if keys is not None and port < len(keys):
            extent = slices[port] if slices is not None and port < len(slices) else ""
            value = Stored((keys[port],), extent=extent)
            if found.setdefault(variable, value) != value:
                doubted.add(variable)
    return {variable: value for variable, value in found.items() if variable not in doubted}


def match(
    wanted: Sequence[Wanted],
    stored: Mapping[str, tuple[Shape, str]],
    restored: Mapping[str, Stored],
    rules: Rules,
    *,
    where: str,
    kept_values: bool = False,
) -> Matched:
    """Find the value of every variable.

    Args:
        wanted: variables that inference needs.
        stored: key of the checkpoint to shape and dtype.
        restored: what :func:`restored_by_graph` found.
        rules: of the user.
        where: the checkpoint, for errors.
        kept_values: whether variables that ``rules.only`` leaves out have values elsewhere.

    Raises:
        UsageError: a rule that is no regular expression, or that matches nothing.
        ConversionError: a variable has no value, or one of another shape; with the nearest names.
    """
    result = Matched()
    missing: list[Wanted] = []
    misfits: list[tuple[Wanted, str]] = []
    renamed: Counter[str] = Counter()
    shadowed: list[str] = []
    for variable in wanted:
        if not rules.takes(variable.name):
            result.kept.append(variable.name)
            continue
        names = _names(variable, rules, renamed)
        options = [Stored((name,)) for name in names]
        by_graph = restored.get(variable.name)
        if by_graph is not None and names[0] == variable.name:
            options.insert(0, by_graph)
        if rules.moving_averages:
            averaged = [Stored((o.keys[0] + SHADOW,), extent=o.extent) for o in options]
            options = [*averaged, *options]
        options += [parts for name in names if (parts := _parts(variable, name, stored)) is not None]
        there = [o for o in options if all(key in stored for key in o.keys)]
        fitting = [o for o in there if _fits(variable, o, stored)]
        if fitting:
            result.stored[variable.name] = fitting[0]
            if rules.moving_averages and fitting[0].keys[0].endswith(SHADOW):
                shadowed.append(variable.name)
        elif there:
            misfits.append((variable, there[0].keys[0]))
        else:
            missing.append(variable)
    if missing or misfits:
        raise _mismatch(wanted, missing, misfits, stored, result, rules, where)
    _check_rules(rules, renamed, shadowed, result, where)
    _tell(result, rules, shadowed, wanted, stored)
    if result.kept and not kept_values:
        result.notes.append(f"{len(result.kept)} variables keep the value that the graph begins with")
    return result


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression of the user's.

    Raises:
        UsageError: it is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"'{pattern}' is no regular expression", why=str(error), hint="write it as Python's re takes it"
        ) from error


def parse_renames(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    r"""Read ``--map-variable PATTERN=REPLACEMENT``.

    >>> parse_renames(["^net/=model/net/"])
    (('^net/', 'model/net/'),)

    Raises:
        UsageError: not of that form, or no regular expression.
    """
    pairs = []
    for text in texts:
        pattern, equals, replacement = text.partition("=")
        if not equals or not pattern:
            raise UsageError(
                f"'{text}' is no renaming of variables",
                hint="write it PATTERN=REPLACEMENT, for example --map-variable '^net/=model/net/'",
            )
        compiled(pattern)
        pairs.append((pattern, replacement))
    return tuple(pairs)


def bounds(extent: str) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """The whole shape and the slices of a shape-and-slice text.

    >>> bounds("10 4 0,5:-")
    ((10, 4), (slice(0, 5, None), slice(None, None, None)))

    Raises:
        ValueError: it is none.
    """
    *sizes, text = extent.split(" ")
    slices = []
    for part in text.split(":") if text else []:
        if part == "-":
            slices.append(slice(None))
        else:
            start, length = map(int, part.split(","))
            slices.append(slice(start, start + length))
    shape = tuple(map(int, sizes))
    if len(shape) != len(slices):
        raise ValueError(extent)
    return shape, tuple(slices)


def _names(variable: Wanted, rules: Rules, renamed: Counter[str]) -> list[str]:
    """The names that a variable may have in the checkpoint, the likeliest first."""
    name = variable.name
    for pattern, replacement in rules.renames:
        fresh = _substituted(pattern, replacement, name)
        renamed[pattern] += fresh != name
        name = fresh
    return [name] if name != variable.name else list(dict.fromkeys((variable.name, *variable.aliases)))


def _substituted(pattern: str, replacement: str, name: str) -> str:
    try:
        return compiled(pattern).sub(replacement, name)
    except (re.error, IndexError) as error:
        raise UsageError(
            f"'{replacement}' is no replacement for '{pattern}'",
            why=str(error),
            hint=r"groups are \1, \2 …, as Python's re.sub takes them",
        ) from error


def _parts(variable: Wanted, name: str, stored: Mapping[str, tuple[Shape, str]]) -> Stored | None:
    """The parts ``name/part_0``, ``name/part_1`` … of a variable that was saved in parts."""
    keys: list[str] = []
    while (key := f"{name}/part_{len(keys)}") in stored:
        keys.append(key)
    if not keys:
        return None
    shapes = [stored[key][0] for key in keys]
    differing = [axis for axis in range(len(shapes[0])) if len({s[axis : axis + 1] for s in shapes}) > 1]
    if len(differing) > 1 or len({len(shape) for shape in shapes}) > 1:
        return None
    if differing:
        return Stored(tuple(keys), axis=differing[0])
    for axis, size in enumerate(variable.shape or shapes[0]):
        if axis < len(shapes[0]) and size == (shapes[0][axis] or 0) * len(keys):
            return Stored(tuple(keys), axis=axis)
    return Stored(tuple(keys))


def _fits(variable: Wanted, option: Stored, stored: Mapping[str, tuple[Shape, str]]) -> bool:
    shape, dtype = stored[option.keys[0]]
    if dtype != variable.dtype:
        return False
    if len(option.keys) > 1:
        total = sum(stored[key][0][option.axis] or 0 for key in option.keys) if shape else 0
        shape = (*shape[: option.axis], total, *shape[option.axis + 1 :])
    if option.extent:
        try:
            whole, slices = bounds(option.extent)
        except ValueError:
            return False
        if whole != shape:
            return False
        shape = tuple(len(range(*part.indices(size))) for part, size in zip(slices, whole, strict=True))
    if variable.shape is None:
        return True
    return len(shape) == len(variable.shape) and all(
        want in (None, have) for want, have in zip(variable.shape, shape, strict=True)
    )


def _check_rules(
    rules: Rules, renamed: Counter[str], shadowed: list[str], result: Matched, where: str
) -> None:
    for pattern, _ in rules.renames:
        if not renamed[pattern]:
            raise UsageError(
                f"--map-variable: '{pattern}' changes no name of a variable that inference needs",
                hint="the pattern is looked for in the graph's names; inspect lists the checkpoint's",
            )
    if rules.only and not result.stored:
        raise UsageError(
            f"--restore: no variable that inference needs matches {' or '.join(map(repr, rules.only))}",
            why=f"they are called {_some(result.kept)}",
            hint="the pattern is a regular expression that is looked for in the graph's names of variables",
        )
    if rules.moving_averages and not shadowed:
        raise UsageError(
            "--moving-averages: the checkpoint has none of the variables that inference needs",
            where=where,
            why=f"no name ends in '{SHADOW}'",
            hint="leave the option out",
        )


def _tell(
    result: Matched,
    rules: Rules,
    shadowed: list[str],
    wanted: Sequence[Wanted],
    stored: Mapping[str, tuple[Shape, str]],
) -> None:
    if rules.moving_averages:
        own = [name for name in result.stored if name not in shadowed]
        result.notes.append(
            f"{len(shadowed)} variables have the moving average of their values"
            + (f"; {len(own)} have none and keep their own: {_some(own)}" if own else "")
        )
    else:
        having = [name for name, value in result.stored.items() if f"{value.keys[0]}{SHADOW}" in stored]
        if having:
            result.notes.append(
                f"the checkpoint also has moving averages of {len(having)} variables ({_some(having)}), "
                "which are not used: --moving-averages takes them"
            )
    if rules.only:
        result.notes.append(
            f"{len(result.stored)} of {len(wanted)} variables are restored from the checkpoint: "
            f"{_some(list(result.stored))}"
        )


def _mismatch(
    wanted: Sequence[Wanted],
    missing: Sequence[Wanted],
    misfits: Sequence[tuple[Wanted, str]],
    stored: Mapping[str, tuple[Shape, str]],
    result: Matched,
    rules: Rules,
    where: str,
) -> ConversionError:
    used = {key for value in result.stored.values() for key in value.keys}
    left = {key: value for key, value in stored.items() if key not in used}
    reasons = []
    if missing:
        lines = []
        for variable in missing[:_SHOWN]:
            near = _nearest(variable, left)
            text = f"{variable.name} {_shape(variable.shape)}"
            lines.append(text + (f" (nearest: {', '.join(near)})" if near else ""))
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        reasons.append(f"the checkpoint lacks {', '.join(lines)}{more}")
    if misfits:
        lines = []
        for variable, key in misfits[:_SHOWN]:
            shape, dtype = stored[key]
            kind = f" {dtype}" if dtype != variable.dtype else ""
            lines.append(f"{variable.name} is {_shape(variable.shape)}, stored is {_shape(shape)}{kind}")
        reasons.append(f"of another shape or type: {', '.join(lines)}")
    weights = [key for key in left if not _of_training(key)]
    if weights:
        listed = ", ".join(f"{key} {_shape(stored[key][0])}" for key in weights[:_SHOWN])
        reasons.append(f"left over in the checkpoint: {listed}{' …' if len(weights) > _SHOWN else ''}")
    rule = _rule(missing, left) if missing and not rules.renames else None
    if rule is not None:
        hint = f"add --map-variable '{rule}'"
    elif missing and len(missing) + len(misfits) < len(wanted):
        hint = (
            "give the checkpoint that was saved with this graph, rename with --map-variable "
            "PATTERN=REPLACEMENT, or restore a part with --restore PATTERN"
        )
    else:
        hint = (
            "give the checkpoint that was saved with this graph, or the graph of this checkpoint; names that "
            "differ are mapped with --map-variable PATTERN=REPLACEMENT"
        )
    count = len(missing) + len(misfits)
    return ConversionError(
        f"graph and checkpoint do not fit: {count} of {len(wanted)} variables get no value",
        where=where,
        why="; ".join(reasons),
        hint=hint,
    )


def _nearest(variable: Wanted, left: Mapping[str, tuple[Shape, str]]) -> list[str]:
    """Names of what is left over that may be meant: of the same shape first, then alike in name."""
    same = [key for key, (shape, _) in left.items() if shape == variable.shape and not _of_training(key)]
    tail = variable.name.rpartition("/")[2]
    ending = [key for key in same if key.rpartition("/")[2] == tail]
    close = difflib.get_close_matches(variable.name, ending or same or list(left), n=2, cutoff=_NEAR)
    return close or ending[:1] or same[:1]


def _rule(missing: Sequence[Wanted], left: Mapping[str, tuple[Shape, str]]) -> str | None:
    """A renaming of one prefix that gives every missing variable a value of its shape."""
    tried: set[tuple[str, str]] = set()
    first = missing[0]
    parts = first.name.split("/")
    for cut in range(len(parts)):
        tail = "/".join(parts[cut:])
        for key, (shape, _) in left.items():
            if shape != first.shape or not (key == tail or key.endswith(f"/{tail}")):
                continue
            old, new = first.name[: len(first.name) - len(tail)], key[: len(key) - len(tail)]
            if (old, new) in tried:
                continue
            tried.add((old, new))
            if all(
                v.name.startswith(old) and left.get(new + v.name[len(old) :], (None, ""))[0] == v.shape
                for v in missing
            ):
                return f"^{re.escape(old)}={new}"
    return None


def _of_training(key: str) -> bool:
    words = ("/Adam", "/Momentum", "/RMSProp", "/Adagrad", "/Ftrl", SHADOW, "_power", "global_step")
    return any(word in key for word in words)


def _shape(shape: Shape | None) -> str:
    return (
        "[unknown]"
        if shape is None
        else str(["?" if size is None else size for size in shape]).replace("'", "")
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _upstream(nodes: Mapping[str, Any], root: str) -> list[str]:
    found: dict[str, None] = {}
    todo = [split_reference(root)[0]]
    while todo:
        name = todo.pop()
        if name in nodes and name not in found:
            found[name] = None
            todo.extend(split_reference(reference)[0] for reference in nodes[name].input)
    return list(found)


def _origin(nodes: Mapping[str, Any], reference: str) -> tuple[str, int]:
    name, port = split_reference(reference)
    while name in nodes and nodes[name].op in _PASSING and nodes[name].input:
        index = port or 0 if nodes[name].op == "IdentityN" else 0
        name, port = split_reference(nodes[name].input[index])
    return name, port or 0


def _strings(nodes: Mapping[str, Any], reference: str) -> list[str] | None:
    import tensorflow as tf

    name, _ = _origin(nodes, reference)
    node = nodes.get(name)
    if node is None or node.op != "Const":
        return None
    values = tf.make_ndarray(node.attr["value"].tensor).reshape(-1)
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
