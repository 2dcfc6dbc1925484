"""All devices by name: those that are there by themselves, and those of the user's file."""

from __future__ import annotations

from functools import cache
from typing import cast

from edgeconv.devices.base import Device, DeviceKind
from edgeconv.devices.settings import nearest, settings_file, written_down
from edgeconv.errors import EdgeconvError, UnavailableError, UsageError
from edgeconv.registry import discover


@cache
def kinds() -> dict[str, DeviceKind]:
    """The ways to reach a device, by the word that settings name them with."""
    found = cast("list[DeviceKind]", discover("edgeconv.devices", "DEVICE_KIND"))
    return {kind.kind: kind for kind in found}


def find_device(name: str) -> Device:
    """The device of that name.

    Raises:
        UnavailableError: a board of that name can be made, and is not.
        UsageError: there is none (names the nearest), or its settings are wrong.
    """
    settings = written_down()
    if name in settings:
        return _from_settings(name, settings[name])
    by_themselves = {device.name: device for kind in kinds().values() for device in kind.devices()}
    if name in by_themselves:
        return by_themselves[name]
    makeable = makeable_names()
    if name in makeable:
        raise UnavailableError(f"'{name}' is not made yet", hint=f"make it: edgeconv devices create {name}")
    # Another release of a board's system is not worth a place in the list of what may have been meant.
    near = nearest(name, dict.fromkeys([*by_themselves, *settings, *(n for n in makeable if "@" not in n)]))
    add = f"edgeconv devices add {name} ssh USER@HOST"
    raise UsageError(f"there is no device '{name}'", hint=f"{near}; or write a board down: {add}")


def makeable_names() -> tuple[str, ...]:
    """Names that ``edgeconv devices create`` takes, whether they are made or not."""
    return tuple(name for kind in kinds().values() for name in kind.makeable())


def all_devices() -> tuple[list[Device], list[EdgeconvError]]:
    """All devices, the written ones last, and what is wrong with those whose settings cannot be used."""
    settings = written_down()
    found = [d for kind in kinds().values() for d in kind.devices() if d.name not in settings]
    wrong: list[EdgeconvError] = []
    for name, each in settings.items():
        try:
            found.append(_from_settings(name, each))
        except EdgeconvError as error:
            wrong.append(error)
    return found, wrong


def target_of(device: Device) -> str | None:
    """The target that the device is said to be, for ``edgeconv check``; ``None`` where nothing says it."""
    target = getattr(device, "target", None)
    return None if target is None else str(target)


def _from_settings(name: str, settings: dict[str, object]) -> Device:
    path = settings_file()
    where = f"{path}, device '{name}'"
    rest = {str(key): value for key, value in settings.items() if key != "kind"}
    word = settings.get("kind")
    if word is None:
        raise UsageError("'kind' is missing", where=where, hint="write 'kind: ssh'")
    kind = kinds().get(str(word))
    if kind is None:
        raise UsageError(f"there is no kind '{word}'", where=where, hint=nearest(str(word), kinds()))
    return kind.from_settings(name, rest, path)
