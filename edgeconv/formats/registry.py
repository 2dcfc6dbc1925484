"""All formats, and which of them a path is."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
from functools import cache
from pathlib import Path

from edgeconv.errors import EdgeconvError, InvalidModelError, UsageError
from edgeconv.formats.base import Description, Format
from edgeconv.registry import discover

HEAD_BYTES = 4096
_ENTRIES = 50
_LFS_HEAD = b"version https://git-lfs.github.com/spec/"


@cache
def formats() -> dict[str, Format]:
    """All registered formats by name."""
    found = [part for part in discover("edgeconv.formats", "FORMAT") if isinstance(part, Format)]
    return {part.name: part for part in found}


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: there is none; names the nearest.
    """
    known = formats()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"unknown format '{name}'",
            hint=f"did you mean '{near[0]}'?" if near else f"known formats: {', '.join(sorted(known))}",
        )
    return known[name]


def identify(path: Path) -> Format:
    """The format of the model at ``path``, recognised by content and not by name.

    Raises:
        UsageError: nothing is there.
        InvalidModelError: it is none of the known formats; says what it looks like.
    """
    found = _recognised(path)
    if found is None:
        inside = _models_inside(path)
        raise InvalidModelError(
            "no known model format",
            where=str(path),
            why=_looks_like(path),
            hint=f"name the model in it: {' or '.join(inside)}"
            if inside
            else f"known formats: {', '.join(sorted(formats()))}",
        )
    return found


def _recognised(path: Path) -> Format | None:
    ranked = sorted(
        ((part.recognise(path, _head(path)), part.name, part) for part in formats().values()),
        key=lambda item: (-item[0], item[1]),
    )
    return ranked[0][2] if ranked and ranked[0][0] > 0 else None


def _models_inside(folder: Path) -> list[str]:
    """Models that lie directly in a folder that is none itself, as exporters leave them; three at most."""
    if not folder.is_dir():
        return []
    found: list[str] = []
    for entry in sorted(folder.iterdir())[:_ENTRIES]:
        with contextlib.suppress(EdgeconvError, OSError):
            if not entry.is_symlink() and _recognised(entry) is not None:
                found.append(str(entry))
    return found[:3]


def describe(path: Path) -> Description:
    """Identify and describe the model at ``path``; see :meth:`Format.describe`."""
    return identify(path).describe(path)


def sha256_of(path: Path, part: Format) -> str:
    """SHA-256 of a model: of the bytes of a single file, else over names and bytes of all its files.

    The name of the model itself is not part of it, so that a copy has the same hash.
    """
    files = part.files(path)
    if len(files) == 1 and files[0] == path:
        return file_sha256(path)
    digest = hashlib.sha256()
    root = path if path.is_dir() else path.parent
    for file in files:
        digest.update(f"{file.relative_to(root).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes of one file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    if not path.exists():
        # A checkpoint is named by its prefix, which is no file itself.
        if list(path.parent.glob(f"{path.name}.index")):
            return b""
        raise UsageError("no such file or folder", where=str(path), hint="check the path")
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if head.startswith(_LFS_HEAD):
        raise InvalidModelError(
            "this is a Git LFS pointer, not the model itself",
            where=str(path),
            hint="run 'git lfs pull' in its repository, then try again",
        )
    if not head:
        raise InvalidModelError("the file is empty", where=str(path), hint="copy the model again")
    return head


def _looks_like(path: Path) -> str:
    if path.is_dir():
        inside = sorted(child.name for child in path.iterdir())[:5]
        return f"a folder with {', '.join(inside) or 'nothing in it'}"
    if not path.exists():
        return "only the files beside it exist"
    head = _head(path)
    known = {
        b"PK\x03\x04": "a zip archive",
        b"\x89HDF": "an HDF5 file without a Keras model in it",
        b"\x1f\x8b": "a gzip file: unpack it first",
        b"%PDF": "a PDF",
        b"\x89PNG": "a PNG image",
        b"\x7fELF": "a program",
    }
    for magic, name in known.items():
        if head.startswith(magic):
            return name
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:200]):
        return f"a text that begins {head[:40].decode('ascii')!r}"
    return f"its first bytes are {head[:8].hex(' ')}"
