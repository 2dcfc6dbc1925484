"""Opening Keras files of all generations, without running code that comes with them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError, InvalidModelError, UsageError
from edgeconv.formats.base import Contract
from edgeconv.runtimes._keras_config import KerasFile, read_architecture, read_keras_file, refuse_code
from edgeconv.runtimes._keras_custom import custom_objects, legacy_keras
from edgeconv.runtimes._keras_diagnosis import diagnosed
from edgeconv.runtimes._keras_legacy import build_legacy, own_names
from edgeconv.runtimes._keras_precision import in_full_precision
from edgeconv.runtimes._keras_weights import Origin, load_weights, spatial_kernels
from edgeconv.runtimes._programs import Program, program_of_keras


def load_keras_program(
    path: Path, options: Mapping[str, Any], contract: Contract | None = None
) -> tuple[Program, tuple[str, ...]]:
    """Open a Keras file as a program, uncompiled, in inference mode.

    Files of Keras 1 and 2 are opened by tf_keras, those of Keras 3 by keras, and by the other one where
    that fails and gives the same numbers.

    Args:
        path: a whole model, or weights alone.
        options: of the user's: ``trust``; ``custom_objects``, a module; ``config``, the architecture, or
            ``model_builder``, the code, of weights alone; ``keras_backend`` of an old file.
        contract: states the shapes of inputs where the file does not.

    Returns:
        The program, and notes for the person.

    Raises:
        InvalidModelError: not a Keras file, or weights alone and nothing to put them into.
        UntrustedModelError: loading would run code that comes with the file.
        UsageError: a custom class or function is missing, or what an option names is wrong.
        ConversionError: neither library can open it, or model and weights do not fit.
    """
    file = read_keras_file(path)
    job = _Job(path, file, options, contract)
    if options.get("model_builder"):
        return _built(job)
    if options.get("config"):
        config, version, backend = read_architecture(Path(str(options["config"])))
        stated = version or file.version or ("3" if "module" in config and not file.named else None)
        job = replace(
            job,
            file=replace(file, config=config, version=stated, backend=file.backend or backend),
            apart=True,
        )
    if job.file.config is None:
        raise InvalidModelError(
            "the file holds weights but no model",
            where=str(path),
            why="it was written by save_weights",
            hint="give the architecture: --config model.json (what model.to_json() gave), or the code that "
            "builds the model: --model-builder MODULE:FUNCTION",
        )
    order = [_open_with_keras, _open_with_tf_keras]
    if job.file.major < 3:
        order.reverse()
    failures: list[Exception] = []
    for opener in order:
        if failures and _differs(job.file):
            break
        try:
            program, notes = opener(job)
        except Exception as error:  # any of the library's own, over years of versions
            if isinstance(error, EdgeconvError) and not failures:
                raise
            failures.append(error)
            continue
        if opener is not order[0]:
            notes = (*notes, f"opened by {_LIBRARY[opener]}: {_LIBRARY[order[0]]} could not")
        return program, notes
    raise diagnosed(path, job.file, failures, options)


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    file: KerasFile
    options: Mapping[str, Any]
    contract: Contract | None
    apart: bool = False
    """Whether the file holds the weights alone, and the config comes from elsewhere."""

    @property
    def trust(self) -> bool:
        return bool(self.options.get("trust"))

    @property
    def place(self) -> str | None:
        place = self.options.get("custom_objects")
        return None if place is None else str(place)


def _open_with_keras(job: _Job) -> tuple[Program, tuple[str, ...]]:
    import keras

    assert job.file.config is not None
    custom = custom_objects(job.place)
    own = own_names(job.file.config, {**keras.saving.get_custom_objects(), **custom})
    refuse_code(job.file.config, job.path, job.options, own)
    path = str(job.path)
    with keras.saving.custom_object_scope(own), _safe(keras, job.trust):
        if job.apart:
            model = keras.models.model_from_json(_text(job.file.config), custom_objects=own)
            _load_paths(model, job.path)
        elif job.file.container == "h5":
            # keras goes by the suffix; any suffix is allowed here.
            from keras.src.legacy.saving import legacy_h5_format

            model = legacy_h5_format.load_model_from_hdf5(path, custom_objects=own, compile=False)
        else:
            with _suffixed(job.path, ".keras") as archive:
                model = keras.saving.load_model(
                    archive, custom_objects=own, compile=False, safe_mode=not job.trust
                )
    _require_inputs(model, job)
    notes = in_full_precision(model)
    return program_of_keras(model, path), notes


def _open_with_tf_keras(job: _Job) -> tuple[Program, tuple[str, ...]]:
    import tf_keras

    assert job.file.config is not None
    path = str(job.path)
    with legacy_keras():
        custom = custom_objects(job.place)
        own = own_names(job.file.config, {**tf_keras.saving.get_custom_objects(), **custom})
        refuse_code(job.file.config, job.path, job.options, own)
        notes: tuple[str, ...] = ()
        if job.file.container == "zip" and not job.apart:
            with _suffixed(job.path, ".keras") as archive:
                model = tf_keras.saving.load_model(
                    archive, custom_objects=own, compile=False, safe_mode=not job.trust
                )
        else:
            shapes = () if job.contract is None else tuple(spec.shape for spec in job.contract.inputs)
            model, notes = build_legacy(job.file, path, own, job.trust, shapes)
            notes = (*notes, *_restore_legacy(model, job))
    _require_inputs(model, job)
    notes = (*notes, *in_full_precision(model))
    program = program_of_keras(model, path)
    if job.place is None:
        return program, notes

    def call(flat: Any) -> list[Any]:
        # The custom layers' code may say tf.keras as long as it runs.
        with legacy_keras():
            return program.call(flat)

    return replace(program, call=call), notes


_LIBRARY = {_open_with_keras: "keras", _open_with_tf_keras: "tf_keras"}


def _built(job: _Job) -> tuple[Program, tuple[str, ...]]:
    """The model that the person's own code builds, with the weights of the file."""
    from edgeconv.runtimes._model_builder import built_model

    # Only tf_keras's way converts the weights of Keras 1 and turns those of Theano.
    converted = job.file.named and (job.file.major < 2 or job.file.backend == "theano")
    with legacy_keras() if converted else contextlib.nullcontext():
        model = built_model(job.options, str(job.path))
    if not (hasattr(model, "layers") and hasattr(model, "load_weights")):
        raise UsageError(
            f"the model builder gave a {type(model).__name__}, not a Keras model",
            where=str(job.path),
            hint="let it return the keras.Model that the weights belong to",
        )
    notes: tuple[str, ...] = ()
    legacy = type(model).__module__.startswith("tf_keras") or any(
        base.__module__.startswith("tf_keras") for base in type(model).__mro__
    )
    try:
        if legacy and job.file.container == "h5" and job.file.named:
            notes = _restore_legacy(model, job)
        else:
            _load_paths(model, job.path)
    except EdgeconvError:
        raise
    except Exception as error:  # the library's own
        raise diagnosed(job.path, job.file, [error], job.options) from error
    _require_inputs(model, job)
    notes = (*notes, *in_full_precision(model))
    return program_of_keras(model, str(job.path)), notes


