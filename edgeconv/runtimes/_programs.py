"""A callable model in this process (a Keras model, or a ``tf.Module``) behind flat, named tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes._keras_state import about_state, stateful_layers, stateless
from edgeconv.runtimes._tensorflow import (
    as_array,
    as_conversion_error,
    dtype_name,
    session_config_of_layouts,
    shape_of,
)
from edgeconv.runtimes.base import Session
from edgeconv.runtimes.binding import checked_inputs

_SERVING_NAMES = ("serving_default", "serve", "serving", "predict", "infer", "__call__", "call")


@dataclass(frozen=True, slots=True)
class Program:
    """A model as a function from flat tensors to flat tensors, in inference mode.

    Attributes:
        owner: the object that holds the variables; must stay alive as long as ``call`` is used.
        inputs: one spec for each argument of ``call``.
        outputs: one spec for each result of ``call``.
        call: takes TensorFlow tensors in the order of ``inputs``, gives a list in that of ``outputs``.
        notes: what a person has to know of the function.
    """

    owner: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Callable[[Sequence[Any]], list[Any]]
    notes: tuple[str, ...] = ()


def program_of_keras(model: Any, path: str) -> Program:
    """The program of a Keras model of either generation.

    Names of inputs are those of the input layers, names of outputs those of the layers that make them, or
    the keys where the model was built from dictionaries; doubled ones get ``_1``, ``_2``.

    Raises:
        UsageError: the model does not know its inputs (a subclassed model that was never called).
    """
    import tensorflow as tf

    symbolic = getattr(model, "inputs", None)
    if not symbolic and (stated := _stated_inputs(model)) is not None:
        return _program_of_subclass(model, stated, path)
    if not symbolic:
        raise UsageError(
            f"the model '{getattr(model, 'name', type(model).__name__)}' does not know its inputs",
            where=path,
            why="a subclassed or Sequential model has none until it was built",
            hint="give its first layer an input shape, or call it once on an example, before it is saved or, "
            "in a model builder, returned: model(tf.zeros([1, …]))",
        )
    input_struct, output_struct = _structures(model)
    inputs = tf.nest.flatten(input_struct)
    outputs = tf.nest.flatten(output_struct)
    input_names = _dictionary_names(input_struct) or [_input_name(model, i) for i in range(len(inputs))]
    output_names = _dictionary_names(output_struct) or list(
        _output_names(model) or [f"output_{i}" for i in range(len(outputs))]
    )

    kept = stateful_layers(model)

    def call(flat: Sequence[Any]) -> list[Any]:
        packed = tf.nest.pack_sequence_as(input_struct, list(flat))
        with stateless(kept):
            return [tf.convert_to_tensor(value) for value in tf.nest.flatten(model(packed, training=False))]

    return Program(
        owner=model,
        inputs=_specs(input_names, inputs),
        outputs=_specs(output_names, outputs),
        call=call,
        notes=about_state(kept),
    )


def _stated_inputs(model: Any) -> Any | None:
    """Specs of the one argument of a subclassed model that was called or built; ``None`` where nothing tells.

    tf_keras keeps the specs of what it was called with and the shape that ``build`` was given, Keras 3 the
    latter under the name of the argument.
    """
    import tensorflow as tf

    save_spec = getattr(model, "save_spec", None)
    found = save_spec() if callable(save_spec) else None
    if found is not None:
        args, keywords = found
        return args[0] if len(args) == 1 and not tf.nest.flatten(keywords) else None
    shape = getattr(model, "_build_input_shape", None)
    if shape is None:
        known = getattr(model, "_build_shapes_dict", None)
        shape = next(iter(known.values())) if known and len(known) == 1 else None
    if shape is None:
        return None
    try:
        shape = tf.TensorShape(shape)
    except (TypeError, ValueError):
        return None  # of several inputs, whose types nobody tells
    return tf.TensorSpec([None, *shape[1:]] if shape.rank else shape, tf.float32, "x")


def _program_of_subclass(model: Any, stated: Any, path: str) -> Program:
    """The program of a subclassed model that takes tensors like ``stated``."""
    import tensorflow as tf

    kept = stateful_layers(model)

    def run(packed: Any) -> Any:
        with stateless(kept):
            return model(packed, training=False)

    flat_specs = tf.nest.flatten(stated)
    try:
        gives = tf.function(run, autograph=False).get_concrete_function(stated).structured_outputs
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise as_conversion_error(error, "tracing the model failed", path) from error
    results = tf.nest.flatten(gives)
    names = _dictionary_names(stated) or [
        str(getattr(spec, "name", None) or f"input_{i + 1}").split(":")[0]
        for i, spec in enumerate(flat_specs)
    ]

    def call(flat: Sequence[Any]) -> list[Any]:
        packed = tf.nest.pack_sequence_as(stated, list(flat))
        return [tf.convert_to_tensor(value) for value in tf.nest.flatten(run(packed))]

    return Program(
        owner=model,
        inputs=_specs(names, flat_specs),
        outputs=_specs(_dictionary_names(gives) or [f"output_{i + 1}" for i in range(len(results))], results),
        call=call,
        notes=about_state(kept),
    )


def program_of_module(module: Any, path: str, signature: str | None = None) -> Program:
    """The program of a ``tf.Module`` or any trackable object with a ``tf.function`` of fixed input signature.

    Raises:
        UsageError: it has none, or the one asked for is not there.
    """
    import tensorflow as tf

    names = (signature,) if signature else _SERVING_NAMES
    for name in names:
        attribute = getattr(module, name, None)
        concrete = attribute if hasattr(attribute, "structured_outputs") else None
        if (
            concrete is None
            and attribute is not None
            and getattr(attribute, "input_signature", None) is not None
        ):
            try:
                concrete = attribute.get_concrete_function()
            except (ValueError, TypeError, tf.errors.OpError) as error:
                raise as_conversion_error(error, f"tracing '{name}' of the model failed", path) from error
        if concrete is not None:
            return _program_of_concrete(module, concrete)
    raise UsageError(
        f"the model builder gave a {type(module).__name__} that cannot be called with known shapes",
        where=path,
        hint="return a built keras.Model, or decorate the module's __call__ with "
        "@tf.function(input_signature=[tf.TensorSpec(shape, dtype, name='…')])",
    )


def renamed(program: Program, contract: Contract | None) -> Program:
    """The program under the logical names of ``contract``, with its pinned shapes.

    Matched by name where the names are the same set, else by position where the numbers are the same.

    Raises:
        UsageError: the numbers of inputs or outputs differ.
    """
    if contract is None:
        return program
    inputs, input_order = _match(program.inputs, contract.inputs, "inputs")
    outputs, output_order = _match(program.outputs, contract.outputs, "outputs")

    def call(flat: Sequence[Any]) -> list[Any]:
        native = [flat[input_order.index(i)] for i in range(len(program.inputs))]
        results = program.call(native)
        return [results[i] for i in output_order]

    return Program(owner=program.owner, inputs=inputs, outputs=outputs, call=call)


def traced(program: Program) -> Any:
    """The program as a ConcreteFunction with named placeholders; outputs are a dict by logical name."""
    import tensorflow as tf

    signature = [
        tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype), name=identifier(spec.name))
        for spec in program.inputs
    ]

    def serve(*flat: Any) -> dict[str, Any]:
        values = program.call(flat)
        return {
            spec.name: tf.identity(value, name=identifier(spec.name))
            for spec, value in zip(program.outputs, values, strict=True)
        }

    return tf.function(serve, input_signature=signature, autograph=False).get_concrete_function()


def identifier(name: str) -> str:
    """``name`` with all that TensorFlow does not take in the name of an op or argument replaced by ``_``."""
    text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return text if text[:1].isalnum() and not text[:1].isdigit() else f"x{text}" if text else "x"


class ProgramSession(Session):
    """A :class:`Program` as a runtime's session."""

    def __init__(self, program: Program, path: str) -> None:
        self.inputs = program.inputs
        self.outputs = program.outputs
        self._owner: Any = program.owner
        self._path = path
        self._function: Any = traced(program)
        self._turned = session_config_of_layouts(self._function.graph.as_graph_def())

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`edgeconv.runtimes.base.Session.infer`."""
        import tensorflow as tf

        call = self.prepare(inputs)
        try:
            values: Any = call()
        except (tf.errors.OpError, ValueError) as error:
            raise as_conversion_error(error, "TensorFlow could not run the model", self._path) from error
        return {spec.name: as_array(values[spec.name].numpy()) for spec in self.outputs}

    def prepare(self, inputs: Mapping[str, Any]) -> Callable[[], object]:
        """See :meth:`edgeconv.runtimes.base.Session.prepare`."""
        import tensorflow as tf

        if self._function is None:
            raise UsageError("this session is closed", where=self._path)
        feeds = checked_inputs(inputs, self.inputs, self._path)
        constants = [tf.constant(feeds[spec.name]) for spec in self.inputs]
        function, turned = self._function, self._turned

        def call() -> Any:
            with _layouts_turned(turned):
                return function(*constants)

        return call

    def close(self) -> None:
        """See :meth:`edgeconv.runtimes.base.Session.close`."""
        self._function = self._owner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def _layouts_turned(config: Any) -> Iterator[None]:
    """Lets functions be called under ``config``, where it is not ``None``."""
    if config is None:
        yield
        return
    from tensorflow.python.eager import context

    current = context.context()
    before = current.function_call_options
    current.function_call_options = context.FunctionCallOptions(config_proto=config)
    try:
        yield
    finally:
        current.function_call_options = before


def configure_threads(threads: int) -> None:
    """Ask TensorFlow for ``threads`` intra-op threads; has no effect once its context exists."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        # The context of this process exists already: its number of threads is what it is.
        return


