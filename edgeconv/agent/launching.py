"""The verbs ``launch``, ``fork``, ``burst`` and ``join``: models opened and measured in a fresh process.

This process imports the runtimes and opens no model; each launch is a fork of it. So a launch costs what
opening the models costs, and a runtime's threads, arenas and caches are made anew in each. What a process
started anew would draw besides (where weights and buffers come to lie) is drawn by opening the models in
random order behind random padding. The child says all it has to say over a pipe of its own, and is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import mmap
import os
import random
import resource
import signal
import socket
import sys
import time
import traceback
from array import array
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NoReturn, Tuple

from . import fields, wire
from .backends.base import Backend, Model, backends, explained, in_order, known_options
from .errors import AgentError
from .measure import LARGEST_BURST, MOST_SAMPLES, time_calls
from .memory import memory, reset_peak

if TYPE_CHECKING:
    from .verbs import Answer, Session

MOST_MODELS = 16
MOST_AT_ONCE = 16
_CLOCKS: dict[str, Callable[[], int]] = {"wall": time.perf_counter_ns, "thread": time.thread_time_ns}
_MOST_PADDING = 1 << 17
_MOST_PROFILED = 1000
_MOST_REPEATED = 100_000
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

Variants = List[List[Any]]
Told = Tuple[Dict[str, Any], List[Tuple[str, Any]]]


class Asked:
    """One model of a launch: how it is opened, and the inputs it takes in turn."""

    def __init__(self, backend: Backend, fmt: str, path: str, options: dict[str, Any]) -> None:
        self.backend, self.fmt, self.path, self.options = backend, fmt, path, options
        self.repeat = 1
        self.variants: list[dict[str, Any]] = []


class Worker:
    """A child that holds its models open and runs a burst when it is asked to."""

    def __init__(self, pid: int, pipe: socket.socket) -> None:
        self.pid, self.pipe = pid, pipe
        self.stream = pipe.makefile("rb")

    def told(self) -> Told:
        """What the child says next.

        Raises:
            AgentError: what went wrong there, or that it died.
        """
        try:
            found = wire.read_frame(self.stream)
        except (OSError, wire.WireError):  # it died within a frame, or with something unread
            found = None
        if found is None:
            status = self.end()
            how = "signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "code %d" % (status >> 8)
            raise AgentError("refused", "the process of a launch ended with %s" % how)
        header, body = found
        if "error" in header:
            error = header["error"]
            self.end()
            raise AgentError(str(error["kind"]), str(error["what"]), error["hint"])
        return header["result"], wire.unpack(header["arrays"], body)

    def end(self) -> int:
        """End the child; its status as ``waitpid`` gives it, 0 where that is known already."""
        if not self.pid:
            return 0
        pid, self.pid = self.pid, 0
        self.stream.close()
        self.pipe.close()  # its end, too, where it waits to be asked
        return os.waitpid(pid, 0)[1]


def launch(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """Open models in fresh processes, measure them in alternating bursts, and end them.

    ``models``: a list of objects with the fields of ``open``, and ``repeat``: how many inferences make one
    sample (1), by which work of a known share is injected. ``inputs``: as in ``measure``. ``burst``:
    inferences in a row; ``rounds``: bursts of each; ``warm``: inferences of each before; ``clock``: ``wall``
    or ``thread`` (processor time of the measuring thread); ``fresh``: the child imports the runtime, at
    addresses of its own; ``seeds``: one process for each, all at the same time. A seed is that of the
    padding, the order of opening and that of running. First inferences, warming up and bursts all go through
    the models in that one order, round after round: each burst then begins with what the same other model
    left in the caches.

    Gives the array ``ns`` of shape (processes, models, rounds, burst), and ``launches``, of each process:
    ``order`` (of opening), ``turns`` (of running), of each model ``load_ns``, ``load_thread_ns``,
    ``first_ns``, ``versions``; ``memory``, ``start_bytes`` (resident before the first model), ``faults`` and
    ``switches`` of the measuring (major page faults, being pushed aside). With ``profile``, a number of
    inferences, ``launches`` have ``profiles`` alone (see ``Model.profile``).
    """
    seeds = fields.wholes(header, "seeds", [0], MOST_AT_ONCE)
    start = _prepared(session, header, body, resident=False)
    workers: list[Worker] = []
    try:
        workers += map(start, seeds)
        told = [worker.told() for worker in workers]
    finally:
        for worker in workers:
            worker.end()
    launches = [result for result, _ in told]
    samples = [value for _, arrays in told for _, value in arrays]
    if not samples:
        return {"launches": launches}, []
    import numpy as np

    return {"launches": launches}, [("ns", np.stack(samples))]


def fork(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """As ``launch`` of the one ``seed``, but the process stays and waits for ``burst``.

    Gives ``worker``, its number, and what ``launch`` says of a process before it measures.
    """
    worker = _prepared(session, header, body, resident=True)(fields.whole(header, "seed", 0))
    result, arrays = worker.told()
    session.workers[worker.pid] = worker
    return {**result, "worker": worker.pid}, arrays


def burst(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``worker``: one more burst of each of its models. Gives ``ns`` of shape (models, burst)."""
    worker = _worker(session, header)
    try:
        with contextlib.suppress(OSError):  # that it is gone is found by reading
            worker.pipe.sendall(b"b")
        return worker.told()
    except AgentError:
        session.workers.pop(fields.whole(header, "worker"), None)
        worker.end()
        raise