def _restore_legacy(model: Any, job: _Job) -> tuple[str, ...]:
    """Put the weights of the HDF5 file into a model of tf_keras; says what it took for granted."""
    import h5py

    if not job.file.named:
        _load_paths(model, job.path)
        return ()
    backend, notes = _backend(model, job)
    origin = Origin(job.file.major, job.file.version or "1", backend)
    with h5py.File(job.path, "r") as stream:
        group = stream.get("model_weights", stream)
        load_weights(group, model, origin, str(job.path))
    return notes


def _backend(model: Any, job: _Job) -> tuple[str | None, tuple[str, ...]]:
    """What the model was trained with: it decides whether kernels are turned around."""
    said, given = job.file.backend, job.options.get("keras_backend")
    if said is not None and given is not None and said != given:
        raise UsageError(
            f"--keras-backend {given} contradicts the file, which says {said}",
            where=str(job.path),
            hint="leave it out",
        )
    backend = said or given
    kernels = spatial_kernels(model)
    if not kernels or (job.file.major >= 2 and backend is None):
        return backend, ()
    if backend is None:
        layers = {layer.name: layer for layer in model._flatten_layers()}
        if any(getattr(layers[n], "data_format", None) == "channels_first" for n in kernels if n in layers):
            raise UsageError(
                "the file does not say whether the model was trained with Theano or with TensorFlow",
                where=str(job.path),
                why="its channels come first, which was Theano's way, and Theano turns the kernels of "
                f"convolutions around: {', '.join(kernels[:4])}",
                hint="say it: --keras-backend theano (the default of Keras before 1.1), or tensorflow",
            )
        note = (
            "the file does not say what the model was trained with: its channels come last, which is "
            "TensorFlow's way, so kernels were taken as TensorFlow's (else: --keras-backend theano)"
        )
        return None, (note,)
    if backend != "theano":
        return str(backend), ()
    odd = _padded_otherwise(model)
    notes = ["the model was trained with Theano: the kernels of its convolutions were turned around"]
    if odd:
        notes.append(
            f"Theano pads 'same' evenly and TensorFlow more at the end, so {', '.join(odd[:4])} may differ "
            "from what was trained, most at the borders"
        )
    return "theano", tuple(notes)


def _padded_otherwise(model: Any) -> list[str]:
    found = []
    for layer in model._flatten_layers():
        size = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
        strides = getattr(layer, "strides", None)
        if getattr(layer, "padding", None) != "same" or not isinstance(size, tuple):
            continue
        if any(k % 2 == 0 for k in size) or (isinstance(strides, tuple) and any(s > 1 for s in strides)):
            found.append(str(layer.name))
    return found


def _load_paths(model: Any, path: Path) -> None:
    """``load_weights`` for a file of any suffix."""
    import zipfile

    suffix = ".keras" if zipfile.is_zipfile(path) else ".h5" if read_keras_file(path).named else ".weights.h5"
    with _suffixed(path, suffix) as named:
        model.load_weights(named)


@contextlib.contextmanager
def _suffixed(path: Path, suffix: str) -> Iterator[str]:
    """The file under a name that ends so, as Keras goes by it."""
    if path.name.endswith(suffix):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.absolute())
        yield str(link)


def _require_inputs(model: Any, job: _Job) -> None:
    """Build a model that states no shape on the shapes that the person states."""
    if getattr(model, "inputs", None) or job.contract is None:
        return
    shapes = [spec.shape for spec in job.contract.inputs]
    if shapes and all(shape is not None for shape in shapes):
        with contextlib.suppress(ValueError, TypeError, NotImplementedError):
            model.build(shapes[0] if len(shapes) == 1 else shapes)


def _safe(library: Any, trust: bool) -> Any:
    from keras.src.saving import serialization_lib

    return serialization_lib.SafeModeScope(not trust)


def _differs(file: KerasFile) -> bool:
    """Whether keras and tf_keras mean different functions by the same config.

    Their hard_sigmoid differs: clip(0.2 x + 0.5) in Keras 1 and 2, clip(x / 6 + 0.5) in Keras 3. And only
    tf_keras's way turns and converts the weights of Keras 1.
    """
    return file.major < 2 or file.backend == "theano" or "hard_sigmoid" in _text(file.config)


def _text(config: Any) -> str:
    import json

    return json.dumps(config)
