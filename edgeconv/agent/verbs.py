"""The verbs of the protocol, a function each: ``(session, header, body) -> (result, arrays)``."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, Tuple

from . import fields, wire
from .backends.base import Model, backends, explained, in_order, known_options
from .errors import AgentError
from .heartbeat import Heartbeat
from .memory import memory as memory_now
from .memory import reset_peak
from .store import Store

Arrays = List[Tuple[str, Any]]
Answer = Tuple[Dict[str, Any], Arrays]
MOST_MODELS = 64
MOST_PROFILED = 1000


class Opened:
    """A model with what the session knows of it."""

    def __init__(self, model: Model, folder: str) -> None:
        self.model = model
        self.folder = folder
        self.first_ns: int | None = None
        """Nanoseconds of its first inference, where that was one of ``measure``."""
        self.has_run = False


class Session:
    """What one agent has open."""

    def __init__(self, store: Store, heartbeat: Heartbeat) -> None:
        self.store = store
        self.heartbeat = heartbeat
        self.models: dict[int, Opened] = {}
        self.workers: dict[int, Any] = {}
        """Forked processes that wait for ``burst``, by their number."""
        self.is_forking = False
        self._laid_out: dict[str, str] = {}
        self._next = 1

    @property
    def has_opened(self) -> bool:
        """Whether a model was ever opened in this process."""
        return self._next > 1

    def path_of(self, header: wire.Header) -> str:
        """The path of the model that a request names; what was sent is laid out once for all launches."""
        key = repr((header.get("files"), header.get("main"), header.get("path")))
        if key not in self._laid_out:
            self._laid_out[key] = _file_of(self, header)[1]
        return self._laid_out[key]

    def add(self, model: Model, folder: str) -> int:
        """Keep a model; returns the number that the other verbs name it by."""
        number = self._next
        self._next += 1
        self.models[number] = Opened(model, folder)
        return number

    def opened(self, number: Any) -> Opened:
        """The model of that number.

        Raises:
            AgentError: there is none (``usage``).
        """
        opened = self.models.get(number) if isinstance(number, int) else None
        if opened is None:
            raise AgentError("usage", "there is no open model %.40r" % (number,))
        return opened

    def drop(self, number: int) -> None:
        """Close one model."""
        opened = self.models.pop(number, None)
        if opened is not None:
            opened.model.close()
            if opened.folder:
                self.store.remove(opened.folder)

    def close(self) -> None:
        """Close all that is open."""
        for worker in self.workers.values():
            worker.end()
        self.workers.clear()
        for number in list(self.models):
            self.drop(number)
        self.store.close()


def missing(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``files``: hashes. Gives ``missing``, those that are not on the device."""
    return {"missing": session.store.missing(fields.texts(header, "files"))}, []


