"""The user's file of devices: ``devices.yaml`` in the folder of settings.

    rpi4:                       # any name: small letters, digits, '.', '_' and '-'
      kind: ssh
      host: pi@192.168.1.20     # all other keys are those of the kind
      target: rpi4              # what it is, for `edgeconv check`

What is added is appended and what is removed is cut out as text, so that comments and order stay the
person's own.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from edgeconv.errors import UsageError
from edgeconv.paths import settings_folder

if TYPE_CHECKING:
    from pydantic import BaseModel

    Schema = TypeVar("Schema", bound=BaseModel)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_LARGEST = 1 << 20


def settings_file() -> Path:
    """Where the user's devices are written down."""
    return settings_folder() / "devices.yaml"


def written_down() -> dict[str, dict[str, Any]]:
    """What the user's file says: name to settings; nothing where there is no file.

    Raises:
        UsageError: no YAML, or not of this form.
    """
    path = settings_file()
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the file of devices cannot be read", where=str(path), why=str(error)) from error
    return _parsed(text, path)


def add(name: str, settings: Mapping[str, Any]) -> Path:
    """Append a device to the user's file, which is made if need be; returns the file.

    Raises:
        UsageError: a name that is none or is there already.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is no name for a device", hint="use small letters, digits, '.', '_' and '-': pi4-lab"
        )
    path = settings_file()
    if name in written_down():
        raise UsageError(
            f"there is a device '{name}' already",
            where=str(path),
            hint=f"choose another name, or first: edgeconv devices remove {name}",
        )
    text = path.read_text() if path.is_file() else ""
    if text and not text.endswith("\n"):
        text += "\n"
    block = yaml.safe_dump({name: dict(settings)}, sort_keys=False, allow_unicode=True)
    _write(path, text + block, {**_parsed(text, path), name: dict(settings)})
    return path


def remove(name: str) -> bool:
    """Cut a device out of the user's file; returns whether it was there."""
    path = settings_file()
    left = written_down()
    if left.pop(name, None) is None:
        return False
    key = _key_line(name)
    kept: list[str] = []
    within = False
    for line in path.read_text().splitlines(keepends=True):
        if line[:1] not in (" ", "\t", "#", "\n", "}"):
            within = key.match(line) is not None
        if not within or line.startswith("#"):
            kept.append(line)
    _write(path, "".join(kept), left)
    return True


def set_value(name: str, key: str, value: str) -> None:
    """Set one setting of a device that is in the user's file, and leave the rest as it stands."""
    path = settings_file()
    meant = written_down()
    meant[name] = {**meant[name], key: value}
    lines = path.read_text().splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if _key_line(name).match(line)]
    if len(begins) == 1:
        following = lines[begins[0] + 1] if begins[0] + 1 < len(lines) else ""
        indent = following[: len(following) - len(following.lstrip(" "))] or "  "
        lines.insert(begins[0] + 1, indent + yaml.safe_dump({key: value}))
    _write(path, "".join(lines), meant)


def checked(schema: type[Schema], name: str, settings: Mapping[str, Any], path: Path) -> Schema:
    """The settings as what the schema of their kind makes of them.

    Raises:
        UsageError: a key it does not know (names the nearest), or a value that does not fit.
    """
    from pydantic import ValidationError

    try:
        return schema.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = list(schema.model_fields)
        where = f"{path}, device '{name}'"
        if first["type"] == "extra_forbidden":
            raise UsageError(f"'{key}' is no setting", where=where, hint=nearest(key, known)) from error
        what = f"'{key}' is missing" if first["type"] == "missing" else f"'{key}': {first['msg']}"
        raise UsageError(what, where=where, hint=f"settings there: {', '.join(known)}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word a person may have meant, or all of them."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(words) or 'none'}"


def _key_line(name: str) -> re.Pattern[str]:
    word = re.escape(name)
    return re.compile(rf"""(?:{word}|"{word}"|'{word}')\s*:""")


def _parsed(text: str, path: Path) -> dict[str, dict[str, Any]]:
    if len(text) > _LARGEST:
        raise UsageError("the file of devices is too large", where=str(path))
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        at = "" if mark is None else f" in line {mark.line + 1}"
        raise UsageError(
            f"the file of devices is no YAML{at}",
            where=str(path),
            why=str(getattr(error, "problem", None) or error),
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(each, dict) for each in content.values()):
        raise UsageError(
            "the file of devices has something else than names with settings below them",
            where=str(path),
            hint="write 'NAME:' and below it, two spaces in, 'kind: ssh' and 'host: USER@HOST'",
        )
    for name in content:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' is no name for a device",
                where=str(path),
                hint="use small letters, digits, '.', '_' and '-': pi4-lab",
            )
    return content


def _write(path: Path, text: str, meant: Mapping[str, Any]) -> None:
    """Replace the file, if the text really says what is meant; else write what is meant anew."""
    try:
        said = _parsed(text, path)
    except UsageError:
        said = {}
    if said != meant:  # a file in a form that cannot be edited as text, such as one pair of braces
        text = yaml.safe_dump(dict(meant), sort_keys=False, allow_unicode=True) if meant else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=".devices.")
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        Path(fresh).replace(path)
    except OSError as error:
        raise UsageError("the file of devices cannot be written", where=str(path), why=str(error)) from error
