"""Stages that make a SavedModel with variables of a frozen graph, and that try to train it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeconv.conversions._graph_parts import written
from edgeconv.conversions._saved_model_writing import SIGNATURE
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract, TensorSpec, contract_from_json
from edgeconv.formats.graph_reading import split_reference
from edgeconv.runtimes._programs import identifier
from edgeconv.runtimes._tensorflow import as_conversion_error, dtype_name, refuse_untrusted, shape_of
from edgeconv.runtimes.tensorflow_graph import read_graph
from edgeconv.surgery.cutting import nearest
from edgeconv.surgery.graph import Graph, full
from edgeconv.surgery.graph_editing import check_known_ops, clean
from edgeconv.surgery.weights import Weight, floating_constants, weights_of

CHECKPOINT = "checkpoint/variables"
_LEARNING_RATE = 1e-2
_PROBES = 3


def matching(patterns: Sequence[str], names: Sequence[str], where: str, flag: str) -> list[str]:
    """The names that glob patterns or regular expressions match, in their order.

    A pattern is a glob where it fits as one (``dense/*``), else a regular expression that is searched for
    (``^block[34]/``); the name itself and the name of a scope (``dense``) match too.

    Raises:
        UsageError: a pattern that matches nothing; names the nearest.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [name for name in names if _matches(pattern, name)]
        if not hits:
            near = nearest(pattern.strip("*^$"), list(names))
            raise UsageError(
                f"{flag}: '{pattern}' matches no variable",
                where=where,
                why=f"there are {len(names)}, as {', '.join(near or names[:3])}"
                if names
                else "there is none",
                hint="'edgeconv inspect --layers' lists them",
            )
        found.update(dict.fromkeys(hits))
    return [name for name in names if name in found]


def _matches(pattern: str, name: str) -> bool:
    if fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern.rstrip('/')}/"):
        return True
    try:
        return re.search(pattern, name) is not None if re.search(r"[\^$|()+\\.]", pattern) else False
    except re.error as error:
        raise UsageError(f"'{pattern}' is neither a glob nor a regular expression", why=str(error)) from None


def with_variables(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write a SavedModel (and a checkpoint) in which constants of a frozen graph are variables.

    Args:
        payload: ``path`` and ``contract`` of the frozen graph, ``destination`` (a folder), ``candidates``
            (names that may be chosen; null for the constants that are weights), ``trainable`` (patterns of
            those that are trained; null for all weights but statistics), ``others`` (what becomes of the
            other candidates: ``constant`` or ``variable``), ``checkpoint`` (whether to write one under the
            variables' own names too), ``trust``.

    Returns:
        As ``edgeconv.conversions.stage.convert``, and ``variables``: name, dtype, shape, trainable, why.

    Raises:
        UsageError: a pattern matches nothing.
        ConversionError: TensorFlow cannot import or write the graph.
    """
    import tensorflow as tf

    path, destination = Path(payload["path"]), Path(payload["destination"])
    contract = _contract(payload)
    graph_def = read_graph(path)
    refuse_untrusted(graph_def.node, str(path), {"trust": payload.get("trust")})
    check_known_ops(graph_def, str(path))
    clean(graph_def)
    graph = Graph(
        graph_def,
        inputs=[s.inner_name for s in contract.inputs],
        outputs=[s.inner_name for s in contract.outputs],
        path=str(path),
    )
    graph.prune()
    chosen = _chosen(graph, payload, str(path))
    try:
        module, concrete, made = _module(graph, chosen, contract, path)
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(destination), signatures={SIGNATURE: concrete}, options=options)
        if payload.get("checkpoint"):
            _write_checkpoint(destination / CHECKPOINT, made)
    except (tf.errors.OpError, ValueError, TypeError, AssertionError) as error:
        raise as_conversion_error(error, "TensorFlow could not write the SavedModel", str(path)) from error
    told = written(destination, "saved_model", _contract_on_disk(destination, contract), [])
    told["variables"] = [
        {
            **asdict(weight),
            "dtype": dtype_name(variable.dtype),
            "shape": list(variable.shape),
        }
        for weight, variable in zip(chosen, made.values(), strict=True)
    ]
    return told


def training_step(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Load a SavedModel, take one step of gradient descent on its own variables, see what moved.

    The loss is the sum of the squared distances of the float outputs to random numbers, on a few probes.

    Args:
        payload: ``path``, ``contract``, ``probes`` (file), ``trainable`` (names that are to be moved).

    Returns:
        ``moved``, ``without_gradient`` and ``fixed`` (names), ``changed`` (largest difference of an output),
        ``error`` where the graph cannot be differentiated.
    """
    import numpy as np
    import tensorflow as tf

    from edgeconv.comparison.probes import load_probes

    contract = _contract(payload)
    loaded = tf.saved_model.load(payload["path"])
    function = loaded.signatures[contract.signature or SIGNATURE]
    probes = [probe for probe in load_probes(Path(payload["probes"])) if not probe.optional][:_PROBES]
    feeds = [
        {identifier(spec.name): tf.constant(probe.inputs[spec.name]) for spec in contract.inputs}
        for probe in probes
    ]
    everything = list(loaded.variables)
    before = {v.name: v.numpy() for v in everything}
    trained = list(loaded.trainable_variables)
    random = np.random.default_rng(0)
    try:
        with tf.GradientTape() as tape:
            outputs = [function(**each) for each in feeds]
            parts = [
                tf.reduce_sum(tf.square(tf.cast(v, tf.float32) - random.standard_normal(v.shape, np.float32)))
                for given in outputs
                for _, v in sorted(given.items())
                if v.dtype.is_floating
            ]
            loss = tf.add_n(parts) if parts else None
        gradients = tape.gradient(loss, trained) if loss is not None else [None] * len(trained)
    except (LookupError, tf.errors.OpError, ValueError, TypeError, AttributeError) as error:
        return {"error": " ".join(str(error).split())[:300], "moved": [], "without_gradient": [], "fixed": []}
    norms = [None if g is None else float(tf.linalg.global_norm([g])) for g in gradients]
    for variable, gradient in zip(trained, gradients, strict=True):
        if gradient is not None:
            dense = tf.convert_to_tensor(gradient)
            size = tf.linalg.norm(dense) + 1e-12
            # A step of a hundredth of the weights' own size moves an output visibly and stays finite.
            step = _LEARNING_RATE * (tf.linalg.norm(tf.cast(variable, dense.dtype)) + 1e-3) / size
            variable.assign_sub(tf.cast(step * dense, variable.dtype))
    after = [function(**each) for each in feeds]
    changed = [
        float(np.max(np.abs(later[n].numpy().astype(np.float64) - v.numpy().astype(np.float64)), initial=0.0))
        for given, later in zip(outputs, after, strict=True)
        for n, v in given.items()
        if v.dtype.is_floating
    ]
    moved = [v.name for v in everything if not np.array_equal(before[v.name], v.numpy())]
    return {
        "moved": [_bare(name) for name in moved],
        "without_gradient": [
            _bare(v.name) for v, norm in zip(trained, norms, strict=True) if norm is None or norm == 0
        ],
        "fixed": [_bare(v.name) for v in everything if v.name not in moved],
        "changed": max(changed, default=0.0),
        "error": None,
    }


def _chosen(graph: Graph, payload: Mapping[str, Any], path: str) -> list[Weight]:
    weights = {weight.name: weight for weight in weights_of(graph)}
    constants = floating_constants(graph)
    named = payload.get("candidates")
    pool = list(weights) if named is None else [name for name in constants if name in set(named)]
    patterns = payload.get("trainable")
    if "frozen_layers" in payload:
        trainable = {n for n in pool if _in_trained_layer(n, payload) and _is_trainable(n, weights)}
    elif patterns is None:
        trainable = {name for name in pool if name not in weights or weights[name].trainable}
    else:
        # What the user names is taken, whether it looks like a weight or not.
        trainable = set(matching(patterns, constants if named is None else pool, path, payload["flag"]))
    others = [name for name in pool if name not in trainable] if payload["others"] == "variable" else []
    if not trainable and not others and named != []:
        raise UsageError(
            "none of the graph's constants looks like a weight",
            where=path,
            why="no floating-point constant is read as a kernel, a matrix, a table or a bias",
            hint="name them: --variables PATTERN",
        )
    return [
        Weight(name, name in trainable, weights[name].why if name in weights else "named by the user")
        for name in constants
        if name in trainable or name in set(others)
    ]


def _is_trainable(name: str, weights: Mapping[str, Weight]) -> bool:
    return name not in weights or weights[name].trainable


def _in_trained_layer(name: str, payload: Mapping[str, Any]) -> bool:
    """Whether a variable is of a layer that is trained: of the layer whose name is the longest in its own."""
    best, trained = -1, True
    for layers, flag in ((payload["frozen_layers"], False), (payload["trained_layers"], True)):
        for layer in layers:
            inside = f"/{name}/".find(f"/{layer.strip('/')}/") >= 0
            nested = f"/{name}/".find(f"/{layer.rpartition('/')[2]}/") >= 0
            length = len(layer) if inside else len(layer.rpartition("/")[2]) if nested else -1
            if layer and length > best:
                best, trained = length, flag
    return trained


def _module(
    graph: Graph, chosen: Sequence[Weight], contract: Contract, path: Path
) -> tuple[Any, Any, dict[str, Any]]:
    """An object with the variables, the function over them, and the variables by the constants' names."""
    import tensorflow as tf

    made: dict[str, Any] = {}
    for weight in chosen:
        node = graph.nodes[weight.name]
        value = tf.make_ndarray(node.attr["value"].tensor)
        made[weight.name] = tf.Variable(value, name=weight.name, trainable=weight.trainable)
        # The graph holds its value no more: what is left is the place where the variable goes in.
        shape, dtype = tf.TensorShape(value.shape).as_proto(), node.attr["dtype"].type
        graph.become(node, "Placeholder", ())
        node.attr["dtype"].type = dtype
        node.attr["shape"].shape.CopyFrom(shape)
    # What is fed is there at once; an edge that waits for it would keep the placeholder that it replaces.
    replaced = {f"^{split_reference(spec.inner_name)[0]}" for spec in contract.inputs}
    replaced |= {f"^{name}" for name in made}
    for node in graph.graph_def.node:
        if replaced & set(node.input):
            graph.set_inputs(node, [reference for reference in node.input if reference not in replaced])
    fetched = [full(spec.inner_name) for spec in contract.outputs]
    signature = [
        tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype), name=identifier(spec.name))
        for spec in contract.inputs
    ]

    def serve(*flat: Any) -> dict[str, Any]:
        feeds = {full(s.inner_name): value for s, value in zip(contract.inputs, flat, strict=True)}
        feeds.update({f"{name}:0": variable.read_value() for name, variable in made.items()})
        values = tf.graph_util.import_graph_def(
            graph.graph_def, input_map=feeds, return_elements=fetched, name=""
        )
        return {
            spec.name: tf.identity(feeds.get(full(spec.inner_name), value), name=identifier(spec.name))
            for spec, value in zip(contract.outputs, values, strict=True)
        }

    call = tf.function(serve, input_signature=signature, autograph=False)
    module = tf.__internal__.tracking.AutoTrackable()
    module.variables = list(made.values())
    module.trainable_variables = [v for v in made.values() if v.trainable]
    module.non_trainable_variables = [v for v in made.values() if not v.trainable]
    module.__call__ = call
    concrete = call.get_concrete_function()
    return module, concrete, made


def _write_checkpoint(prefix: Path, made: Mapping[str, Any]) -> None:
    """A checkpoint with the variables under their own names, as a Saver of TensorFlow 1 writes it."""
    import tensorflow as tf

    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(made),
        shape_and_slices=[""] * len(made),
        tensors=[variable.read_value() for variable in made.values()],
    )


def _contract_on_disk(folder: Path, contract: Contract) -> Contract:
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved_model.pb").read_bytes())
    definition = proto.meta_graphs[0].signature_def[SIGNATURE]

    def on_disk(spec: TensorSpec, infos: Any, key: str) -> TensorSpec:
        info = infos[key]
        return TensorSpec(spec.name, dtype_name(info.dtype), shape_of(info.tensor_shape), info.name)

    return Contract(
        tuple(on_disk(s, definition.inputs, identifier(s.name)) for s in contract.inputs),
        tuple(on_disk(s, definition.outputs, s.name) for s in contract.outputs),
        SIGNATURE,
        contract.layout,
        contract.normalisation,
        contract.labels,
    )


def _bare(name: str) -> str:
    return split_reference(name)[0]


def _contract(payload: Mapping[str, Any]) -> Contract:
    contract = contract_from_json(payload["contract"])
    if contract is None:
        raise ConversionError("a graph without a contract has no ends")
    return contract
