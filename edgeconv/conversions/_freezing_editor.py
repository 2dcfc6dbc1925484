"""Edits of a graph on its way to a frozen one: its ends become those of the contract, side effects go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import reachable, split_reference
from edgeconv.runtimes._programs import identifier
from edgeconv.runtimes._tensorflow import shape_of
from edgeconv.surgery.graph_editing import join_reference

PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_SILENT = ("Assert", "Print", "PrintV2", "NoOp", "DisableCopyOnRead", "VarIsInitializedOp", "ScalarSummary",
           "HistogramSummary", "MergeSummary", "ImageSummary")  # fmt: skip
WRITES = (
    "Assign",
    "AssignVariableOp",
    "AssignAdd",
    "AssignSub",
    "AssignAddVariableOp",
    "AssignSubVariableOp",
)


_FRAMES = ("Switch", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter")
_TRAINING = ("ResourceApply", "ResourceSparseApply", "Apply", "SparseApply")


def node_of(spec: TensorSpec) -> str:
    """Name of the node that makes the tensor of a spec."""
    return split_reference(spec.inner_name)[0]


class Editor:
    """Edits one main graph in place."""

    def __init__(self, graph_def: Any, path: str) -> None:
        self.graph_def = graph_def
        self.path = path
        self.nodes = {node.name: node for node in graph_def.node}
        self.notes: list[str] = []
        self._conditional: set[str] = set()

    def cut(self, contract: Contract, meta_graph: Any, calls: set[str]) -> Contract:
        """Give inputs placeholders of their own name and shape, and outputs nodes; as the contract says."""
        prefix = f"{contract.signature}_"
        for spec in (*contract.inputs, *contract.outputs):
            if node_of(spec) not in self.nodes:
                raise UsageError(
                    f"there is no tensor '{spec.inner_name}'",
                    where=self.path,
                    hint="'edgeconv inspect --ops' lists what there is; names inside functions begin with "
                    "the name of the call",
                )
        self._bypass_inlining()
        outputs = []
        for spec in contract.outputs:
            node, port = split_reference(spec.inner_name)
            source = self._through(node, port or 0)
            if node in calls or self.nodes[node].op == "IdentityN":
                fresh = self._free(identifier(spec.name))
                self._add(fresh, "Identity", [source], self._dtype(spec, meta_graph))
                outputs.append(replace(spec, tensor=f"{fresh}:0"))
            else:
                outputs.append(replace(spec, tensor=f"{node}:{port or 0}"))
        inputs = []
        originals: dict[str, str] = {}
        for spec in contract.inputs:
            node, port = split_reference(spec.inner_name)
            fresh = node
            if spec.inner_name in originals:
                fresh = self._free(identifier(spec.name))
                self._add(fresh, "Placeholder", [], self._dtype(spec, meta_graph))
                inputs.append(self._make_placeholder(fresh, spec))
                self.notes.append(
                    f"the inputs '{originals[spec.inner_name]}' and '{spec.name}' are one tensor: "
                    f"'{originals[spec.inner_name]}' is the one that counts"
                )
                continue
            originals[spec.inner_name] = spec.name
            if self.nodes[node].op not in PLACEHOLDERS:
                fresh = self._free(identifier(spec.name))
                self._redirect(node, port or 0, fresh)
                self.notes.append(f"cut at '{node}:{port or 0}': the input '{spec.name}' goes in there")
                self._add(fresh, "Placeholder", [], self._dtype(spec, meta_graph))
            elif node.startswith(prefix) and node[len(prefix) :] not in self.nodes and node != prefix:
                fresh = node[len(prefix) :]
                self._redirect(node, None, fresh)
                self.nodes[fresh] = self.nodes.pop(node)
                self.nodes[fresh].name = fresh
            inputs.append(self._make_placeholder(fresh, spec))
            outputs = [
                replace(o, tensor=f"{fresh}:0")
                if split_reference(o.inner_name)[0] == node and fresh != node
                else o
                for o in outputs
            ]
        return replace(contract, inputs=tuple(inputs), outputs=tuple(outputs))

    def fix_defaults(self, contract: Contract) -> list[str]:
        """Let placeholders with a default that are no inputs be their default; gives their names."""
        declared = {node_of(spec) for spec in contract.inputs}
        fixed = []
        for node in self.graph_def.node:
            if node.op == "PlaceholderWithDefault" and node.name not in declared:
                dtype = node.attr["dtype"].type
                node.op = "Identity"
                node.attr.clear()
                node.attr["T"].type = dtype
                fixed.append(node.name)
        return fixed

    def drop_side_effects(self) -> None:
        """Take away what only warns, prints or counts: it computes no output."""
        for node in self.graph_def.node:
            if node.op in ("Print", "CheckNumerics", "CheckNumericsV2"):
                dtype = node.attr["T"].type
                kept = [node.input[0], *(i for i in node.input if i.startswith("^"))]
                node.op = "Identity"
                node.attr.clear()
                node.attr["T"].type = dtype
                del node.input[:]
                node.input.extend(kept)
        dropped: set[str] = set()
        self._conditional = self._find_conditional()
        for node in self.graph_def.node:
            inputs: list[str] = []
            for reference in node.input:
                for kept_reference in self._kept(reference, dropped, set()):
                    if kept_reference not in inputs or not kept_reference.startswith("^"):
                        inputs.append(kept_reference)
            if inputs != list(node.input):
                del node.input[:]
                node.input.extend(inputs)
        written = {
            self._variable(self.nodes[name]): name for name in dropped if self.nodes[name].op in WRITES
        }
        for variable, name in sorted(written.items()):
            self.notes.append(
                f"'{name}' writes '{variable}' at each inference; "
                "a frozen graph always starts from the stored value"
            )

    def _kept(self, reference: str, dropped: set[str], seen: set[str]) -> list[str]:
        """A control input as what is left of it; data inputs stay as they are."""
        name, port = split_reference(reference)
        if port is not None or name not in self.nodes:
            return [reference]
        node = self.nodes[name]
        if name in seen:
            return []
        seen.add(name)
        if node.op in _SILENT:
            controls = [i for i in node.input if i.startswith("^")]
            return [kept for control in controls for kept in self._kept(control, dropped, seen)]
        if node.op.startswith(_TRAINING):
            raise ConversionError(
                f"the op {node.op} ('{node.name}') trains the model whenever it is run",
                where=self.path,
                why="the outputs come with a step of an optimiser",
                hint="choose a signature for inference with --signature, or other outputs with --outputs",
            )
        if node.op in WRITES and not self._read_later(node):
            dropped.add(name)
            return []
        if node.op not in WRITES and name not in self._conditional:
            # Without effects, and run in any case: what is left of the edge is nothing.
            return []
        return [reference]

    def _find_conditional(self) -> set[str]:
        """Nodes that are run or not, or repeatedly, by the switches and frames of TensorFlow 1."""
        consumers: dict[str, list[str]] = {}
        for node in self.graph_def.node:
            for reference in node.input:
                consumers.setdefault(split_reference(reference)[0], []).append(node.name)
        found: set[str] = set()
        stack = [n.name for n in self.graph_def.node if n.op in _FRAMES]
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack.extend(consumers.get(name, ()))
        return found

    def _read_later(self, write: Any) -> bool:
        variable = self._variable(write)
        for node in self.graph_def.node:
            if node.op in ("ReadVariableOp", "Identity", "ResourceGather") and node.input:
                if self._variable(node) != variable:
                    continue
                if write.name in reachable(self.graph_def, [node.name]):
                    return True
        return False

    def _variable(self, node: Any) -> str:
        name, _ = split_reference(node.input[0])
        while name in self.nodes and self.nodes[name].op in ("Identity", "Enter", "RefIdentity"):
            name, _ = split_reference(self.nodes[name].input[0])
        return name

    def _bypass_inlining(self) -> None:
        """Connect straight what inlining connected by chains of Identity."""
        for node in self.graph_def.node:
            inputs = []
            for reference in node.input:
                name, port = split_reference(reference)
                inputs.append(reference if port is None else self._through(name, port))
            if inputs != list(node.input):
                del node.input[:]
                node.input.extend(inputs)

    def _through(self, name: str, port: int) -> str:
        while name in self.nodes:
            node = self.nodes[name]
            made = name.startswith("Func/") and node.op == "Identity"
            if not made and node.op != "IdentityN":
                break
            inner, inner_port = split_reference(node.input[port if node.op == "IdentityN" else 0])
            if inner_port is None:
                break
            name, port = inner, inner_port
        return join_reference(name, port)

    def _redirect(self, name: str, port: int | None, fresh: str) -> None:
        """Let all consumers of ``name:port`` (of all ports and control where None) read ``fresh``."""
        for node in self.graph_def.node:
            for index, reference in enumerate(node.input):
                source, source_port = split_reference(reference)
                if source == name and (port is None or source_port == port):
                    node.input[index] = join_reference(fresh, source_port if port is None else 0)

    def _add(self, name: str, op: str, inputs: list[str], dtype: int) -> None:
        node = self.graph_def.node.add(name=name, op=op)
        node.input.extend(inputs)
        node.attr["T" if op == "Identity" else "dtype"].type = dtype
        self.nodes[name] = node

    def _make_placeholder(self, name: str, spec: TensorSpec) -> TensorSpec:
        node = self.nodes[name]
        dtype = node.attr["dtype"].type
        known = shape_of(node.attr["shape"].shape) if "shape" in node.attr else None
        sizes = known if spec.shape is None else spec.shape
        node.op = "Placeholder"
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = dtype % 100
        shape = node.attr["shape"].shape
        shape.SetInParent()
        if sizes is None:
            shape.unknown_rank = True
        for size in sizes or ():
            shape.dim.add(size=-1 if size is None else size)
        return replace(spec, shape=sizes, tensor=f"{name}:0")

    def _dtype(self, spec: TensorSpec, meta_graph: Any) -> int:
        import tensorflow as tf

        for signature in meta_graph.signature_def.values():
            for info in (*signature.outputs.values(), *signature.inputs.values()):
                if info.name == spec.inner_name:
                    return int(info.dtype) % 100
        return int(tf.as_dtype(spec.dtype).as_datatype_enum)

    def _free(self, name: str) -> str:
        fresh, number = name, 1
        while fresh in self.nodes:
            fresh = f"{name}_{number}"
            number += 1
        return fresh
