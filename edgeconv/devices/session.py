"""A model that stays loaded on a device, with the same verbs as one in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edgeconv.agent.backends.base import backends
from edgeconv.agent.measure import LARGEST_BURST
from edgeconv.devices.base import Device, RuntimeChoice
from edgeconv.devices.client import SILENCE_SECONDS, AgentClient, OpenModel
from edgeconv.errors import DeviceError, UnavailableError, UsageError
from edgeconv.formats.base import Contract, Quantization, TensorSpec
from edgeconv.formats.registry import format_named
from edgeconv.runtimes.base import Arrays, Placement, Session
from edgeconv.runtimes.binding import FileTensor, bind, checked_inputs

_OTHER_NAMES = {"ai-edge-litert": "litert", "ort": "onnxruntime"}
"""What a runtime is also called: by its distribution, for one."""
_OF_EMULATION = 20.0
"""An emulated processor is some hundred times slower: signs of life, too, may then be late."""


@dataclass(frozen=True, slots=True)
class Ran:
    """Where a model ran.

    Attributes:
        device: its name; ``None`` for this process itself.
        runtime: name of the runtime.
        version: of the runtime.
        emulated: whether the times there say nothing of a real board.
        machine: of the processor, as ``uname -m`` says it.
        threads: asked for.
        accelerator: asked for; ``None`` leaves it to the runtime.
        placement: where the ops ran, as far as the runtime tells.
    """

    device: str | None
    runtime: str
    version: str | None
    emulated: bool = False
    machine: str | None = None
    threads: int = 1
    accelerator: str | None = None
    placement: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        runtime = self.runtime if self.version is None else f"{self.runtime} {self.version}"
        place = "here" if self.device is None else f"on {self.device}"
        return f"{runtime} {place}" + (" (emulated)" if self.emulated else "")


@dataclass(frozen=True, slots=True)
class Wish:
    """How a model is to be opened on a device.

    Attributes:
        runtime: name and version; the device's own choice where ``None``.
        threads: intra-op threads.
        accelerator: ``cpu``, ``xnnpack``, ``cuda``, …, or a delegate's library.
        options: what else a back end takes (``signature``).
    """

    runtime: RuntimeChoice | None = None
    threads: int = 1
    accelerator: str | None = None
    options: Mapping[str, Any] | None = None


class DeviceSession(Session):
    """See :class:`edgeconv.runtimes.base.Session`. Where the device is lost, :meth:`reopen` starts anew."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(
        self,
        device: Device,
        path: Path,
        format_name: str,
        contract: Contract | None = None,
        wish: Wish | None = None,
    ) -> None:
        """Start the agent on ``device`` and load the model in it.

        Args:
            device: where.
            path: file or folder here; what the device lacks of it is sent.
            format_name: registered name of its format.
            contract: logical names and their tensors; taken from the file where ``None``.
            wish: runtime, threads, accelerator.

        Raises:
            UsageError: no runtime of that name opens the format, or the contract names what the file lacks.
            UnavailableError: the runtime, or that version of it, is not on the device.
            DeviceError: the device cannot be reached or went away.
            ConversionError: the runtime there refuses the model.
        """
        self.device = device
        self._path, self._format, self._contract = path, format_name, contract
        self._wish = wish or Wish()
        self._client: AgentClient | None = None
        self._open()

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        """Run one inference there; see :meth:`edgeconv.runtimes.base.Session.infer`.

        Raises:
            DeviceError: the device went away.
        """
        client = self._there()
        fields = {"model": self._model.number}
        _, arrays = client.ask("infer", fields, self._sent(inputs), silence=self._silence)
        found = dict(arrays)
        return {b.spec.name: found[self._model.outputs[b.tensor.index]["name"]] for b in self._outputs}

    def time(self, inputs: Arrays, calls: int) -> Any:
        """See :meth:`edgeconv.runtimes.base.Session.time`; nothing of the way to the device is in it.

        Raises:
            DeviceError: the device went away.
        """
        import numpy

        if calls < 1:
            raise UsageError(f"{calls} inferences cannot be timed", hint="ask for at least one")
        client, arrays = self._there(), self._sent(inputs)
        places = {name: place for place, (name, _) in enumerate(arrays)}
        fields = {"models": [self._model.number], "inputs": [[places]], "rounds": 1}
        parts = []
        for done in range(0, calls, LARGEST_BURST):
            burst = min(LARGEST_BURST, calls - done)
            _, told = client.ask("measure", {**fields, "burst": burst}, arrays, silence=self._silence)
            parts.append(dict(told)["ns"].reshape(-1))
        return numpy.concatenate(parts)

    def measure(self, variants: Sequence[Arrays], **schedule: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The agent's verb ``measure`` of this one model; see ``docs/agent.md``.

        Args:
            variants: sets of inputs that are taken in turn.
            schedule: its fields (``burst``, ``rounds``, ``seconds``, ``warm_seconds``).

        Returns:
            The result, and its arrays by name, with their first axis, the models', of length 1.

        Raises:
            DeviceError: the device went away.
        """
        client = self._there()
        arrays: list[tuple[str, Any]] = []
        places: list[dict[str, int]] = []
        for inputs in variants:
            sent = self._sent(inputs)
            places.append({name: len(arrays) + place for place, (name, _) in enumerate(sent)})
            arrays += sent
        fields = {"models": [self._model.number], "inputs": [places], **schedule}
        result, told = client.ask("measure", fields, arrays, silence=self._silence)
        return result, dict(told)

    def profile(self, inputs: Arrays, runs: int) -> Mapping[str, Any] | None:
        """The agent's verb ``profile``: ops with their times; ``None`` where the runtime tells nothing.

        Raises:
            DeviceError: the device went away.
        """
        fields = {"model": self._model.number, "runs": runs}
        result, _ = self._there().ask("profile", fields, self._sent(inputs), silence=self._silence)
        found = result.get("profile")
        return found if isinstance(found, Mapping) else None

    def placement(self, inputs: Arrays) -> Placement | None:
        """See :meth:`edgeconv.runtimes.base.Session.placement`."""
        client, fields = self._there(), {"model": self._model.number}
        result, _ = client.ask("placement", fields, self._sent(inputs), silence=self._silence)
        found = result.get("placement")
        if found is None:
            return None
        return Placement(
            asked=str(found["asked"]),
            ran={str(name): int(ops) for name, ops in found["ran"].items()},
            share_of_ops=float(found["share_of_ops"]),
            share_of_time=None if found.get("share_of_time") is None else float(found["share_of_time"]),
            elsewhere=tuple(map(str, found.get("elsewhere") or ())),
        )

    @property
    def ran(self) -> Ran:
        """Where it runs."""
        return Ran(
            device=self.device.name,
            runtime=self.runtime.name,
            version=self.runtime.version,
            emulated=self.device.emulated,
            machine=self._machine,
            threads=self._wish.threads,
            accelerator=self._wish.accelerator,
            placement=self._model.placement,
        )

    @property
    def emulated(self) -> bool:
        """Whether its times say nothing of a real board."""
        return self.device.emulated

    @property
    def load_seconds(self) -> float:
        """How long the runtime took to load the model, on the device's clock."""
        return self._model.seconds

    @property
    def resident_before(self) -> int | None:
        """Bytes that the process there had before the model was loaded, the runtime's library included."""
        return self._model.resident_before

    def reopen(self) -> None:
        """Start the agent and load the model anew; files that the device still has are not sent again."""
        self.close()
        self._open()

    def arrays_for(self, inputs: Arrays) -> list[tuple[str, Any]]:
        """The arrays that the agent is given for ``inputs``, by the file's own names.

        Raises:
            UsageError: an input is missing or does not fit.
        """
        return self._sent(inputs)

    @property
    def options(self) -> dict[str, Any]:
        """Options that the back end there was given beside threads and accelerator."""
        taken = backends()[self.runtime.name].options
        return {name: value for name, value in (self._wish_there().options or {}).items() if name in taken}

    def close(self) -> None:
        """End the agent; nothing of it stays on the device but files by their content."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _where(self) -> str:
        return f"{self._path} on {self.device.name}"

    @property
    def _silence(self) -> float:
        return SILENCE_SECONDS * (_OF_EMULATION if self.device.emulated else 1.0)

    def _there(self) -> AgentClient:
        if self._client is None:
            raise UsageError("the session is closed", where=self._where, hint="open it again with reopen()")
        return self._client

    def _sent(self, inputs: Arrays) -> list[tuple[str, Any]]:
        fixed = {bound.spec.name: bound.fixed for bound in self._inputs}
        given = set(inputs) - self._unused
        arrays = checked_inputs({name: inputs[name] for name in given}, self._fed, self._where, shapes=fixed)
        return [(self._model.inputs[b.tensor.index]["name"], arrays[b.spec.name]) for b in self._inputs]

    def _open(self) -> None:
        client, runtime, model = _opened(self.device, self._path, self._format, self._wish_there())
        try:
            self._bind(model)
        except BaseException:
            client.close()
            raise
        self._client, self._model = client, model
        self._machine = client.greeting.machine
        self.runtime = RuntimeChoice(runtime, model.version)

    def _wish_there(self) -> Wish:
        options = dict(self._wish.options or {})
        contract = self._contract
        if contract is not None and contract.signature is not None:
            options.setdefault("signature", contract.signature)
        elif contract is not None:  # a graph does not name its ends
            options.setdefault("inputs", [spec.inner_name for spec in contract.inputs])
            options.setdefault("outputs", [spec.inner_name for spec in contract.outputs])
        return Wish(self._wish.runtime, self._wish.threads, self._wish.accelerator, options)

    def _bind(self, model: OpenModel) -> None:
        contract = self._contract
        specs = (contract.inputs, contract.outputs) if contract is not None else (None, None)
        where = self._where
        # A runtime may drop an input that nothing uses; it is then taken and not fed.
        self._inputs = bind("input", specs[0], _tensors(model.inputs), where, may_lack=True)
        self._outputs = bind("output", specs[1], _tensors(model.outputs), where)
        self._fed = tuple(bound.spec for bound in self._inputs)
        bound_specs = {spec.name: spec for spec in self._fed}
        self.inputs = tuple(bound_specs.get(s.name, s) for s in specs[0]) if specs[0] else self._fed
        self.outputs = tuple(bound.spec for bound in self._outputs)
        self._unused = {spec.name for spec in self.inputs} - set(bound_specs)


def runtimes_for(format_name: str, wanted: RuntimeChoice | None = None) -> tuple[RuntimeChoice, ...]:
    """The runtimes of devices that open a format, the usual one first; or the one that is ``wanted``.

    Raises:
        UsageError: there is no such runtime, it does not open the format, or none does.
    """
    import difflib

    known = backends()
    fitting = [name for name, each in sorted(known.items()) if format_name in each.formats]
    if wanted is not None:
        name = _OTHER_NAMES.get(wanted.name, wanted.name)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"there is no runtime '{wanted.name}'",
                hint=f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(known))}",
            )
        if name not in fitting:
            raise UsageError(
                f"{name} does not open '{format_name}'",
                hint=f"'{format_name}' is opened by {', '.join(fitting)}"
                if fitting
                else "'edgeconv convert' to a format that a runtime of devices opens: tflite, onnx",
            )
        return (RuntimeChoice(name, wanted.version),)
    if not fitting:
        raise UsageError(
            f"no runtime of devices opens '{format_name}'",
            hint="'edgeconv convert' to a format that one opens: tflite, onnx",
        )
    return tuple(RuntimeChoice(name) for name in fitting)


def _opened(device: Device, path: Path, format_name: str, wish: Wish) -> tuple[AgentClient, str, OpenModel]:
    """The model in the first runtime that the device has: one that is not there gives way to the next."""
    refused: list[UnavailableError] = []
    for choice in runtimes_for(format_name, wish.runtime):
        try:
            client = AgentClient(device, choice)
        except DeviceError:
            raise
        except UnavailableError as error:
            refused.append(error)
            continue
        with contextlib.ExitStack() as undo:
            undo.callback(client.close)
            options: dict[str, Any] = {"threads": wish.threads}
            if wish.accelerator is not None:
                options["accelerator"] = wish.accelerator
            taken = backends()[choice.name].options
            options.update({n: v for n, v in (wish.options or {}).items() if n in taken})
            try:
                model = client.open(
                    choice.name, format_name, path, format_named(format_name).files(path), options
                )
            except DeviceError:
                raise
            except UnavailableError as error:
                refused.append(error)
                continue
            if choice.version is not None and model.version != choice.version:
                raise UnavailableError(
                    f"{choice.name} is there as {model.version}, not {choice.version}",
                    where=client.where,
                    hint=f"leave '=={choice.version}' out, or install that version there",
                )
            undo.pop_all()
            return client, choice.name, model
    reasons = list(dict.fromkeys(error.what for error in refused))
    if len(reasons) == 1:
        raise refused[0]
    raise UnavailableError(
        f"no runtime for '{format_name}' could be used: {'; '.join(reasons)}",
        where=refused[0].where,
        hint=refused[0].hint,
    ) from refused[0]


def _tensors(described: Sequence[Mapping[str, Any]]) -> list[FileTensor]:
    """Tensors as a back end describes them; ``index`` is the first place of that name in its list."""
    places = {str(tensor["name"]): place for place, tensor in reversed(list(enumerate(described)))}
    found = []
    for tensor in described:
        shape, scales = tensor.get("shape"), tensor.get("scales") or ()
        quantization = None
        if scales:
            zero_points = tuple(int(value) for value in tensor.get("zero_points") or ())
            axis = tensor.get("axis")
            quantization = Quantization(
                tuple(float(value) for value in scales), zero_points, None if axis is None else int(axis)
            )
        found.append(
            FileTensor(
                index=places[str(tensor["name"])],
                name=str(tensor.get("tensor", tensor["name"])),
                dtype=str(tensor["dtype"]),
                shape=tuple(None if size is None else int(size) for size in shape or ()),
                key=tensor.get("key") or None,
                quantization=quantization,
                rank_known=shape is not None,
            )
        )
    return found
