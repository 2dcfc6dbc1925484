"""The verbs of the protocol, a function each: ``(session, header, body) -> (result, arrays)``."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, Tuple

from . import wire
from .backends.base import Model, backends
from .errors import AgentError
from .heartbeat import Heartbeat
from .store import Store

Arrays = List[Tuple[str, Any]]
Answer = Tuple[Dict[str, Any], Arrays]


class Session:
    """What one agent has open."""

    def __init__(self, store: Store, heartbeat: Heartbeat) -> None:
        self.store = store
        self.heartbeat = heartbeat
        self.models: dict[int, Model] = {}
        self.folders: dict[int, str] = {}
        self._next = 1

    def add(self, model: Model, folder: str) -> int:
        """Keep a model; returns the number that the other verbs name it by."""
        number = self._next
        self._next += 1
        self.models[number] = model
        if folder:
            self.folders[number] = folder
        return number

    def model(self, header: wire.Header) -> Model:
        """The model that a request names."""
        model = self.models.get(header.get("model", 0))
        if model is None:
            raise AgentError("usage", "there is no open model %.40r" % (header.get("model"),))
        return model

    def drop(self, number: int) -> None:
        """Close one model."""
        model = self.models.pop(number, None)
        if model is not None:
            model.close()
        folder = self.folders.pop(number, None)
        if folder is not None:
            self.store.remove(folder)

    def close(self) -> None:
        """Close all that is open."""
        for number in list(self.models):
            self.drop(number)
        self.store.close()


def missing(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``files``: hashes. Gives ``missing``, those that are not on the device."""
    return {"missing": session.store.missing([str(sha) for sha in header.get("files", [])])}, []


def put(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``sha256``, ``size``, ``offset`` and the bytes: one part of a file. Gives ``received``."""
    sha, size, offset = str(header.get("sha256")), int(header.get("size", -1)), int(header.get("offset", -1))
    return {"received": session.store.put(sha, size, offset, bytes(body))}, []


def open_(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """Load a model.

    ``backend``, ``format``, ``options``; and either ``path``, on a device that shares the host's files, or
    ``files`` (relative name to hash) and ``main`` (which of them, empty for the folder). Gives ``model`` (its
    number), ``inputs``, ``outputs``, ``seconds``, ``version`` and ``placement``.
    """
    backend = backends().get(str(header.get("backend")))
    if backend is None:
        raise AgentError("usage", "there is no runtime %.80r" % (header.get("backend"),))
    version = backend.version()
    if version is None:
        raise AgentError("unavailable", "%s is not installed for this Python" % backend.name)
    folder = ""
    if "files" in header:
        folder = session.store.lay_out({str(k): str(v) for k, v in header["files"].items()})
        path = os.path.join(folder, str(header.get("main") or ""))
    else:
        path = str(header.get("path"))
        if not os.path.exists(path):
            raise AgentError("usage", "no such file: %s" % path)
    begun = time.perf_counter_ns()
    try:
        model = backend.open(path, str(header.get("format")), dict(header.get("options") or {}))
    except BaseException:
        session.store.remove(folder)
        raise
    nanoseconds = time.perf_counter_ns() - begun
    return {
        "model": session.add(model, folder),
        "inputs": model.inputs,
        "outputs": model.outputs,
        "seconds": nanoseconds / 1e9,
        "version": version,
        "placement": model.placement(),
    }, []


def infer(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``model`` and one array for each of its inputs, by name. Gives its outputs."""
    model = session.model(header)
    given = dict(wire.unpack(header.get("arrays", []), body))
    wanted = [tensor["name"] for tensor in model.inputs]
    if sorted(given) != sorted(wanted):
        raise AgentError("usage", "the inputs are %s" % ", ".join(wanted))
    values = model.infer([given[name] for name in wanted])
    return {}, [(tensor["name"], value) for tensor, value in zip(model.outputs, values)]


def close(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``model``: give its memory back."""
    session.drop(int(header.get("model", 0)))
    return {}, []


VERBS: dict[str, Callable[[Session, wire.Header, bytearray], Answer]] = {
    "missing": missing,
    "put": put,
    "open": open_,
    "infer": infer,
    "close": close,
}
