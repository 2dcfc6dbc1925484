"""An emulated board: a real ARM userland under qemu on this machine.

It proves that an artifact runs there and what it computes; its times say nothing of a real board.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeconv.devices import _emulated_qemu as qemu_user
from edgeconv.devices import _userland
from edgeconv.devices._emulated_boards import Board, find_board, known_boards, suites_of
from edgeconv.devices._userland import Built
from edgeconv.devices.base import Device, RuntimeChoice, Start
from edgeconv.devices.shipping import agent_file
from edgeconv.errors import UsageError

_GREETING_SECONDS = 120.0


class EmulatedDevice:
    """See :class:`edgeconv.devices.base.Device`."""

    kind = "emulated"
    emulated = True
    shares_files = True

    def __init__(self, board: Board, base: Path | None = None) -> None:
        """A board that is or can be made under ``base``."""
        self.board = board
        self.name = board.name
        self.target = board.target
        self.about = board.about
        self._base = base

    def start(self, runtime: RuntimeChoice | None) -> Start:
        """The agent under the board's Python, which sees the distributions of that one runtime.

        Raises:
            UnavailableError: the board was not made or is damaged, or has no such runtime.
        """
        board = self.board
        nothing = runtime is not None and runtime.name == "null"
        chosen = board.runtime(None if nothing else runtime)
        built = _userland.required(board, self._base)
        qemu = qemu_user.find_qemu(board.userland.architecture)
        arguments = [str(agent_file().path), "--store", str(built.folder.absolute() / "store")]
        return Start(
            qemu_user.command(built.root.absolute(), qemu, arguments),
            qemu_user.variables(board, built.root.absolute(), chosen),
            where=f"emulated board '{board.name}' with {chosen.id}",
            greeting_seconds=_GREETING_SECONDS,
        )

    def runtimes(self) -> tuple[RuntimeChoice, ...]:
        """What is installed there; the first is taken where none is named."""
        return tuple(RuntimeChoice(each.name, each.version) for each in self.board.userland.runtimes)


class EmulatedKind:
    """See :class:`edgeconv.devices.base.DeviceKind`."""

    kind = "emulated"

    def devices(self) -> tuple[Device, ...]:
        """The boards that were made."""
        return tuple(EmulatedDevice(built.board) for built in installed())

    def makeable(self) -> tuple[str, ...]:
        """All boards, those with another suite than their own behind them."""
        boards = known_boards()
        suites = [
            f"{each.name}@{suite}" for each in boards for suite in suites_of(each.userland.architecture)
        ]
        return (*(each.name for each in boards), *suites)

    def from_settings(self, name: str, settings: Mapping[str, Any], path: Path) -> Device:
        """Another name for a board: ``board`` is all that there is to set.

        Raises:
            UsageError: there is no such board, or another setting.
        """
        strange = sorted(set(settings) - {"kind", "board"})
        if strange or not isinstance(settings.get("board"), str):
            raise UsageError(
                f"'{strange[0]}' is no setting of an emulated board" if strange else "it names no board",
                where=f"{path}, device '{name}'",
                hint="an emulated board has the setting board, like: board: rpi4-emulated",
            )
        device = EmulatedDevice(find_board(settings["board"]))
        device.name = name
        return device


DEVICE_KIND = EmulatedKind()


def create(
    name: str,
    say: Callable[[str], None] = lambda text: None,
    *,
    suite: str | None = None,
    cached: bool = True,
) -> EmulatedDevice:
    """Make an emulated board; one that is there and whole is left as it is.

    Args:
        name: ``rpi4-emulated``, or with a suite ``rpi4-emulated@trixie``.
        say: takes a line of progress.
        suite: in place of one in the name.
        cached: take wheels that this machine's pip has fetched before.

    Raises:
        UsageError: there is no such board or suite.
        UnavailableError: it cannot be made here; says why.
    """
    board = find_board(name, suite)
    _userland.build(board, say=say, cached=cached)
    return EmulatedDevice(board)


def remove(name: str, *, suite: str | None = None) -> bool:
    """Remove an emulated board with all that is in it; returns whether there was one.

    Raises:
        UsageError: there is no such board or suite.
    """
    return _userland.remove(find_board(name, suite))


def installed() -> tuple[Built, ...]:
    """The boards that were made, those of another release included."""
    boards = [
        find_board(board.name, suite)
        for board in known_boards()
        for suite in suites_of(board.userland.architecture)
    ]
    there = (_userland.found(board) for board in boards)
    return tuple(built for built in there if built is not None)
