"""Finds the files of a checkpoint from any of the names that people give to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats._model_bytes import check_file, read_file
from edgeconv.formats._sstable import is_table
from edgeconv.formats._tensor_bundle import is_shard_name

STATE_FILE = "checkpoint"
_STATE_LIMIT = 2**20
_PATH_LINE = re.compile(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)

_SHARD_PATTERN = re.compile(r"(.+)-\?{5}-of-\d{5}")
"""How the state file of a sharded V1 checkpoint names all of its shards."""


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """The files of one checkpoint.

    Attributes:
        prefix: the name that TensorFlow knows it by.
        index: ``PREFIX.index`` (format V2), or ``None``.
        tables: the tables of format V1; empty for V2.
        meta: ``PREFIX.meta``, the graph of a TF1 checkpoint, or ``None``.
        state: the state file that named it, or ``None``.
    """

    prefix: Path
    index: Path | None
    tables: tuple[Path, ...] = ()
    meta: Path | None = None
    state: Path | None = None


def checkpoint_files(path: Path) -> CheckpointFiles:
    """The files of the checkpoint that ``path`` names: its prefix, folder, state file or any of its files.

    Raises:
        UsageError: a folder holds several checkpoints and no state file that says which.
        InvalidModelError: there is no checkpoint, or only its graph.
    """
    if path.is_dir():
        return _in_folder(path)
    if path.name == STATE_FILE and path.is_file() and not is_table(path):
        return _by_state(path)
    name = path.name
    for suffix in (".index", ".meta"):
        if name.endswith(suffix) and path.is_file():
            return _by_prefix(path.with_name(name.removesuffix(suffix)))
    shard = is_shard_name(name)
    if shard is not None and path.is_file():
        return _by_prefix(path.with_name(shard["prefix"]))
    return _by_prefix(path)


def _by_prefix(prefix: Path, state: Path | None = None) -> CheckpointFiles:
    index = prefix.with_name(f"{prefix.name}.index")
    meta: Path | None = prefix.with_name(f"{prefix.name}.meta")
    if meta is not None and not meta.is_file():
        meta = None
    if index.is_file():
        return CheckpointFiles(prefix, index, (), meta, state)
    tables = _v1_tables(prefix)
    if tables:
        return CheckpointFiles(prefix, None, tables, meta, state)
    if meta is not None:
        raise InvalidModelError(
            "only the graph of the checkpoint is here, its values are missing",
            where=str(meta),
            why=f"there is neither '{index.name}' nor '{prefix.name}'",
            hint=f"copy '{index.name}' and '{prefix.name}.data-00000-of-00001' beside it",
        )
    raise InvalidModelError(
        f"there is no checkpoint '{prefix.name}'",
        where=str(state or prefix),
        why=f"there is no '{index.name}'" + (" beside the state file that names it" if state else ""),
        hint=f"copy '{index.name}' and its data there",
    )


def _v1_tables(prefix: Path) -> tuple[Path, ...]:
    if prefix.is_file():
        check_file(prefix)
        if not is_table(prefix):
            raise InvalidModelError(
                "the checkpoint is truncated or corrupt",
                where=str(prefix),
                why="it does not end as a table of tensors does",
                hint="copy the checkpoint again",
            )
        return (prefix,)
    if not prefix.parent.is_dir():
        return ()
    matches = [(child, is_shard_name(child.name)) for child in sorted(prefix.parent.iterdir())]
    shards = [(child, m) for child, m in matches if m and not m["v2"] and m["prefix"] == prefix.name]
    if not shards:
        return ()
    count = int(shards[0][1]["count"])
    expected = [prefix.with_name(f"{prefix.name}-{number:05d}-of-{count:05d}") for number in range(count)]
    there = {child for child, _ in shards}
    for shard in expected:
        if shard not in there:
            raise InvalidModelError(
                f"the checkpoint's shard '{shard.name}' is missing",
                where=str(prefix),
                hint=f"copy '{shard.name}' beside the others",
            )
    return tuple(expected)


def _in_folder(folder: Path) -> CheckpointFiles:
    state = folder / STATE_FILE
    if state.is_file():
        return _by_state(state)
    names = [child.name for child in folder.iterdir()]
    prefixes = sorted({n.removesuffix(s) for n in names for s in (".index", ".meta") if n.endswith(s)})
    if not prefixes:
        raise InvalidModelError(
            "the folder holds no checkpoint", where=str(folder), hint="name the checkpoint by its prefix"
        )
    if len(prefixes) > 1:
        raise UsageError(
            f"the folder holds {len(prefixes)} checkpoints: {', '.join(prefixes[:8])}",
            where=str(folder),
            why="no state file says which is the latest",
            hint=f"name one, for example {folder / prefixes[-1]}",
        )
    return _by_prefix(folder / prefixes[0])


def _by_state(state: Path) -> CheckpointFiles:
    text = read_file(state, _STATE_LIMIT).decode("utf-8", errors="replace")
    match = _PATH_LINE.search(text)
    if match is None:
        raise InvalidModelError(
            "the state file names no checkpoint",
            where=str(state),
            why="it has no line 'model_checkpoint_path'",
            hint="name the checkpoint by its prefix",
        )
    named = Path(re.sub(r"\\(.)", r"\1", match[1]))
    pattern = _SHARD_PATTERN.fullmatch(named.name)
    if pattern is not None:
        named = named.with_name(pattern[1])
    folder = state.parent
    # A state file may hold the path of the machine it was written on; nothing outside its folder is opened.
    inner = folder / named
    inside = not named.is_absolute() and ".." not in named.parts
    prefix = inner if inside and inner.parent.is_dir() else folder / named.name
    return _by_prefix(prefix, state)
