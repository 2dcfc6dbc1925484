"""Hashes of what an option points at: a path in a cache key says nothing of what lies there."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError
from edgeconv.formats.registry import file_sha256, identify, sha256_of


def option_sha256(options: Mapping[str, Any]) -> dict[str, str]:
    """Option name to the hash of what its value points at, for those that point at something.

    Args:
        options: the user's options by name; ``model_builder`` is ``MODULE:FUNCTION`` or
            ``FILE.py:FUNCTION``, ``custom_objects`` a module or a file, ``config`` a file, ``checkpoint`` a
            checkpoint, ``graph`` a file that has the graph of one.
    """
    hashes: dict[str, str] = {}
    if builder := options.get("model_builder"):
        hashes["model_builder"] = _code_beside(_file_of(str(builder)))
    if module := options.get("custom_objects"):
        hashes["custom_objects"] = _code_beside(_file_of(f"{module}:"))
    if config := options.get("config"):
        path = Path(str(config))
        hashes["config"] = file_sha256(path) if path.is_file() else "not found"
    for name in ("pipeline_config", "label_map"):
        if file := options.get(name):
            path = Path(str(file))
            hashes[name] = file_sha256(path) if path.is_file() else "not found"
    for name in ("checkpoint", "graph"):
        if not options.get(name):
            continue
        path = Path(str(options[name]))
        try:
            hashes[name] = sha256_of(path, identify(path))
        except EdgeconvError:
            hashes[name] = "unreadable"  # the conversion says what is wrong with it
    return hashes


def _file_of(builder: str) -> Path | None:
    """The file that defines a builder, found without importing it."""
    module = builder.rpartition(":")[0]
    if module.endswith(".py"):
        return Path(module)
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        spec = importlib.util.find_spec(module.split(".")[0])
    except (ImportError, ValueError):
        return None
    finally:
        if added:
            sys.path.remove(here)
    return Path(spec.origin) if spec is not None and spec.origin else None


def _code_beside(file: Path | None) -> str:
    """SHA-256 over the Python files of a file's folder and below: a builder imports from beside it."""
    if file is None or not file.exists():
        return "not found"
    below = "**/*.py" if file.name == "__init__.py" else "*.py"
    digest = hashlib.sha256()
    for each in sorted(file.parent.glob(below)):
        digest.update(f"{each.relative_to(file.parent)}\0{file_sha256(each)}\n".encode())
    return digest.hexdigest()
