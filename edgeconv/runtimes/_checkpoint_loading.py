"""A model from a builder function, with the values of an object-based checkpoint in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, InvalidModelError
from edgeconv.formats._checkpoint_files import checkpoint_files
from edgeconv.runtimes._checkpoint_config import model_from_config
from edgeconv.runtimes._model_builder import built_model, find_builder
from edgeconv.runtimes._programs import Program, program_of_keras, program_of_module, traced

_USUAL_ROOTS = ("model", "net", "network", "module", "backbone", "generator", "encoder")
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_TRAINING = re.compile(
    r"(^|/)(optimizer|opt|optimizer_\w+|save_counter|step|global_step|epoch|keras_api|iterations)(/|$)|OPTIMIZER_SLOT"
    r"|^_CHECKPOINTABLE"
)
_find_builder = find_builder
_VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def load_checkpoint_program(path: Path, options: Mapping[str, Any]) -> tuple[Program, tuple[str, ...]]:
    """Build the model with ``options['model_builder']`` and restore the checkpoint at ``path`` into it.

    Returns:
        The program, and notes for the person.

    Raises:
        UsageError: no builder is named, or it cannot be found or called, or gives no model.
        InvalidModelError: the checkpoint is not readable.
        ConversionError: model and checkpoint do not fit; says what is missing and what is left over.
    """
    import tensorflow as tf

    files = checkpoint_files(path)
    prefix = str(files.prefix)
    if files.index is None:
        raise _of_tensorflow_1(files.meta, prefix)
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = dict(reader.get_variable_to_shape_map())
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise InvalidModelError(
            "the checkpoint cannot be read", where=prefix, why=" ".join(str(error).split())[:200]
        ) from error
    if _OBJECT_GRAPH not in shapes and not options.get("model_builder"):
        raise _of_tensorflow_1(files.meta, prefix)
    built = None if options.get("model_builder") else model_from_config(reader, shapes, prefix, options)
    model, said = built or (built_model(options, str(path)), ())
    program = _program(model, prefix, options)
    notes = _restore(model, program, prefix, reader, shapes)
    return program, (*said, *notes)


def _of_tensorflow_1(meta: Path | None, prefix: str) -> ConversionError:
    """The refusal of a checkpoint that holds values by the names of variables."""
    graph = f"its graph is in {meta.name}" if meta is not None else "its graph (.meta) is not beside it"
    return ConversionError(
        "this is a checkpoint of TensorFlow 1, which is not converted by itself",
        where=prefix,
        why=f"it holds values by the names of variables, and {graph}",
        hint="restore it with tf.compat.v1.train.import_meta_graph and Saver.restore, write a SavedModel "
        "with tf.compat.v1.saved_model.simple_save, and convert that"
        if meta is not None
        else "run the code that built its graph, restore it there, write a SavedModel, and convert that",
    )


def _program(model: Any, path: str, options: Mapping[str, Any]) -> Program:
    if hasattr(model, "inputs") and hasattr(model, "layers"):
        return program_of_keras(model, path)
    return program_of_module(model, path, options.get("signature"))


def _restore(
    model: Any, program: Program, prefix: str, reader: Any, shapes: Mapping[str, Any]
) -> tuple[str, ...]:
    import tensorflow as tf

    attempts = list(_attempts(model, reader, shapes))
    for name, checkpoint in attempts:
        try:
            checkpoint.read(prefix).assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError, tf.errors.OpError, KeyError, AttributeError, NotImplementedError):
            continue
        return (f"restored the checkpoint under the root '{name}'",) if name not in ("", "model") else ()
    # None fits as a whole. What inference does not read (states of random generators, metrics) may lack.
    needed = _in_order_of_use(traced(program).graph)
    best: tuple[int, str, list[Any]] | None = None
    for name, checkpoint in attempts:
        missing = _unset_after(checkpoint, prefix, needed)
        if best is None or len(missing) < best[0]:
            best = (len(missing), name, missing)
        if not missing:
            return ("variables that inference does not read are not in the checkpoint",)
    assert best is not None
    raise _mismatch(model, prefix, best[1], best[2], needed, shapes)


def _in_order_of_use(graph: Any) -> list[Any]:
    """The variables of a traced graph, which keeps them in a set, as the computation comes upon them."""
    places = {id(handle): place for place, handle in enumerate(graph.external_captures)}
    return sorted(graph.variables, key=lambda variable: places.get(id(variable.handle), len(places)))


def _attempts(model: Any, reader: Any, shapes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Checkpoint objects to restore by: the model as root, and under each name that the checkpoint has."""
    import tensorflow as tf

    names: list[str] = []
    if _OBJECT_GRAPH in shapes:
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(reader.get_tensor(_OBJECT_GRAPH))
        names = [child.local_name for child in graph.nodes[0].children]
    usual = [name for name in _USUAL_ROOTS if name in names]
    others = [
        n for n in names if n not in usual and n.isidentifier() and not _TRAINING.search(n) and n != "root"
    ]
    optimizer = getattr(model, "optimizer", None)
    for name in usual:
        extra = {"optimizer": optimizer} if optimizer is not None and "optimizer" in names else {}
        yield name, tf.train.Checkpoint(**{name: model}, **extra)
    yield "", tf.train.Checkpoint(model)
    for name in others:
        yield name, tf.train.Checkpoint(**{name: model})


