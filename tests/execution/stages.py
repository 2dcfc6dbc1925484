"""Stages that do what real ones do at their worst; called in workers by the tests."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError


def echo(payload: dict[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid(), "parent": os.getppid(), **payload}


def loaded(payload: dict[str, Any]) -> dict[str, Any]:
    return {"loaded": [name for name in payload["names"] if name in sys.modules]}


def refuse(payload: dict[str, Any]) -> dict[str, Any]:
    raise ConversionError("no kernel for FOO", where="node/foo", why="it is made up", hint="use BAR")


def surprise(payload: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("keras_tensor_7")


def die(payload: dict[str, Any]) -> dict[str, Any]:
    print("Check failed: shape.dims() == 4", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.Signals[payload["signal"]])
    time.sleep(60)
    return {}


def sleep(payload: dict[str, Any]) -> dict[str, Any]:
    Path(payload["started"]).write_text(str(os.getpid()))
    time.sleep(payload["seconds"])
    return {}


def eat(payload: dict[str, Any]) -> dict[str, Any]:
    hoard = []
    for _ in range(payload["megabytes"]):
        hoard.append(bytearray(os.urandom(1 << 20)))
        time.sleep(0.002)
    time.sleep(payload.get("hold", 0))
    return {"megabytes": len(hoard)}


def stamp(payload: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    time.sleep(payload["seconds"])
    return {"start": start, "end": time.monotonic(), "name": payload["name"], "niceness": os.nice(0)}


def leave_behind(payload: dict[str, Any]) -> dict[str, Any]:
    return {"left": tempfile.mkdtemp()}
