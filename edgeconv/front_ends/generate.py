"""Writes the front end of a graph as one readable Python file.

Each op becomes a line: an expression of NumPy, or a call of a function of ``edgeconv.front_ends.library``
with the op's attributes filled in. The functions that are called are copied into the file. Constants that
are small stand in the text; large ones, and tables, go to an ``.npz`` beside it.

    decoded_sample_data (DecodeWav)           decoded, rate = decode_wav(wav_data, 1, 16000)
    AudioSpectrogram (AudioSpectrogram)   ▸   spectrogram = audio_spectrogram(decoded, 640, 320, True)
    Mfcc (Mfcc)                               mfcc_1 = mfcc(spectrogram, rate, 4000.0, 20.0, 40, 10)
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeconv.errors import ConversionError
from edgeconv.formats.base import TensorSpec
from edgeconv.formats.graph_reading import split_reference
from edgeconv.front_ends._sources import library_names, sources_of

INLINE_ELEMENTS = 16
"""Constants of more elements go to the ``.npz``."""
FORWARDING = frozenset(
    {"Identity", "StopGradient", "Snapshot", "PreventGradient", "EnsureShape", "RefIdentity"}
)


class NotSuppliedError(ConversionError):
    """An op of the front end that is not known here, so that no function can be written for it."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a lookup table of the graph holds: arrays of equal length; strings are object arrays."""

    keys: Any
    values: Any


@dataclass
class FrontEndFile:
    """The text of the file, the arrays beside it, and the packages that it needs beyond NumPy."""

    text: str
    arrays: dict[str, Any]
    requires: tuple[str, ...]


