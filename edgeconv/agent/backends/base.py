"""What every back end offers. A back end is a module of this package with the constant ``BACKEND``.

Names, shapes and dtypes are the file's own: which logical name a tensor has is known to the host only.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import platform
import re
import sys
import traceback
from typing import Any, Callable, Dict, Iterator, NoReturn

from ..errors import AgentError

Tensor = Dict[str, Any]
"""``name``, ``dtype`` (numpy's, or ``string``), ``shape`` (``None`` for what is open, ``None`` as a whole
where the rank is not known), and what a runtime adds (``scales``, ``zero_points``, ``axis`` of a quantized
tensor; ``key`` in a signature; ``tensor``, where the name had to be made unique)."""

Placement = Dict[str, Any]
"""``asked`` (accelerator), ``ran`` (accelerator to number of ops), ``share_of_ops`` (of those that ran where
it was asked, 0 to 1), ``share_of_time`` (the same of time, ``None`` where the runtime cannot tell) and
``elsewhere`` (kinds of the ops that ran elsewhere)."""

Profile = Dict[str, Any]
"""``how`` (what told the times), ``runs``, and ``nodes``: each with ``name``, ``op``, ``by`` (accelerator)
and ``ns``, one number a run; ``None`` in its place where the runtime names its ops and no times."""

_DISTRIBUTIONS = {"litert": "ai-edge-litert"}  # where a runtime's distribution has another name

ACCELERATORS = ("cpu", "xnnpack", "cuda", "tensorrt", "edgetpu", "gpu")
"""The words of the option ``accelerator``; anything else is the name of a library."""


class Model:
    """A model that is loaded and stays loaded."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    signature: str | None = None
    """The signature that is run, where the file has any."""

    def infer(self, arrays: list[Any]) -> list[Any]:
        """Run one inference: arrays in the order of ``inputs`` to arrays in the order of ``outputs``.

        Raises:
            AgentError: an array does not fit (``usage``).
            Exception: the runtime's own; :meth:`explain` says what it means.
        """
        raise NotImplementedError

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        """Put the inputs where the runtime wants them and return what runs one inference on them.

        What is returned is all that a measurement times: no copy of an input or output that the runtime does
        not need is made in it, and it may be called any number of times. It is good until the next call of
        ``prepare`` or ``infer``.
        """
        raise NotImplementedError

    def explain(self, error: Exception) -> AgentError:
        """An exception of ``infer``, or of what ``prepare`` gave, as an error that names the op."""
        return AgentError("defect", "%s: %.500s" % (type(error).__name__, error))

    def placement(self, arrays: list[Any] | None = None) -> Placement | None:
        """Where the ops ran; ``None`` if that is not known without more.

        Args:
            arrays: inputs, in their order; with them a runtime that can only tell by running does so, which
                may load the model a second time.
        """
        return None

    def profile(self, arrays: list[Any], runs: int) -> Profile | None:
        """The time of every op in ``runs`` inferences; ``None`` where the runtime does not tell times.

        The model may be loaded a second time for it: times are those of a run that is watched.
        """
        return None

    def close(self) -> None:
        """Give the memory back."""


class Backend:
    """One runtime."""

    name: str
    formats: tuple[str, ...]
    options: tuple[str, ...] = ()
    """Names of the options that ``open`` knows, beside ``threads`` and ``accelerator``."""

    def version(self) -> str | None:
        """Version that is installed here, ``None`` where the runtime is not; imports nothing heavy."""
        raise NotImplementedError

    def load_library(self) -> None:
        """Import the runtime, so that the time to load a model is that of the model.

        Raises:
            AgentError: it does not import (``unavailable``).
        """

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        """Load a model.

        Args:
            path: file or folder.
            fmt: name of the format (``tflite``).
            options: ``threads`` (int), ``accelerator`` (name or library), and those of ``self.options``.

        Raises:
            AgentError: the runtime refuses the model, or is not here.
        """
        raise NotImplementedError


@functools.lru_cache(maxsize=None)
def backends() -> dict[str, Backend]:
    """All back ends by name, whether their runtime is installed or not."""
    package = importlib.import_module(__package__ or "")
    found: dict[str, Backend] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        part = getattr(importlib.import_module("." + info.name, __package__), "BACKEND", None)
        for backend in part if isinstance(part, tuple) else (part,):
            if backend is not None:
                found[backend.name] = backend
    return found


def installed_version(*distributions: str) -> str | None:
    """Version of the first of these distributions that is installed."""
    from importlib import metadata

    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def threads_of(options: dict[str, Any]) -> int:
    """The option ``threads``, 1 where it is not given.

    Raises:
        AgentError: it is no number from 1 to 1024.
    """
    threads = options.get("threads", 1)
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
        raise AgentError("usage", "threads is a number from 1 on, not %.40r" % (threads,))
    return threads


def no_accelerator(runtime: str, asked: str, known: str) -> NoReturn:
    """Refuse an accelerator that a runtime does not have."""
    raise AgentError("usage", "%s has no accelerator '%.80s'" % (runtime, asked), "it has %s" % known)