def _structures(model: Any) -> tuple[Any, Any]:
    for inner in ("_inputs_struct", "_nested_inputs"):
        if getattr(model, inner, None) is not None:
            outer = {"_inputs_struct": "_outputs_struct", "_nested_inputs": "_nested_outputs"}[inner]
            return getattr(model, inner), getattr(model, outer)
    functional = getattr(model, "_functional", None)
    if functional is not None:
        return _structures(functional)
    inputs, outputs = model.inputs, model.outputs
    return (inputs[0] if len(inputs) == 1 else inputs), (outputs[0] if len(outputs) == 1 else outputs)


def _dictionary_names(struct: Any) -> list[str] | None:
    if isinstance(struct, Mapping) and all(hasattr(value, "dtype") for value in struct.values()):
        return sorted(str(key) for key in struct)
    return None


def _input_name(model: Any, index: int) -> str:
    names = getattr(model, "input_names", None)
    if names and len(names) > index:
        return str(names[index])
    return str(model.inputs[index].name).split(":")[0]


def _output_names(model: Any) -> list[str] | None:
    # A Sequential model of Keras 3 keeps what a functional one knows inside.
    for owner in (model, getattr(model, "_functional", None)):
        names = getattr(owner, "output_names", None)
        if names:
            return [str(name) for name in names]
    return None


