"""The files beside an ONNX model that hold its weights, and the refusal of those that are not beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._onnx_model import COPY_AGAIN, all_tensors


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """A tensor whose values lie in another file, as the model names it."""

    name: str
    location: str
    offset: int
    length: int | None


def external_tensors(model: Any) -> list[ExternalTensor]:
    """All tensors of a model whose values lie in other files."""
    found = []
    for tensor in all_tensors(model):
        if tensor.data_location != 1:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        found.append(
            ExternalTensor(
                name=tensor.name,
                location=entries.get("location", ""),
                offset=_number(entries.get("offset")) or 0,
                length=_number(entries.get("length")),
            )
        )
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None


def external_files(path: Path, model: Any) -> list[Path]:
    """The files with external data of a model, each checked to lie beside it.

    Raises:
        InvalidModelError: a name leads out of the model's folder, a file is not there or is too short.
    """
    files: dict[str, Path] = {}
    needed: dict[str, tuple[int, str]] = {}
    for tensor in external_tensors(model):
        location = tensor.location
        if location not in files:
            files[location] = _beside(path, location, tensor.name)
            needed[location] = (0, tensor.name)
        end = tensor.offset + (tensor.length or 0)
        if end > needed[location][0]:
            needed[location] = (end, tensor.name)
    for location, file in files.items():
        end, name = needed[location]
        size = file.stat().st_size
        if size < end:
            raise InvalidModelError(
                f"the external data file is {size} bytes long, tensor '{name}' ends at byte {end}",
                where=str(file),
                hint=COPY_AGAIN,
            )
    return sorted(set(files.values()))


def _beside(path: Path, location: str, tensor: str) -> Path:
    windows = PureWindowsPath(location)
    escapes = (
        not location
        or "\0" in location
        or windows.is_absolute()
        or bool(windows.drive)
        or location.startswith(("/", "\\"))
        or ".." in windows.parts
    )
    file = path.parent / location if not escapes else path
    if not escapes:
        try:
            # A link must not lead out of the folder either.
            escapes = not file.resolve().is_relative_to(path.parent.resolve())
        except (OSError, ValueError, RuntimeError):
            escapes = True
    if escapes:
        raise InvalidModelError(
            f"tensor '{tensor}' takes its data from {location!r}, which is not beside the model",
            where=str(path),
            hint="save the model again with its external data in the model's own folder",
        )
    try:
        there = file.is_file()
    except OSError:
        there = False
    if not there:
        raise InvalidModelError(
            f"the external data file '{location}' is not here",
            where=str(path),
            why=f"tensor '{tensor}' is stored in it",
            hint=f"copy '{location}' into the folder of the model",
        )
    return file
