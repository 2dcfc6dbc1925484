"""The agent as one file: a zip archive that any Python from 3.8 on runs, the same bytes for the same code."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import edgeconv.agent
from edgeconv.paths import cache_folder

PACKAGE = "edgeconv_agent"
"""What the agent's package is called in the file."""
_MAIN = f"from {PACKAGE}.main import main\n\nmain()\n"


@dataclass(frozen=True, slots=True)
class Shipped:
    """The agent's bytes, their SHA-256, and a file of this machine that holds them."""

    data: bytes
    sha256: str
    path: Path


@cache
def agent_file() -> Shipped:
    """The agent of this edgeconv, written to the cache folder once."""
    data = _archive(Path(edgeconv.agent.__file__).parent)
    sha256 = hashlib.sha256(data).hexdigest()
    path = cache_folder() / "agents" / f"{sha256[:16]}.pyz"
    if not path.is_file() or path.read_bytes() != data:
        _write(path, data)
    return Shipped(data, sha256, path)


def _archive(folder: Path) -> bytes:
    """All modules under ``folder`` in a fixed order, with fixed dates and rights."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _MAIN.encode())
        for path in sorted(folder.rglob("*.py")):
            _add(archive, f"{PACKAGE}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return memory.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    Path(name).replace(path)
