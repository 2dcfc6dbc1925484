"""Boards that several test files of this folder use; made when the first of them asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from devices import boards
from devices import ssh_board as over_ssh

from edgeconv.devices._userland import Built


@pytest.fixture(scope="session")
def boards_folder() -> Path:
    """Where emulated boards lie in tests."""
    return boards.folder()


@pytest.fixture(scope="session")
def arm64(boards_folder: Path) -> Built:
    """The emulated Raspberry Pi 4, with all its runtimes."""
    return boards.built("rpi4-emulated", boards_folder)


@pytest.fixture(scope="session")
def armhf(boards_folder: Path) -> Built:
    """The emulated 32-bit Raspberry Pi 3."""
    return boards.built("rpi3-32-emulated", boards_folder)


@pytest.fixture(scope="session")
def ssh_tree(boards_folder: Path) -> Built:
    """The userland of boards over SSH; start one of your own with ``ssh_board.running(ssh_tree, folder)``."""
    return over_ssh.tree(boards_folder)


@pytest.fixture(scope="session")
def ssh_board(ssh_tree: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[over_ssh.SshBoard]:
    """A board over SSH that runs for the whole session; for tests that leave it as they found it."""
    with over_ssh.running(ssh_tree, tmp_path_factory.mktemp("ssh-board")) as board:
        yield board