def _specs(names: Sequence[str], tensors: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, dtype=dtype_name(tensor.dtype), shape=_plain(tensor.shape))
        for name, tensor in zip(unique(names), tensors, strict=True)
    )


def unique(names: Sequence[str]) -> list[str]:
    """The same names, later duplicates with ``_1``, ``_2`` behind them."""
    taken: set[str] = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        fresh = name
        number = 1
        while fresh in seen or (fresh != name and fresh in taken):
            fresh = f"{name}_{number}"
            number += 1
        seen.add(fresh)
        result.append(fresh)
    return result


def _plain(shape: Any) -> tuple[int | None, ...] | None:
    return shape_of(shape) if hasattr(shape, "rank") else tuple(shape)


def _match(
    own: tuple[TensorSpec, ...], wanted: tuple[TensorSpec, ...], what: str
) -> tuple[tuple[TensorSpec, ...], list[int]]:
    names = [spec.name for spec in own]
    if set(names) == {spec.name for spec in wanted}:
        order = [names.index(spec.name) for spec in wanted]
    elif len(own) == len(wanted):
        order = list(range(len(own)))
    else:
        raise UsageError(
            f"the model has the {what} {', '.join(names)}, not {', '.join(s.name for s in wanted)}",
            hint=f"name all {len(own)} {what}, or none",
        )
    matched = []
    for spec, index in zip(wanted, order, strict=True):
        shape = own[index].shape if spec.shape is None or what == "outputs" else spec.shape
        matched.append(replace(own[index], name=spec.name, shape=shape, tensor=None))
    return tuple(matched), order


def _program_of_concrete(module: Any, concrete: Any) -> Program:
    import tensorflow as tf

    arguments, keywords = concrete.structured_input_signature
    flat_specs = tf.nest.flatten((arguments, keywords))
    output_struct = concrete.structured_outputs
    flat_outputs = tf.nest.flatten(output_struct)
    output_names = _dictionary_names(output_struct) or [
        "output" if len(flat_outputs) == 1 else f"output_{i}" for i in range(len(flat_outputs))
    ]

    def call(flat: Sequence[Any]) -> list[Any]:
        packed_arguments, packed_keywords = tf.nest.pack_sequence_as((arguments, keywords), list(flat))
        return list(tf.nest.flatten(concrete(*packed_arguments, **packed_keywords)))

    names = [str(spec.name or f"input_{i}") for i, spec in enumerate(flat_specs)]
    return Program(
        owner=(module, concrete),
        inputs=_specs(names, flat_specs),
        outputs=_specs(output_names, flat_outputs),
        call=call,
    )