def put(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``sha256``, ``size``, ``offset`` and the bytes: one part of a file. Gives ``received``."""
    sha = fields.text(header, "sha256")
    size, offset = fields.whole(header, "size"), fields.whole(header, "offset")
    return {"received": session.store.put(sha, size, offset, body)}, []


def versions(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """Gives ``runtimes``: name to version, ``null`` where one is not installed."""
    return {"runtimes": {name: backend.version() for name, backend in backends().items()}}, []


def open_(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """Load a model.

    ``backend``, ``format``, ``options``; and either ``path``, on a device that shares the host's files, or
    ``files`` (relative name to hash) and ``main`` (which of them, empty for the folder). Gives ``model`` (its
    number), ``inputs``, ``outputs``, ``signature``, ``seconds`` (of loading the model), ``import_seconds``
    (of loading the runtime, 0 the second time), ``resident_before`` (bytes that the process had before the
    model was loaded), ``version`` and ``placement``.
    """
    backend = backends().get(fields.text(header, "backend"))
    if backend is None:
        raise AgentError("usage", "there is no runtime %.80r" % (header.get("backend"),))
    version = backend.version()
    if version is None:
        raise AgentError("unavailable", "%s is not installed for this Python" % backend.name)
    if len(session.models) >= MOST_MODELS:
        raise AgentError("usage", "%d models are open" % MOST_MODELS, "close one")
    fmt, options = fields.text(header, "format"), known_options(backend, fields.mapping(header, "options"))
    if fmt not in backend.formats:
        raise AgentError(
            "usage", "%s opens %s, not %.40s" % (backend.name, " and ".join(backend.formats), fmt)
        )
    folder, path = _file_of(session, header)
    try:
        begun = time.perf_counter_ns()
        backend.load_library()
        imported = time.perf_counter_ns()
        before = memory_now()["resident_bytes"]
        begun_model = time.perf_counter_ns()
        model = backend.open(path, fmt, options)
        loaded = time.perf_counter_ns()
    except BaseException:
        session.store.remove(folder)
        raise
    return {
        "model": session.add(model, folder),
        "inputs": model.inputs,
        "outputs": model.outputs,
        "signature": model.signature,
        "seconds": (loaded - begun_model) / 1e9,
        "import_seconds": (imported - begun) / 1e9,
        "resident_before": before,
        "version": version,
        "placement": model.placement(),
    }, []


def infer(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``model`` and one array for each of its inputs, by name. Gives its outputs."""
    opened = session.opened(header.get("model"))
    model = opened.model
    values = in_order(model, wire.unpack(header.get("arrays", []), body))
    opened.has_run = True
    with explained(model):
        found = model.infer(values)
    return {}, [(tensor["name"], value) for tensor, value in zip(model.outputs, found)]


def placement(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``model``, and one array for each of its inputs or none. Gives ``placement``.

    With inputs the runtime may run the model, even load it a second time, to find out; without, it says
    ``null`` where it does not know.
    """
    model = session.opened(header.get("model")).model
    arrays = wire.unpack(header.get("arrays", []), body)
    with explained(model):
        return {"placement": model.placement(in_order(model, arrays) if arrays else None)}, []


def profile(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``model``, ``runs``, and one array for each input. Gives ``profile``, the time of every op.

    See :meth:`edgeconv.agent.backends.base.Model.profile`; ``null`` where the runtime does not tell.
    """
    model = session.opened(header.get("model")).model
    arrays = wire.unpack(header.get("arrays", []), body)
    runs = fields.whole(header, "runs", 20, 1, MOST_PROFILED)
    with explained(model):
        return {"profile": model.profile(in_order(model, arrays), runs)}, []


def memory(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``reset``: begin anew with the peak. Gives ``resident_bytes``, ``peak_bytes`` until then, ``reset``."""
    found = memory_now()
    return {**found, "reset": bool(header.get("reset")) and reset_peak()}, []


def measure(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """Times of inferences; see :mod:`edgeconv.agent.measure` and ``docs/agent.md``."""
    from . import measuring

    return measuring.measure(session, header, body)


def _launching(verb: str) -> Callable[[Session, wire.Header, bytearray], Answer]:
    """A verb of :mod:`edgeconv.agent.launching`, imported when it is asked for first."""

    def run(session: Session, header: wire.Header, body: bytearray) -> Answer:
        from . import launching

        answer: Answer = getattr(launching, verb)(session, header, body)
        return answer

    return run


def close(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``model``: give its memory back."""
    session.opened(header.get("model"))
    session.drop(fields.whole(header, "model"))
    return {}, []


def probe(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """What the device is and has; see :mod:`edgeconv.agent.probe`."""
    from . import probe as probing

    return probing.probe(session.store.root), []


def clean(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """Remove all that was sent here, agents included; the last request. Gives ``freed``, bytes."""
    from .clean import clean as emptied

    session.close()
    return {"freed": emptied(session.store.root)}, []


VERBS: dict[str, Callable[[Session, wire.Header, bytearray], Answer]] = {
    "missing": missing,
    "put": put,
    "versions": versions,
    "open": open_,
    "infer": infer,
    "placement": placement,
    "profile": profile,
    "measure": measure,
    "memory": memory,
    "launch": _launching("launch"),
    "fork": _launching("fork"),
    "burst": _launching("burst"),
    "join": _launching("join"),
    "close": close,
    "probe": probe,
    "clean": clean,
}


def _file_of(session: Session, header: wire.Header) -> tuple[str, str]:
    """The folder that was laid out for a model, empty where none was, and the path to open."""
    if "files" not in header:
        path = fields.text(header, "path")
        if not os.path.exists(path):
            raise AgentError("usage", "no such file: %s" % path)
        return "", path
    files = fields.mapping(header, "files")
    main = fields.text(header, "main", "")
    if main and main not in files:
        raise AgentError("usage", "'main' is %.200r and none of the files" % main)
    folder = session.store.lay_out({name: str(sha) for name, sha in files.items()})
    return folder, os.path.join(folder, main) if main else folder
