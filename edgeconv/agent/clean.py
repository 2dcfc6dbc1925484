"""Takes back what agents left on a device: files, agents, and the sessions of those that are gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil


def clean(root: str) -> int:
    """Empty the store ``root``; what another running agent has open stays. Returns the bytes given back.

    Nothing is removed but what edgeconv puts there, whatever folder the settings name.
    """
    before = _bytes(root)
    for name in ("files", "agents"):
        shutil.rmtree(os.path.join(root, name), ignore_errors=True)
    sessions = os.path.join(root, "sessions")
    for name in os.listdir(sessions) if os.path.isdir(sessions) else []:
        folder = os.path.join(sessions, name)
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
    for folder in (sessions, root):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return before - _bytes(root)


def _bytes(root: str) -> int:
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