def fitting(tensor: Tensor, value: Any) -> Any:
    """``value`` as a contiguous array if ``tensor`` can take it: rank, dimensions and dtype are checked.

    Native code checks some of this too; some of it ends the process instead.

    Raises:
        AgentError: it does not fit (``usage``).
    """
    import numpy as np

    array = np.asarray(value)
    is_string = array.dtype.kind in "SUO"
    if (tensor["dtype"] == "string") != is_string or (not is_string and array.dtype.name != tensor["dtype"]):
        got = "string" if is_string else array.dtype.name
        raise AgentError(
            "usage", "input '%s' has the type %s and must have %s" % (tensor["name"], got, tensor["dtype"])
        )
    shape = tensor["shape"]
    if shape is not None and (
        len(shape) != array.ndim or any(want not in (None, have) for want, have in zip(shape, array.shape))
    ):
        wanted = ", ".join("?" if size is None else str(size) for size in shape)
        raise AgentError(
            "usage",
            "input '%s' has the shape %s and must have [%s]" % (tensor["name"], list(array.shape), wanted),
        )
    return np.asarray(array, order="C")


@contextlib.contextmanager
def explained(model: Model) -> Iterator[None]:
    """What a runtime raises within becomes an error that names the op; its traceback goes to the log."""
    try:
        yield
    except (AgentError, MemoryError, BrokenPipeError):
        raise
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise model.explain(error) from error


def in_order(model: Model, arrays: list[tuple[str, Any]]) -> list[Any]:
    """Named arrays in the order of the model's inputs.

    Raises:
        AgentError: one is missing, or is none of its inputs (``usage``).
    """
    given = dict(arrays)
    wanted = [tensor["name"] for tensor in model.inputs]
    if len(given) != len(arrays) or given.keys() != set(wanted):
        raise AgentError("usage", "the inputs are %s" % ", ".join(wanted))
    return [given[name] for name in wanted]


def known_options(backend: Backend, options: dict[str, Any]) -> dict[str, Any]:
    """``options`` if the back end knows them all.

    Raises:
        AgentError: it does not know one (``usage``).
    """
    known = ("threads", "accelerator", *backend.options)
    for name in options:
        if name not in known:
            raise AgentError(
                "usage",
                "%s has no option '%.80s'" % (backend.name, name),
                "it has %s" % ", ".join(known),
            )
    return options


_NO_MEMORY = ("bad_alloc", "bad allocation", "allocate memory", "out of memory", "OutOfMemory")


def is_of_memory(text: str) -> bool:
    """Whether a runtime's message says that there was not enough memory."""
    return any(sign in text for sign in _NO_MEMORY)


def shares(asked: str, ran: dict[str, int], elsewhere: list[str], time: float | None = None) -> Placement:
    """A placement from the numbers of ops by accelerator."""
    total = sum(ran.values())
    return {
        "asked": asked,
        "ran": ran,
        "share_of_ops": ran.get(asked, 0) / total if total else 1.0,
        "share_of_time": time,
        "elsewhere": sorted(set(elsewhere)),
    }


def not_importable(runtime: str, error: BaseException) -> AgentError:
    """Why the package does not import; numpy 2 beside a package built for numpy 1 is the usual cause."""
    numpy = installed_version("numpy")
    if numpy is None:
        return AgentError(
            "unavailable", "%s needs numpy, which is not installed" % runtime, "pip install numpy"
        )
    text = "%s: %s" % (type(error).__name__, error)
    if int(numpy.split(".")[0]) >= 2 and (
        "_ARRAY_API" in text or "numpy" in text or isinstance(error, SystemError)
    ):
        return AgentError(
            "unavailable",
            "%s was built for numpy 1 and does not import beside numpy %s" % (runtime, numpy),
            "pip install 'numpy<2'",
        )
    tags = _wheel_tags(_DISTRIBUTIONS.get(runtime, runtime))
    here = platform.machine()
    # A 64-bit library of another machine is passed over by the loader as if it were not there.
    known = here in ("x86_64", "aarch64") and sys.maxsize > 1 << 32
    other = bool(tags) and known and not any(tag.endswith(("-any", here)) for tag in tags)
    if other or "ELFCLASS" in text or "invalid ELF header" in text or "Exec format error" in text:
        return AgentError(
            "unavailable",
            "the installed %s is for another machine than this Python, which is for %s (%.200s)"
            % (runtime, here, ", ".join(tags) if other else text),
            "install it anew with this Python: %s -m pip install --force-reinstall %s"
            % (sys.executable, _DISTRIBUTIONS.get(runtime, runtime)),
        )
    symbol = re.search(r"version [`'](GLIBC(?:XX)?_[\d.]+|CXXABI_[\d.]+)' not found", text)
    if symbol is not None:
        return AgentError(
            "unavailable",
            "%s needs %s, which the libraries of this system do not have" % (runtime, symbol[1]),
            "install an older version of it there; 'edgeconv targets show' has those that fit",
        )
    return AgentError("unavailable", "%s does not import (%.300s)" % (runtime, text))


def _wheel_tags(distribution: str) -> list[str]:
    """What the wheel that a distribution came from was built for: ``cp311-cp311-manylinux_2_27_x86_64``."""
    from importlib import metadata

    try:
        text = metadata.distribution(distribution).read_text("WHEEL") or ""
    except metadata.PackageNotFoundError:
        return []
    return re.findall(r"^Tag: (\S+)", text, re.MULTILINE)
