"""ONNX and ORT files in ONNX Runtime.

``accelerator``: ``cpu`` (taken where nothing is asked), ``xnnpack``, ``cuda``, ``tensorrt``, the name of any
provider of this build (``AzureExecutionProvider``), or a plug-in provider's library. What a provider does
not take runs on the CPU; :meth:`OnnxModel.placement` says how much that is.
"""

from __future__ import annotations

import functools
import json
import os
import re
import tempfile
from typing import Any, Callable

from ..errors import AgentError
from .base import (
    Backend,
    Model,
    Placement,
    Profile,
    Tensor,
    fitting,
    installed_version,
    is_of_memory,
    no_accelerator,
    not_importable,
    shares,
    threads_of,
)

_CPU = "CPUExecutionProvider"
_PROVIDERS = {
    "cpu": (),
    "xnnpack": ("XnnpackExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
_WORDS = {names[0]: word for word, names in _PROVIDERS.items() if names}
_WORDS[_CPU] = "cpu"
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-silicon", "onnxruntime-openvino")
_RECORD = "session.record_ep_graph_assignment_info"
"""Since ONNX Runtime 1.24; other releases tell the providers of nodes by profiling a run."""
_KERNEL = "_kernel_time"
NODE_PATTERNS = (
    r"\(node:([^)\s]+)\)",
    r"[Nn]ode \(?'?\(?name: ?([^),']+)",
    r"[Nn]ode (?:with name )?'([^']+)'",
    r"Node:([^\s']+)",
    r"node with name '([^']*)'",
    r"Node \(([^)]*)\)",
)
OP_PATTERNS = (
    r"No Op registered for (\S+)",
    r"implementation for (?:\S+:)?(\S+?)\(\d+\)",
    r"running (\S+) node",
    r"Op \(([^)]+)\)",
    r"([\w.]+:\w+)\(-?\d+\) is not a registered function",
)
"""How the releases of ONNX Runtime name the node and the op that they refuse."""


class OnnxModel(Model):
    """A file in a session."""

    def __init__(self, session: Any, asked: str, again: Callable[..., Any]) -> None:
        """``again`` opens the same file once more, with other options."""
        self._session, self._asked, self._again = session, asked, again
        self.inputs = [_tensor(value) for value in session.get_inputs()]
        self.outputs = [_tensor(value) for value in session.get_outputs()]
        for tensor in (*self.inputs, *self.outputs):
            if "(" in tensor["dtype"]:
                raise AgentError(
                    "refused",
                    "'%s' is a %s, and only tensors go in and out" % (tensor["name"], tensor["dtype"]),
                    "cut the model where its values are tensors, with --inputs or --outputs",
                )
        self._names = [tensor["name"] for tensor in self.outputs]

    def infer(self, arrays: list[Any]) -> list[Any]:
        return list(self._session.run(self._names, self._feeds(arrays)))

    def explain(self, error: Exception) -> AgentError:
        return refusal(str(error), "the inference failed")

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        feeds = self._feeds(arrays)
        inner = getattr(self._session, "_sess", None)
        if inner is None:
            return functools.partial(self._session.run, self._names, feeds)
        # What `run` adds in Python are checks of the names, 1 microsecond that is not the model's, and a
        # silent second try on the CPU where a provider fails.
        plain: Callable[[], Any] = functools.partial(inner.run, self._names, feeds, None)
        return self._bound(inner, feeds) or plain

    def _bound(self, inner: Any, feeds: dict[str, Any]) -> Callable[[], Any] | None:
        """An inference on values that stay in place: 2.5 microseconds less than copying them in and out.

        Outputs get their memory in the first inference and keep it. ``None`` where something is no array of
        numbers, or where another provider than the CPU's wants the values elsewhere.
        """
        numbers = all(array.dtype.kind in "biuf" and array.size for array in feeds.values())
        if self._asked != "cpu" or not numbers or any(each["dtype"] == "string" for each in self.outputs):
            return None
        import onnxruntime

        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name in self._names:
            binding.bind_output(name, "cpu")
        self._kept = (feeds, binding)  # the binding has addresses, and keeps nothing alive
        # Options that are made for each run cost a microsecond of it.
        return functools.partial(inner.run_with_iobinding, binding._iobinding, onnxruntime.RunOptions())

    def placement(self, arrays: list[Any] | None = None) -> Placement | None:
        told = _assignment(self._session)
        if arrays is None:
            return None if told is None else self._shares(told, None)
        profiled = self._profiled(self._feeds(arrays))
        times: dict[str, int] = {}
        for provider, _, nanoseconds in profiled.values():
            times[provider] = times.get(provider, 0) + nanoseconds
        time = None
        if profiled and sum(times.values()):
            time = sum(t for name, t in times.items() if self._word(name) == self._asked) / sum(
                times.values()
            )
        nodes = [(provider, op) for provider, op, _ in profiled.values()] if told is None else told
        return self._shares(nodes, time)

    def close(self) -> None:
        self._session = None

    def _feeds(self, arrays: list[Any]) -> dict[str, Any]:
        return {
            tensor["name"]: _text(fitting(tensor, array), tensor["name"])
            for tensor, array in zip(self.inputs, arrays)
        }

    def _shares(self, nodes: list[tuple[str, str]], time: float | None) -> Placement:
        ran: dict[str, int] = {}
        for provider, _ in nodes:
            ran[self._word(provider)] = ran.get(self._word(provider), 0) + 1
        elsewhere = [op for provider, op in nodes if self._word(provider) != self._asked]
        return shares(self._asked, ran, elsewhere, time)

    def _word(self, provider: str) -> str:
        return _WORDS.get(provider, provider)

    def profile(self, arrays: list[Any], runs: int) -> Profile | None:
        """From ONNX Runtime's own profiler, which counts whole microseconds, in a session of its own."""
        nodes: dict[str, dict[str, Any]] = {}
        for key, provider, op, nanoseconds in self._events(self._feeds(arrays), runs + 1):
            if key not in nodes:  # the first run, which pays for what is done once
                name = key.rpartition(" ")[0][: -len(_KERNEL)]
                nodes[key] = {"name": name, "op": op, "by": self._word(provider), "ns": []}
            else:
                nodes[key]["ns"].append(nanoseconds)
        how = "ONNX Runtime's profiler, in steps of 1 µs"
        return {"how": how, "runs": runs, "nodes": list(nodes.values())}

    def _profiled(self, feeds: dict[str, Any]) -> dict[str, tuple[str, str, int]]:
        """Node to provider, op and nanoseconds, from a profile of the second run of a second session."""
        return {key: (provider, op, ns) for key, provider, op, ns in self._events(feeds, 2)}

    def _events(self, feeds: dict[str, Any], runs: int) -> list[tuple[str, str, str, int]]:
        """Node, provider, op and nanoseconds of every kernel that ran, in the order that they did."""
        with tempfile.TemporaryDirectory(prefix="edgeconv-agent-") as folder:
            session = self._again(profile=os.path.join(folder, "profile"))
            for _ in range(runs):
                session.run(self._names, feeds)
            with open(session.end_profiling()) as stream:
                events = json.load(stream)
        found = []
        for event in events:
            given = event.get("args") or {}
            if event.get("cat") == "Node" and str(event.get("name")).endswith(_KERNEL):
                key = "%s %s" % (event["name"], given.get("node_index"))
                provider = str(given.get("provider") or _CPU)
                found.append((key, provider, str(given.get("op_name")), int(event.get("dur", 0)) * 1000))
        return found


class OnnxBackend(Backend):
    """See the module."""

    name = "onnxruntime"
    formats = ("onnx", "ort")
    options = ("provider_options",)

    def version(self) -> str | None:
        return installed_version(*_DISTRIBUTIONS)

    def load_library(self) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime
        except (ImportError, AttributeError, SystemError, OSError) as error:
            raise not_importable("onnxruntime", error) from error
        onnxruntime.set_default_logger_severity(4)

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        self.load_library()
        import onnxruntime

        asked = str(options.get("accelerator") or "cpu")
        providers = _providers(onnxruntime, asked)
        load = functools.partial(
            _load, path, threads_of(options), providers, dict(options.get("provider_options") or {})
        )
        session = load()
        taken = session.get_providers()
        for name in providers:
            if name not in taken:
                raise AgentError(
                    "unavailable",
                    "ONNX Runtime left the provider %s out: its libraries cannot be loaded there" % name,
                    "see what its own log says, or use --accelerator cpu",
                )
        return OnnxModel(session, _WORDS.get(providers[0], providers[0]) if providers else "cpu", load)


BACKEND = OnnxBackend()


def refusal(message: str, what: str) -> AgentError:
    """What ONNX Runtime said, with node and op picked out."""
    text = " ".join(message.split())
    lower = text.lower()
    if is_of_memory(text):
        return AgentError("memory", "ONNX Runtime has not enough memory for this (%.300s)" % text)
    if "unsupported model ir version" in lower:
        return AgentError(
            "refused",
            "the file's IR version is newer than this ONNX Runtime takes (%.200s)" % text,
            "write it with a lower ir_version, or use a newer ONNX Runtime",
        )
    if "opset" in lower and any(
        sign in lower for sign in ("under development", "only *guarantees*", "till opset")
    ):
        return AgentError(
            "refused",
            "the file's opset is newer than this ONNX Runtime takes (%.300s)" % text,
            "convert it again with --opset 17",
        )
    node = next((found.group(1) for p in NODE_PATTERNS for found in [re.search(p, text)] if found), None)
    op = next((found.group(1) for p in OP_PATTERNS for found in [re.search(p, text)] if found), None)
    where = " in node %s" % node if node else ""
    if "is not a registered function" in text or "No Op registered" in text or "NOT_IMPLEMENTED" in text:
        lacks = ": it has no op %s" % op if op else ""
        return AgentError(
            "refused",
            "%s%s%s (%.400s)" % (what, lacks, where, text),
            "see which release has it, and what fits: edgeconv check ARTIFACT --target NAME",
        )
    return AgentError("refused", "%s%s%s: %.500s" % (what, ": op %s" % op if op else "", where, text))


def _providers(onnxruntime: Any, asked: str) -> list[str]:
    """The providers for an accelerator, without that of the CPU, which takes the rest."""
    available = onnxruntime.get_available_providers()
    if asked in ("edgetpu", "gpu"):
        no_accelerator("onnxruntime", asked, "cpu, xnnpack, cuda, tensorrt, a provider's name or its library")
    names = list(_PROVIDERS.get(asked, (asked,)))
    if asked == _CPU:
        return []
    if os.sep in asked or asked.endswith(".so"):
        return [_plugin(onnxruntime, asked)]
    for name in names[:1]:
        if name not in available:
            raise AgentError(
                "unavailable",
                "this ONNX Runtime has no provider %s" % name,
                "it has %s; another build of it may have more (onnxruntime-gpu)" % ", ".join(available),
            )
    return [name for name in names if name in available]


def _plugin(onnxruntime: Any, library: str) -> str:
    register = getattr(onnxruntime, "register_execution_provider_library", None)
    if register is None:
        raise AgentError(
            "unavailable", "this ONNX Runtime takes no libraries of providers: 1.23 and later do"
        )
    name = re.sub(r"^lib|\.so.*$", "", os.path.basename(library))
    try:
        register(name, library)
    except Exception as error:
        raise AgentError("unavailable", "the provider's library cannot be loaded (%.300s)" % error) from error
    return name


def _load(
    path: str,
    threads: int,
    providers: list[str],
    provider_options: dict[str, Any],
    profile: str | None = None,
) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads of an idle session take the processor from the one that is measured.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    elif providers:
        options.add_session_config_entry(_RECORD, "1")
    wanted: list[Any] = [
        (name, {str(k): str(v) for k, v in provider_options.items()}) for name in providers[:1]
    ]
    wanted += [*providers[1:], _CPU]
    try:
        if providers and providers[0] not in onnxruntime.get_available_providers():
            return _with_devices(onnxruntime, path, options, providers[0], provider_options)
        # Without this it would try once more without the provider, and print that.
        return onnxruntime.InferenceSession(path, options, providers=wanted, disable_fallback=True)
    except AgentError:
        raise
    except Exception as error:
        raise refusal(str(error), "ONNX Runtime refuses the model") from error


def _with_devices(onnxruntime: Any, path: str, options: Any, name: str, given: dict[str, Any]) -> Any:
    """A session on the devices of a plug-in provider."""
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise AgentError("unavailable", "the provider's library %s knows no device here" % name)
    options.add_provider_for_devices(devices, {str(k): str(v) for k, v in given.items()})
    return onnxruntime.InferenceSession(path, options)


def _assignment(session: Any) -> list[tuple[str, str]] | None:
    """Provider and op of every node, where this ONNX Runtime records it."""
    if set(session.get_providers()) == {_CPU}:
        return None
    try:
        graphs = session.get_provider_graph_assignment_info()
    except Exception:  # not there, or not recorded
        return None
    return [(graph.ep_name, node.op_type) for graph in graphs for node in graph.get_nodes()]


def _tensor(value: Any) -> Tensor:
    found = re.match(r"tensor\((\w+)\)$", value.type)
    dtype = found.group(1) if found else value.type
    shape = [size if isinstance(size, int) and size >= 0 else None for size in value.shape]
    return {
        "name": value.name,
        "dtype": {"float": "float32", "double": "float64"}.get(dtype, dtype),
        "shape": shape,
    }


def _text(array: Any, name: str) -> Any:
    """Strings as ONNX Runtime takes them: text."""
    if array.dtype.kind not in "SUO":
        return array
    import numpy as np

    found = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        item = array[index]
        try:
            found[index] = item.decode("utf-8") if isinstance(item, bytes) else str(item)
        except UnicodeDecodeError as error:
            raise AgentError(
                "usage", "input '%s' holds bytes that are no UTF-8 text, which ONNX strings have to be" % name
            ) from error
    return found
