"""Lists what is in an HDF5 file, as a program of its own: ``_hdf5_reader.py FILE OFFSET SIZE``.

The HDF5 library can crash on a damaged file and take its process with it, so models are never opened in the
process of the caller. Prints one JSON object; needs nothing of edgeconv, for it is run as a file.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

MOST_OBJECTS = 1_000_000
_ATTRIBUTES = ("model_config", "keras_version", "backend", "training_config", "layer_names")


class Window(io.RawIOBase):
    """A part of a file as a file of its own: a member that an archive stores as it is."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._start, self._size, self._position = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        self._stream.seek(self._start + self._position)
        data = self._stream.read(count)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def contents(file: Any) -> dict[str, Any]:
    """Attributes of the root and of ``model_weights``, and all weights below the latter or the root."""
    inner = file.get("model_weights")
    root = file if inner is None else inner
    return {
        "attributes": _texts(file),
        "weights_attributes": {} if inner is None else _texts(inner),
        "has_model_weights": inner is not None,
        "weights": [[path, dtype, list(shape)] for path, dtype, shape in weights_below(root)],
    }


def weights_below(group: Any) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Path, element type and shape of all data sets below a group.

    Links are not followed out of the file, and each object counts once.
    """
    import h5py

    seen: set[tuple[Any, Any]] = set()
    todo = [("", group)]
    while todo:
        path, current = todo.pop()
        for name in current:
            if not isinstance(current.get(name, getlink=True), h5py.HardLink):
                continue
            child = current[name]
            info = h5py.h5o.get_info(child.id)
            if (info.fileno, info.addr) in seen:
                continue
            seen.add((info.fileno, info.addr))
            if len(seen) > MOST_OBJECTS:
                raise ValueError("it holds more objects than any model")
            inner = f"{path}/{name}" if path else str(name)
            if isinstance(child, h5py.Dataset):
                yield inner, str(child.dtype), tuple(int(size) for size in child.shape or ())
            elif isinstance(child, h5py.Group):
                todo.append((inner, child))


def _texts(group: Any) -> dict[str, str | None]:
    """Attributes of interest that are there; ``None`` for one that is no text."""
    found: dict[str, str | None] = {}
    for name in _ATTRIBUTES:
        if name in group.attrs:
            value = group.attrs[name] if name != "layer_names" else None
            if isinstance(value, bytes):
                value = value.decode("utf-8", errors="replace")
            found[name] = value if isinstance(value, str) else None
    return found


def main() -> int:
    """Print the contents, or the error; 1 where the file is damaged."""
    import resource

    path, offset, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # A damaged length must not become an allocation that hurts the machine.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import h5py

    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - nothing but what is needed is imported here
            source: Any = io.BufferedReader(Window(stream, offset, size)) if offset else path
            with h5py.File(source, "r") as file:
                print(json.dumps(contents(file)))
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(json.dumps({"error": lines[0][:160]}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
