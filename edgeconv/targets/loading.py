"""Finds targets by name: those that ship with edgeconv, and the user's own."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import platformdirs
import yaml
from pydantic import BaseModel, ValidationError

from edgeconv.errors import UsageError
from edgeconv.targets.schema import CURRENT_SCHEMA, Release, Target

_PACKAGE = Path(__file__).parents[1]
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A target with one of its releases chosen: where an artifact is to run.

    Attributes:
        target: the kind of device.
        release_name: ``bookworm``.
        release: what is installed there.
    """

    target: Target
    release_name: str
    release: Release

    @property
    def name(self) -> str:
        """What a person types: ``rpi4`` for the default release, ``rpi4@bullseye`` for another."""
        if self.release_name == self.target.default_release:
            return self.target.name
        return f"{self.target.name}@{self.release_name}"


def shipped_folder() -> Path:
    """Where edgeconv's own targets lie: in the wheel, or in the working tree."""
    inside = _PACKAGE / "_targets"
    return inside if inside.is_dir() else _PACKAGE.parent / "targets"


def own_folder() -> Path:
    """The folder of the user's targets: ``$EDGECONV_TARGETS_DIR``, else one among the person's settings."""
    named = os.environ.get("EDGECONV_TARGETS_DIR")
    return Path(named) if named else Path(platformdirs.user_config_dir("edgeconv")) / "targets"


def target_files() -> dict[str, Path]:
    """Name to file, by name; one of the user's own takes the place of a shipped one of that name."""
    found: dict[str, Path] = {}
    for folder in (shipped_folder(), own_folder()):
        if folder.is_dir():
            found.update({path.stem: path for path in folder.glob("*.yaml")})
    return dict(sorted(found.items()))


def all_targets() -> list[Target]:
    """Every target, by name.

    Raises:
        UsageError: a file is wrong; says which and where.
    """
    return [read_target(path) for path in target_files().values()]


def find_place(text: str) -> Place:
    """The target of a name, with the release that is named behind ``@`` or else the default one.

    Args:
        text: ``rpi4`` or ``rpi4@bullseye``.

    Raises:
        UsageError: there is no such target or release (says the nearest), or its file is wrong.
    """
    name, at, release = text.partition("@")
    files = target_files()
    if name not in files:
        raise _unknown(f"there is no target '{name}'", name, list(files), "'edgeconv targets' lists them")
    target = read_target(files[name])
    if at and release not in target.releases:
        releases = list(target.releases)
        raise _unknown(f"target '{name}' has no release '{release}'", release, releases,
                       f"it has: {', '.join(f'{name}@{one}' for one in releases)}")  # fmt: skip
    chosen = release or target.default_release
    return Place(target, chosen, target.releases[chosen])


def _unknown(what: str, name: str, known: list[str], otherwise: str) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near and name:
        near = [one for one in known if one.startswith(name)][:1]
    return UsageError(what, hint=f"did you mean '{near[0]}'? {otherwise}" if near else otherwise)


def read_target(path: Path, *, named: bool = True) -> Target:
    """Read one target's file.

    Args:
        path: the file.
        named: whether it has to be named as its target is.

    Raises:
        UsageError: it cannot be read, is no YAML, or does not follow the schema; an unknown key is named
            with the nearest known one.
    """
    try:
        status = path.stat()
        target = _read(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise UsageError(
            "cannot read this target", where=str(path), why=error.strerror, hint="check the path"
        ) from error
    if named and target.name != path.stem:
        raise UsageError(
            f"the file is named '{path.stem}', its target '{target.name}'",
            where=str(path),
            hint=f"name the file {target.name}.yaml",
        )
    return target


@lru_cache(maxsize=256)
def _read(path: Path, changed: int, size: int) -> Target:
    if size > _MOST_BYTES:
        raise UsageError(f"a target's file of {size:,} bytes", where=str(path), hint="name the right file")
    try:
        # The C loader is ten times as quick; both make plain data only.
        data = yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UsageError(
            "this target is no YAML", where=str(path), why=" ".join(str(error).split())[:300]
        ) from error
    if not isinstance(data, dict):
        raise UsageError(
            "this is no target: it holds no keys",
            where=str(path),
            hint="copy one: 'edgeconv targets show rpi4 --yaml'",
        )
    if isinstance(data.get("schema"), int) and data["schema"] > CURRENT_SCHEMA:
        raise UsageError(
            f"this target has schema {data['schema']}, newer than the {CURRENT_SCHEMA} known here",
            where=str(path),
            hint="use a newer edgeconv",
        )
    try:
        return Target.model_validate(data)
    except ValidationError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: ValidationError) -> UsageError:
    """The first thing that is wrong; a misspelt key before what is missing because of it."""
    errors = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    first = errors[0]
    place = [str(part) for part in first["loc"]]
    where = f"{path}, {'.'.join(place)}"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], known := _keys_at(place[:-1]), n=1, cutoff=0.5)
        return UsageError(
            f"unknown key '{place[-1]}'",
            where=where,
            hint=f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}",
        )
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(
        f"this target is wrong: {message[:1].lower()}{message[1:]}",
        where=where,
        hint="docs/targets.md says what each key is; 'edgeconv targets show rpi4 --yaml' prints an example",
    )


def _keys_at(place: list[str]) -> list[str]:
    """The keys that the schema knows at a place of the file."""
    kind: Any = Target
    for part in place:
        inner = _models_in(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
            kind = fields.get(part, kind)
        else:
            # Below a mapping or a list, whose keys and numbers are free.
            kind = inner[0] if inner else kind
    models = _models_in(kind)
    return [field.alias or name for name, field in models[0].model_fields.items()] if models else []


def _models_in(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _models_in(inner)]


def add_target(file: Path, *, replace: bool = False) -> tuple[Target, Path]:
    """Check a target's file and copy it into the user's own folder.

    Returns:
        The target and where it lies now.

    Raises:
        UsageError: the file is wrong, or there is one of that name in the folder already.
    """
    target = read_target(file, named=False)
    folder = own_folder()
    path = folder / f"{target.name}.yaml"
    if path.exists() and not replace:
        raise UsageError(
            f"you have a target '{target.name}' already",
            where=str(path),
            hint="give it another name, or use --replace",
        )
    content = file.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    # Beside it first: a reader never sees half of a file.
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_bytes(content)
    beside.replace(path)
    return target, path
