"""Signatures of a session bundle: the export that TensorFlow Serving had before SavedModels.

The metagraph of such an export has a collection ``serving_signatures`` that holds one message
``tensorflow.serving.Signatures``, whose class no installed package has; so it is read as wire format.
Field numbers, as ``tensorflow/contrib/session_bundle/manifest.proto`` of TensorFlow 1.0 has them:

    Signatures               1 default signature, 2 named signatures (a map: 1 key, 2 signature)
    Signature                one of 1 regression, 2 classification, 3 generic
    RegressionSignature      1 input, 2 output
    ClassificationSignature  1 input, 2 classes, 3 scores
    GenericSignature         1 map from logical name to tensor (1 key, 2 tensor)
    TensorBinding            1 tensor name
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._wire import BYTES, walk
from edgeconv.formats.base import Signature, TensorSpec

DEFAULT_SIGNATURE = "serving_default"
GENERIC_SIGNATURE = "predict"
"""Name of the signature that the named signatures ``inputs`` and ``outputs`` make up together."""
_COLLECTION = "serving_signatures"
_REGRESSION, _CLASSIFICATION, _GENERIC = 1, 2, 3

_Tensors = dict[str, str]
"""Logical name to ``node:port``."""


def session_bundle_signatures(meta_graph: Any, view: GraphView) -> tuple[Signature, ...]:
    """The signatures of a session bundle, the default one first; empty where it is none, or broken.

    A default signature is called ``serving_default``; the pair of generic signatures that Serving's
    Predict call used is called ``predict``; other named ones keep their names.
    """
    if _COLLECTION not in meta_graph.collection_def:
        return ()
    found: dict[str, tuple[_Tensors, _Tensors]] = {}
    for item in meta_graph.collection_def[_COLLECTION].any_list.value:
        try:
            found |= _signatures(item.value)
        except (ValueError, UnicodeDecodeError):
            continue
    result = []
    for name, (inputs, outputs) in found.items():
        specs = _specs(inputs, view), _specs(outputs, view)
        if specs[0] is not None and specs[1]:
            result.append(Signature(name, specs[0], specs[1]))
    return tuple(result)


def _signatures(data: bytes) -> dict[str, tuple[_Tensors, _Tensors]]:
    found: dict[str, tuple[_Tensors, _Tensors]] = {}
    generic: dict[str, _Tensors] = {}
    for number, payload in _messages(data):
        if number == 1:
            kind, tensors = _signature(payload)
            if kind in (_REGRESSION, _CLASSIFICATION):
                found[DEFAULT_SIGNATURE] = _typed(kind, tensors)
            elif kind == _GENERIC:
                generic.setdefault("", tensors)
        elif number == 2:
            entry = dict(_messages(payload))
            name = entry.get(1, b"").decode("utf-8")
            kind, tensors = _signature(entry.get(2, b""))
            if kind in (_REGRESSION, _CLASSIFICATION):
                found[name] = _typed(kind, tensors)
            elif kind == _GENERIC:
                generic[name] = tensors
    if "inputs" in generic and "outputs" in generic:
        found[GENERIC_SIGNATURE] = (generic["inputs"], generic["outputs"])
    return found


def _signature(data: bytes) -> tuple[int, _Tensors]:
    """The kind of a signature, and its tensors by field number or by logical name."""
    for kind, payload in _messages(data):
        tensors: _Tensors = {}
        for number, inner in _messages(payload):
            if kind == _GENERIC:
                entry = dict(_messages(inner))
                tensors[entry.get(1, b"").decode("utf-8")] = _tensor(entry.get(2, b""))
            else:
                tensors[str(number)] = _tensor(inner)
        return kind, {name: tensor for name, tensor in tensors.items() if tensor}
    return 0, {}


def _typed(kind: int, tensors: Mapping[str, str]) -> tuple[_Tensors, _Tensors]:
    names = {"2": "outputs"} if kind == _REGRESSION else {"2": "classes", "3": "scores"}
    inputs = {"inputs": tensors["1"]} if "1" in tensors else {}
    return inputs, {name: tensors[number] for number, name in names.items() if number in tensors}


def _tensor(data: bytes) -> str:
    return dict(_messages(data)).get(1, b"").decode("utf-8")


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    """Number and payload of the fields that are messages or texts.

    Raises:
        ValueError: this is no wire format.
    """
    fields = list(walk(data))
    if not all(field.whole for field in fields if field.kind == BYTES):
        raise ValueError("a field is cut off")
    return [(field.number, field.payload) for field in fields if field.kind == BYTES]


def _specs(tensors: Mapping[str, str], view: GraphView) -> tuple[TensorSpec, ...] | None:
    """The specs of tensors by logical name; ``None`` where the graph lacks one."""
    specs = []
    for name in sorted(tensors):
        node, port = tensor_node(tensors[name])
        if node not in view.nodes:
            return None
        specs.append(TensorSpec(name, view.dtype(node, port), view.shape(node, port), f"{node}:{port}"))
    return tuple(specs)