@dataclass
class Writer:
    """What the whole file collects: arrays, tables, functions that are called.

    Attributes:
        library: function definitions of the graph by name.
        tables: contents of lookup tables by the node that makes the handle.
    """

    library: Mapping[str, Any]
    tables: Mapping[str, Table]
    arrays: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    statements: list[str] = field(default_factory=list)
    _taken: set[str] = field(
        default_factory=lambda: {"np", "Any", "Path", "inputs", "DATA", "front_end", "back_end"}
    )
    _tables: dict[str, str] = field(default_factory=dict)

    def name(self, wish: str) -> str:
        """A variable's name like ``wish`` that is not taken yet."""
        text = re.sub(r"\W+", "_", wish.rpartition("/")[2], flags=re.ASCII).strip("_").lower() or "value"
        text = f"t_{text}" if text[0].isdigit() else text
        text = text[:40]
        fresh, number = text, 1
        while fresh in self._taken or keyword.iskeyword(fresh) or fresh in library_names():
            fresh, number = f"{text}_{number}", number + 1
        self._taken.add(fresh)
        return fresh

    def call(self, function: str, *arguments: str, **named: Any) -> str:
        """The text of a call of a library function, which is noted as used; ``named`` are values."""
        self.used.add(function)
        texts = [*arguments, *(f"{key}={value!r}" for key, value in named.items())]
        return f"{function}({', '.join(texts)})"

    def constant(self, value: Any, wish: str) -> str:
        """The text of an array's value."""
        if value.dtype == object or value.dtype.kind in "SU":
            texts = [v.encode() if isinstance(v, str) else bytes(v) for v in value.reshape(-1).tolist()]
            if value.size <= INLINE_ELEMENTS and sum(map(len, texts)) < 400:
                return self.call("text_array", repr(texts), repr(value.shape))
            return self._stored_texts(texts, value.shape, wish)
        if value.size <= INLINE_ELEMENTS and value.dtype.kind in "fiub" and value.dtype.isnative:
            literal = repr(value.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
            return f"np.array({literal}, np.{value.dtype.name if value.dtype.kind != 'b' else 'bool_'})"
        key = self._key(wish)
        self.arrays[key] = value
        return f"DATA[{key!r}]"

    def table(self, handle: str) -> str:
        """The name of the dictionary of a table.

        Raises:
            KeyError: nothing says what the table holds.
        """
        if handle not in self._tables:
            table = self.tables[handle]
            name = self.name(handle).upper()
            keys, values = (
                self.constant(v, f"{handle}_{k}") for k, v in (("keys", table.keys), ("values", table.values))
            )
            self.statements.append(f"{name} = {self.call('read_table', keys, values)}")
            self._tables[handle] = name
        return self._tables[handle]

    def _stored_texts(self, texts: list[bytes], shape: tuple[int, ...], wish: str) -> str:
        import numpy

        key = self._key(wish)
        self.arrays[f"{key}_bytes"] = numpy.frombuffer(b"".join(texts), numpy.uint8)
        self.arrays[f"{key}_lengths"] = numpy.array([len(text) for text in texts], numpy.int64)
        name = self.name(key).upper()
        made = self.call("read_texts", f"DATA['{key}_bytes']", f"DATA['{key}_lengths']", repr(tuple(shape)))
        self.statements.append(f"{name} = {made}")
        return name

    def _key(self, wish: str) -> str:
        text = re.sub(r"\W+", "_", wish, flags=re.ASCII).strip("_") or "constant"
        fresh, number = text, 1
        while fresh in self.arrays or f"{fresh}_bytes" in self.arrays:
            fresh, number = f"{text}_{number}", number + 1
        return fresh


class Scope:
    """The lines of one graph, function body or loop, in the order they are needed."""

    def __init__(
        self,
        writer: Writer,
        nodes: Mapping[str, Any],
        names: dict[tuple[str, int], str],
        indent: int,
        resolve: Callable[[str], tuple[str, int]],
        lines: list[str] | None = None,
    ) -> None:
        self.writer = writer
        self.nodes = nodes
        self.names = names
        self.indent = indent
        self.lines: list[str] = [] if lines is None else lines
        self.resolve = resolve

    def value(self, reference: str) -> str:
        """The expression of a reference; what it needs is written first.

        Raises:
            NotSuppliedError: something that it needs is not known here.
        """
        tensor = self.resolve(reference)
        if tensor not in self.names:
            self._write(tensor[0])
        if tensor not in self.names:
            raise NotSuppliedError(f"output {tensor[1]} of '{tensor[0]}' is not known", hint=HINT)
        return self.names[tensor]

    def inputs(self, node: Any) -> list[str]:
        """References of the data inputs of a node."""
        return [reference for reference in node.input if not reference.startswith("^")]

    def constant(self, reference: str) -> Any | None:
        """The value of a reference that is a constant; else ``None``."""
        import tensorflow as tf

        name, port = self.resolve(reference)
        while (
            name in self.nodes
            and self.nodes[name].op in (*FORWARDING, "Enter")
            and (name, port) not in self.names
        ):
            name, port = self.resolve(self.inputs(self.nodes[name])[0])
        node = self.nodes.get(name)
        if node is None or node.op != "Const":
            return None
        return tf.make_ndarray(node.attr["value"].tensor)

    def say(self, line: str) -> None:
        """Write one line."""
        self.lines.append("    " * self.indent + line)

    def give(self, node: Any, port: int, expression: str) -> None:
        """Say what an output of a node is, without a line for it."""
        self.names[(node.name, port)] = expression

    def assign(self, node: Any, expressions: Sequence[str]) -> None:
        """Write a line that computes the outputs of a node."""
        if len(expressions) == 1:
            name = self.writer.name(node.name)
            self.say(f"{name} = {expressions[0]}")
            self.give(node, 0, name)

    def assign_many(self, node: Any, expression: str, count: int) -> None:
        """Write a line that computes several outputs of a node by one call that returns a tuple."""
        names = [self.writer.name(f"{node.name}_{port}") for port in range(count)]
        self.say(f"{', '.join(names)}{',' if count == 1 else ''} = {expression}")
        for port, name in enumerate(names):
            self.give(node, port, name)

    def _write(self, start: str) -> None:
        """Write a node after all that it needs; without recursion over long chains."""
        from edgeconv.front_ends._back_rules import BACK_RULES
        from edgeconv.front_ends._control_flow import CONTROL_FLOW
        from edgeconv.front_ends._front_rules import FRONT_RULES
        from edgeconv.front_ends._rules import RULES

        stack: list[tuple[str, bool]] = [(start, False)]
        under_way: set[str] = set()
        while stack:
            name, ready = stack.pop()
            if (name, 0) in self.names and name not in under_way:
                continue
            node = self.nodes.get(name)
            if node is None:
                raise NotSuppliedError(f"the graph has no node '{name}'", hint=HINT)
            special = CONTROL_FLOW.get(node.op)
            rule = FRONT_RULES.get(node.op) or BACK_RULES.get(node.op) or RULES.get(node.op)
            if special is None and rule is None:
                raise NotSuppliedError(
                    f"the op {node.op} ('{name}') of the part cut off is not known here", hint=HINT
                )
            if ready or (special is not None and node.op in ("Exit", "RefExit")):
                under_way.discard(name)
                (special or rule)(self, node)  # type: ignore[misc]
                continue
            if name in under_way:
                raise NotSuppliedError(f"'{name}' needs itself", hint=HINT)
            under_way.add(name)
            stack.append((name, True))
            for reference in self.inputs(node):
                tensor = self.resolve(reference)
                if tensor not in self.names and tensor[0] in self.nodes:
                    stack.append((tensor[0], False))


HINT = "do this step outside the model, and feed the artifacts with the tensors of the cut"


def write_front_end(
    graph_def: Any,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    tables: Mapping[str, Table],
    title: str,
    function: str = "front_end",
) -> FrontEndFile:
    """The file whose function computes ``outputs`` from ``inputs``.

    Args:
        graph_def: inlined; its variables are constants.
        inputs: ``tensor`` is where each goes in.
        outputs: ``tensor`` is where each comes out.
        tables: contents of lookup tables by the node that makes the handle.
        title: the model's name.
        function: ``front_end``, or ``back_end`` for what stands behind the artifacts.

    Raises:
        NotSuppliedError: an op is not known here; names it.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    writer = Writer(functions, tables)
    names: dict[tuple[str, int], str] = {}
    scope = Scope(writer, {n.name: n for n in graph_def.node}, names, 1, _tensor)
    for spec in inputs:
        name = writer.name(spec.name)
        taken = f"inputs[{spec.name!r}]"
        value = (
            writer.call("as_text", taken)
            if spec.dtype == "string"
            else f"np.asarray({taken}, {spec.dtype!r})"
        )
        scope.say(f"{name} = {value}")
        names[_tensor(spec.inner_name)] = name
    results = [
        f"{spec.name!r}: np.asarray({scope.value(spec.inner_name)}, {spec.dtype!r})" for spec in outputs
    ]
    scope.say("return {")
    for result in results:
        scope.say(f"    {result},")
    scope.say("}")
    imports, texts = sources_of(writer.used)
    requires = ("Pillow",) if any("from PIL" in text for text in texts) else ()
    if writer.arrays:
        imports = ["from pathlib import Path", *imports]
    text = _HEADER.format(
        **_ROLES[function],
        title=_clean(title),
        inputs="\n".join(f"    {_shown(spec)}" for spec in inputs) or "    nothing",
        outputs="\n".join(f"    {_shown(spec)}" for spec in outputs),
        needs="NumPy" + "".join(f" and {package}" for package in requires),
        imports="\n".join(sorted(set(imports), key=lambda line: (line.startswith("from"), line))),
    )
    if writer.arrays:
        text += '\nDATA = np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False)\n'
    text += "".join(f"\n\n{each}\n" for each in texts)
    if writer.statements:
        text += "\n\n" + "\n".join(writer.statements) + "\n"
    text += (
        f"\n\ndef {function}(inputs: dict[str, Any]) -> dict[str, Any]:\n"
        '    """See the top of this file."""\n'
    )
    text += "\n".join(scope.lines) + "\n"
    return FrontEndFile(text, writer.arrays, requires)


def _tensor(reference: str) -> tuple[str, int]:
    name, port = split_reference(reference)
    return name, port or 0


def _shown(spec: TensorSpec) -> str:
    shape = (
        "of any shape"
        if spec.shape is None
        else str(["?" if d is None else d for d in spec.shape]).replace("'", "")
    )
    return f"{_clean(spec.name)}: {spec.dtype} {shape}"


def _clean(text: str) -> str:
    """Text of a model's author, safe inside a docstring."""
    return re.sub(r"[^\w./:+@ -]", "?", text, flags=re.ASCII)


_ROLES = {
    "front_end": {
        "what": "front end",
        "where": "what the model does before the tensors that its artifacts take",
        "use": "Call ``front_end(inputs)`` and give what it returns to an artifact.",
    },
    "back_end": {
        "what": "back end",
        "where": "what the model does behind the tensors that its artifacts give",
        "use": "Call ``back_end(given)`` with what an artifact gives, and inputs of the model named below.",
    },
}
_HEADER = '''"""The {what} of {title}: {where}.

{use} It needs {needs}.

Inputs (strings are bytes, arrays of bytes objects, or a file's bytes as uint8):
{inputs}

Outputs:
{outputs}

Written by edgeconv from the model's graph.
"""

from __future__ import annotations

{imports}
'''