def _unset_after(checkpoint: Any, prefix: str, needed: Sequence[Any]) -> list[Any]:
    """The variables of ``needed`` that reading leaves as they are."""
    import tensorflow as tf

    marks = []
    for variable in needed:
        # A value that no training gives, so that what still has it was not restored.
        mark = tf.cast(tf.fill(variable.shape, 97), variable.dtype)
        variable.assign(mark)
        marks.append(mark.numpy())
    try:
        checkpoint.read(prefix).expect_partial()
    except (ValueError, tf.errors.OpError, KeyError, AttributeError, AssertionError):
        return list(needed)  # shapes differ: nothing is known to be right
    return [v for v, mark in zip(needed, marks, strict=True) if mark.size and (v.numpy() == mark).all()]


def _mismatch(
    model: Any,
    prefix: str,
    root: str,
    missing: Sequence[Any],
    needed: Sequence[Any],
    shapes: Mapping[str, Any],
) -> ConversionError:
    stored = {
        key.removesuffix(_VALUE_SUFFIX): tuple(shape)
        for key, shape in shapes.items()
        if not _TRAINING.search(key) or "_trainable_variables" in key
    }
    wanted = {_name(variable): tuple(variable.shape.as_list()) for variable in missing}
    free = list(stored.items())
    for variable in needed:  # what the rest of the model took, by shape
        shape = tuple(variable.shape.as_list())
        if _name(variable) not in wanted:
            taken = next((item for item in free if item[1] == shape), None)
            if taken is not None:
                free.remove(taken)
    lacking = ", ".join(f"{name} {list(shape)}" for name, shape in list(wanted.items())[:6])
    left = ", ".join(f"{name} {list(shape)}" for name, shape in free[:6]) or "nothing"
    likely = [
        f"{name} may be {match[0]}"
        for name in list(wanted)[:3]
        if (match := difflib.get_close_matches(name, [key for key, _ in free], n=1, cutoff=0.4))
    ]
    # Keras 2 numbers layers so; Keras 3 does not.
    if any("layer_with_weights-" in key for key in stored) and type(model).__module__.startswith("keras."):
        likely.append("the checkpoint was written by Keras 2: let the builder use tf_keras")
    return ConversionError(
        f"model and checkpoint do not fit: {len(missing)} of {len(needed)} variables get no value",
        where=prefix,
        why=f"missing in the checkpoint: {lacking}{' …' if len(wanted) > 6 else ''}; "
        f"left over in it: {left}{' …' if len(free) > 6 else ''}"
        + (f"; {'; '.join(likely)}" if likely else ""),
        hint="let the model builder build exactly the model that was saved: same layers, in the same order, "
        "with the same sizes" + (f" (best fit under the root '{root}')" if root else ""),
    )


def _name(variable: Any) -> str:
    return str(getattr(variable, "path", None) or variable.name).split(":")[0]
