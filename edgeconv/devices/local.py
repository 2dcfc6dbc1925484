"""This machine: the agent under this Python, or under that of a side environment."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgeconv.devices.base import Device, RuntimeChoice, Start
from edgeconv.devices.shipping import agent_file
from edgeconv.environments import store
from edgeconv.environments.specs import find_spec
from edgeconv.errors import UnavailableError, UsageError

_DISTRIBUTIONS = {"litert": "ai-edge-litert"}
"""Where a runtime's distribution has another name; side environments have those of distributions."""


_OLDEST = (3, 8)
"""The oldest Python of the agent."""


class LocalDevice:
    """See :class:`edgeconv.devices.base.Device`."""

    name = "local"
    kind = "local"
    emulated = False
    shares_files = True
    about = "this machine, and its side environments"

    def runtimes(self) -> tuple[RuntimeChoice, ...]:
        """What the side environments have, beside this Python."""
        names = {distribution: name for name, distribution in _DISTRIBUTIONS.items()}
        specs = [each.spec for each in store.installed() if each.spec.version and _serves(each)]
        return tuple(RuntimeChoice(names.get(spec.name, spec.name), spec.version) for spec in specs)

    def start(self, runtime: RuntimeChoice | None) -> Start:
        """This Python where it has the runtime in that version, else the side environment that has it."""
        agent = str(agent_file().path)
        here = runtime is None or runtime.name == "null" or _is_here(runtime)
        if here:
            return Start((sys.executable, "-I", agent), where="this machine")
        assert runtime is not None
        distribution = RuntimeChoice(_DISTRIBUTIONS.get(runtime.name, runtime.name), runtime.version)
        environment = store.required(find_spec(str(distribution)))
        if not _serves(environment):
            raise UnavailableError(
                f"nothing can be asked of the environment '{environment.spec.id}'",
                why=f"its Python is {environment.python_version}; the agent needs {_dotted(_OLDEST)} on",
                hint=f"run what you need there by hand: {environment.python}",
            )
        kept = environment.variables()
        removed: dict[str, str | None] = dict.fromkeys(
            name for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME") if name not in kept
        )
        return Start(
            (str(environment.python), "-I", agent),
            {**removed, **kept},
            where=f"environment '{environment.spec.id}'",
        )


class LocalKind:
    """See :class:`edgeconv.devices.base.DeviceKind`."""

    kind = "local"

    def devices(self) -> tuple[Device, ...]:
        """This machine, always."""
        return (LocalDevice(),)

    def makeable(self) -> tuple[str, ...]:
        """None."""
        return ()

    def from_settings(self, name: str, settings: Mapping[str, Any], path: Path) -> Device:
        """There is only one."""
        raise UsageError("this machine is always there as 'local'", where=f"{path}, device '{name}'")


DEVICE_KIND = LocalKind()


def _serves(environment: store.Environment) -> bool:
    """Whether its Python is one that the agent runs under."""
    version = re.match(r"(\d+)\.(\d+)", environment.python_version)
    return version is not None and (int(version[1]), int(version[2])) >= _OLDEST


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _is_here(runtime: RuntimeChoice) -> bool:
    try:
        here = version(_DISTRIBUTIONS.get(runtime.name, runtime.name))
    except PackageNotFoundError:
        return False
    return runtime.version in (None, here)