def join(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """``worker``: end it. Gives ``memory`` that it had."""
    worker = _worker(session, header)
    del session.workers[worker.pid]
    try:
        with contextlib.suppress(OSError):
            worker.pipe.shutdown(socket.SHUT_WR)
        return worker.told()
    finally:
        worker.end()


def _worker(session: Session, header: wire.Header) -> Worker:
    worker: Worker | None = session.workers.get(fields.whole(header, "worker"))
    if worker is None:
        raise AgentError("usage", "there is no worker %.40r" % (header.get("worker"),))
    return worker


def _prepared(
    session: Session, header: wire.Header, body: bytearray, *, resident: bool
) -> Callable[[int], Worker]:
    """What forks a process of a seed, with everything in this one that it inherits."""
    if session.has_opened:
        raise AgentError(
            "usage",
            "this agent has opened models itself, and a fork would inherit what their runtime keeps",
            "ask an agent of its own for launches",
        )
    asked = _models(session, header, body)
    burst_length = fields.whole(header, "burst", 5, 1, LARGEST_BURST)
    most = MOST_SAMPLES // (len(asked) * burst_length * MOST_AT_ONCE)
    rounds = fields.whole(header, "rounds", 1, 1, most)
    warm = fields.whole(header, "warm", 1, 0, LARGEST_BURST)
    clock = _CLOCKS.get(fields.text(header, "clock", "wall"))
    if clock is None:
        raise AgentError("usage", "'clock' is wall or thread, not %.40r" % (header.get("clock"),))
    runs = fields.whole(header, "profile", 0, 0, _MOST_PROFILED)
    fresh = bool(header.get("fresh"))
    if not fresh:
        for each in asked:
            each.backend.load_library()
    if not session.is_forking:
        session.is_forking = True
        gc.collect()
        gc.freeze()  # a collection in a child would copy every page it visits

    def start(seed: int) -> Worker:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = socket.socketpair()
        pid = _fork()
        if pid == 0:
            ours.close()
            for other in session.workers.values():
                other.pipe.close()
            _child(theirs, _Duet(asked, burst_length, warm, clock, seed, fresh), rounds, runs, resident)
        theirs.close()
        return Worker(pid, ours)

    return start


def _fork() -> int:
    import warnings

    with warnings.catch_warnings():  # of the threads that sleep here (heartbeat, signals); a child has none
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _models(session: Session, header: wire.Header, body: bytearray) -> list[Asked]:
    models, inputs = header.get("models"), header.get("inputs")
    if not isinstance(models, list) or not 1 <= len(models) <= MOST_MODELS:
        raise AgentError("usage", "'models' must be a list of 1 to %d models" % MOST_MODELS)
    if not isinstance(inputs, list) or len(inputs) != len(models):
        raise AgentError("usage", "'inputs' must have a list of variants for every model")
    arrays = [value for _, value in wire.unpack(header.get("arrays", []), body)]
    found = []
    for model, variants in zip(models, inputs):
        if not isinstance(model, dict) or not isinstance(variants, list) or not variants:
            raise AgentError("usage", "every model is an object, and has at least one variant of 'inputs'")
        one = _asked(session, model)
        one.repeat = fields.whole(model, "repeat", 1, 1, _MOST_REPEATED)
        for variant in variants:
            if not isinstance(variant, dict):
                raise AgentError("usage", "a variant of 'inputs' must be an object")
            places = {name: fields.whole(variant, name, most=len(arrays) - 1) for name in variant}
            one.variants.append({name: arrays[place] for name, place in places.items()})
        found.append(one)
    return found


def _asked(session: Session, model: wire.Header) -> Asked:
    backend = backends().get(fields.text(model, "backend"))
    if backend is None:
        raise AgentError("usage", "there is no runtime %.80r" % (model.get("backend"),))
    if backend.version() is None:
        raise AgentError("unavailable", "%s is not installed for this Python" % backend.name)
    fmt = fields.text(model, "format")
    if fmt not in backend.formats:
        raise AgentError(
            "usage", "%s opens %s, not %.40s" % (backend.name, " and ".join(backend.formats), fmt)
        )
    options = known_options(backend, fields.mapping(model, "options"))
    return Asked(backend, fmt, session.path_of(model), options)


def _child(pipe: socket.socket, duet: _Duet, rounds: int, runs: int, resident: bool) -> NoReturn:
    """The whole life of the forked process."""
    code = 1
    try:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        with pipe.makefile("wb") as stream:
            try:
                duet.deeper(lambda: _serve(pipe, stream, duet, rounds, runs, resident))
                code = 0
            except AgentError as error:
                _fail(stream, error.kind, error.what, error.hint)
            except MemoryError:
                _fail(stream, "memory", "the device has not enough memory for this", None)
            except Exception as error:
                traceback.print_exc()
                _fail(stream, "defect", "%s: %.500s" % (type(error).__name__, error), None)
            sys.stderr.flush()
    finally:
        os._exit(code)


def _fail(stream: Any, kind: str, what: str, hint: str | None) -> None:
    wire.write_frame(stream, {"error": {"kind": kind, "what": what, "hint": hint}})


def _tell(stream: Any, result: dict[str, Any], arrays: list[tuple[str, Any]]) -> None:
    described, parts = wire.pack(arrays) if arrays else ([], [])
    wire.write_frame(stream, {"result": result, "arrays": described}, parts)
    stream.flush()


def _serve(pipe: socket.socket, stream: Any, duet: _Duet, rounds: int, runs: int, resident: bool) -> None:
    import numpy as np

    duet.open()
    if runs:
        _tell(stream, {"profiles": duet.profiles(runs)}, [])
        return
    gc.disable()
    duet.warm_up()
    if not resident:
        before = resource.getrusage(resource.RUSAGE_SELF)
        taken = [duet.round() for _ in range(rounds)]
        after = resource.getrusage(resource.RUSAGE_SELF)
        ns = np.array(taken, np.int64).reshape((rounds, len(duet.asked), duet.length)).transpose(1, 0, 2)
        result = {
            **duet.said,
            "memory": memory(),
            "faults": after.ru_majflt - before.ru_majflt,
            "switches": after.ru_nivcsw - before.ru_nivcsw,
        }
        _tell(stream, result, [("ns", np.ascontiguousarray(ns))])
        return
    _tell(stream, {**duet.said, "memory": memory()}, [])
    while pipe.recv(1):
        _tell(stream, {}, [("ns", np.array(duet.round(), np.int64))])
    _tell(stream, {"memory": memory()}, [])


class _Duet:
    """The models of a launch, within its process."""

    def __init__(
        self,
        asked: list[Asked],
        length: int,
        warm: int,
        clock: Callable[[], int],
        seed: int,
        fresh: bool = False,
    ) -> None:
        self.asked, self.length = asked, length
        self.said: dict[str, Any] = {}
        self._warm, self._clock = warm, clock
        self._random = random.Random(seed)
        self._models: list[Model] = []
        self._inputs: list[Variants] = []
        self._buffer = array("q", bytes(8 * length))
        self._rounds = 0
        self._turns = list(range(len(asked)))
        self._padding: list[bytearray] = []
        self._fresh = fresh
        self._pages: list[mmap.mmap] = []

    def open(self) -> None:
        """Load the models, each behind padding, and run each once."""
        if self._fresh:
            for one in self.asked:
                self._pages.append(mmap.mmap(-1, mmap.PAGESIZE * self._random.randrange(1, 1 << 12)))
                one.backend.load_library()
        count = len(self.asked)
        order = list(range(count))
        self._random.shuffle(order)
        reset = reset_peak()
        start = memory()["resident_bytes"]
        models: dict[int, Model] = {}
        load, thread, first = [0] * count, [0] * count, [0] * count
        for index in order:
            one = self.asked[index]
            for _ in range(self._random.randrange(1, 8)):
                self._padding.append(bytearray(self._random.randrange(64, _MOST_PADDING)))
            begun, own = time.perf_counter_ns(), time.thread_time_ns()
            models[index] = one.backend.open(one.path, one.fmt, one.options)
            load[index] = time.perf_counter_ns() - begun
            thread[index] = time.thread_time_ns() - own
        self._models = [models[index] for index in range(count)]
        self._inputs = [
            [in_order(model, list(variant.items())) for variant in one.variants]
            for model, one in zip(self._models, self.asked)
        ]
        self._random.shuffle(self._turns)
        for index in self._turns:
            call = self._call(index)
            begun = time.perf_counter_ns()
            with explained(self._models[index]):
                call()
            first[index] = time.perf_counter_ns() - begun
        self.said = {
            "order": order,
            "turns": self._turns,
            "load_ns": load,
            "load_thread_ns": thread,
            "first_ns": first,
            "start_bytes": start,
            "peak_reset": reset,
            "versions": [one.backend.version() for one in self.asked],
        }

    def deeper(self, call: Callable[[], None]) -> None:
        """Call something at a depth of the stack that is drawn: where that lies shifts times, too."""
        for _ in range(self._random.randrange(48)):
            call = functools.partial(_through_c, call)
        call()

    def warm_up(self) -> None:
        """Run each model so often as was asked."""
        for index in self._turns:
            call = self._call(index)
            with explained(self._models[index]):
                for _ in range(self._warm):
                    call()

    def round(self) -> list[list[int]]:
        """One burst of every model: of each its samples, nanoseconds."""
        taken: list[list[int]] = [[] for _ in self._models]
        for index in self._turns:
            with explained(self._models[index]):
                call = self._sample(index)
                if self._clock is time.perf_counter_ns:
                    time_calls(call, self._buffer)
                else:
                    _time_thread(call, self._buffer)
            taken[index] = self._buffer.tolist()
        self._rounds += 1
        return taken

    def profiles(self, runs: int) -> list[Any]:
        """What each model's runtime tells of its ops in ``runs`` inferences, in the order of ``asked``."""
        told: dict[int, Any] = {}
        for index in self.said["order"]:
            with explained(self._models[index]):
                told[index] = self._models[index].profile(self._inputs[index][0], runs)
        return [told[index] for index in range(len(self._models))]

    def _call(self, index: int) -> Callable[[], Any]:
        variants = self._inputs[index]
        return self._models[index].prepare(variants[(self._rounds // 2) % len(variants)])

    def _sample(self, index: int) -> Callable[[], Any]:
        call, repeat = self._call(index), self.asked[index].repeat
        return call if repeat == 1 else _repeated(call, repeat)


def _repeated(call: Callable[[], Any], times: int) -> Callable[[], Any]:
    """So many inferences as one."""
    each = range(times)

    def sample() -> None:
        for _ in each:
            call()

    return sample


def _through_c(call: Callable[[], None]) -> None:
    """A call by way of the interpreter's C code, which takes some of the stack."""
    functools.reduce(lambda _, last: call(), (None, None))


def _time_thread(call: Callable[[], Any], into: array[int]) -> None:
    """As :func:`edgeconv.agent.measure.time_calls`, by the thread's own clock."""
    now = time.thread_time_ns
    for place in range(len(into)):
        begin = now()
        call()
        into[place] = now() - begin
