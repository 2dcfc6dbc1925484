"""TensorFlow's protocol buffer classes without TensorFlow.

Importing ``tensorflow`` takes seconds; its generated ``*_pb2`` modules take milliseconds, but each begins
with ``from tensorflow.core… import …``, which would run the whole package first. Here they are executed
from the installed files with an import function of their own that resolves names below ``tensorflow``
to such privately executed modules, and everything else as usual. ``sys.modules`` is never touched, so
threads that import the real package meanwhile see nothing of it. Because the descriptor pool is one per
process, the real package, imported earlier or later, has the very same message classes.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeconv.errors import InvalidModelError, UnavailableError

_LOCK = threading.RLock()
_MODULES: dict[str, ModuleType] = {}


@dataclass(frozen=True, slots=True)
class TensorFlowProtos:
    """The message classes that files of TensorFlow are made of."""

    GraphDef: Any
    NodeDef: Any
    FunctionDef: Any
    MetaGraphDef: Any
    SavedModel: Any
    FingerprintDef: Any
    VariableDef: Any
    BundleHeaderProto: Any
    BundleEntryProto: Any
    TrackableObjectGraph: Any
    SavedTensorSlices: Any


@cache
def tensorflow_protos() -> TensorFlowProtos:
    """The message classes, imported on the first call without running TensorFlow's ``__init__``.

    Raises:
        UnavailableError: TensorFlow is not installed.
    """
    with _LOCK:
        graph = _load("tensorflow.core.framework.graph_pb2")
        return TensorFlowProtos(
            GraphDef=graph.GraphDef,
            NodeDef=_load("tensorflow.core.framework.node_def_pb2").NodeDef,
            FunctionDef=_load("tensorflow.core.framework.function_pb2").FunctionDef,
            MetaGraphDef=_load("tensorflow.core.protobuf.meta_graph_pb2").MetaGraphDef,
            SavedModel=_load("tensorflow.core.protobuf.saved_model_pb2").SavedModel,
            FingerprintDef=_load("tensorflow.core.protobuf.fingerprint_pb2").FingerprintDef,
            VariableDef=_load("tensorflow.core.framework.variable_pb2").VariableDef,
            BundleHeaderProto=_load("tensorflow.core.protobuf.tensor_bundle_pb2").BundleHeaderProto,
            BundleEntryProto=_load("tensorflow.core.protobuf.tensor_bundle_pb2").BundleEntryProto,
            TrackableObjectGraph=_load(
                "tensorflow.core.protobuf.trackable_object_graph_pb2"
            ).TrackableObjectGraph,
            SavedTensorSlices=_load("tensorflow.core.util.saved_tensor_slice_pb2").SavedTensorSlices,
        )


def parse_binary(kind: Callable[[], Any], data: bytes, path: Path, noun: str) -> Any:
    """Parse ``data`` as a message of class ``kind``.

    Raises:
        InvalidModelError: the bytes are no such message; ``noun`` says what was expected.
    """
    from google.protobuf.message import DecodeError

    message = kind()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise InvalidModelError(
            f"the {noun} is truncated or corrupt",
            where=str(path),
            why=_why_undecodable(data),
            hint="copy or export the model again",
        ) from error
    return message


def _why_undecodable(data: bytes) -> str:
    replacements = data.count("\ufffd".encode())
    if replacements > 8 and replacements > len(data) // 1000:
        return f"it was once treated as text, which replaced {replacements} of its bytes"
    return "its protocol buffer does not decode"


def parse_text(kind: Callable[[], Any], data: bytes, path: Path, noun: str) -> Any:
    """Parse ``data`` as the text form of a message of class ``kind``.

    Raises:
        InvalidModelError: the text is no such message; says the line.
    """
    from google.protobuf import text_format

    message = kind()
    try:
        text_format.Parse(data.decode("utf-8"), message)
    except text_format.ParseError as error:
        raise InvalidModelError(
            f"the text of the {noun} is truncated or corrupt",
            where=str(path),
            why=" ".join(str(error).split())[:160],
            hint="copy or export the model again",
        ) from error
    except (UnicodeDecodeError, ValueError, RecursionError, OverflowError, TypeError) as error:
        raise InvalidModelError(
            f"the text of the {noun} is truncated or corrupt",
            where=str(path),
            hint="copy or export the model again",
        ) from error
    return message


@cache
def _package_folder() -> Path:
    spec = PathFinder.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(
            "TensorFlow is not installed",
            why="its message definitions are needed to read this file",
            hint="pip install edgeconv, which brings it",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _load(name: str) -> ModuleType:
    if name in _MODULES:
        return _MODULES[name]
    path = _package_folder().joinpath(*name.split(".")[1:]).with_suffix(".py")
    if not path.is_file():
        raise UnavailableError(
            f"the installed TensorFlow has no '{name}'",
            hint="install the version of TensorFlow that edgeconv asks for",
        )
    module = ModuleType(name)
    module.__file__ = str(path)
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
    code = SourceFileLoader(name, str(path)).get_code(name)
    exec(code, module.__dict__)  # type: ignore[arg-type]
    _MODULES[name] = module
    return module


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002 - the names of builtins.__import__
    locals: Mapping[str, object] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """``__import__`` as the generated modules see it."""
    if level or name.partition(".")[0] != "tensorflow":
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    package = ModuleType(name)
    for child in fromlist or ():
        setattr(package, child, _load(f"{name}.{child}"))
    return package
