"""The text of library functions, with whatever they need, for a file that stands alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODULES = ("audio", "hashing", "images", "text", "records", "sparse", "arrays", "suppression")
_REMARK = re.compile(r"  # (noqa|fmt|type)[^\n]*")


@dataclass(frozen=True, slots=True)
class _Function:
    text: str
    needs: frozenset[str]


@cache
def _library() -> tuple[dict[str, _Function], dict[str, str]]:
    """Functions by name, and import statements by the name that they bind."""
    functions: dict[str, _Function] = {}
    imports: dict[str, str] = {}
    for module in MODULES:
        text = (Path(__file__).parent / "library" / f"{module}.py").read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                body = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                functions[node.name] = _Function(_REMARK.sub("", body), frozenset(names))
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    imports[alias.asname or alias.name] = ast.unparse(ast.Import([alias]))
            elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
                for alias in node.names:
                    imports[alias.asname or alias.name] = ast.unparse(ast.ImportFrom(node.module, [alias], 0))
    return functions, imports


def library_names() -> frozenset[str]:
    """Names of all functions there are."""
    return frozenset(_library()[0])


def sources_of(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Import statements and texts of functions that ``names`` and what they call need, in library order.

    Raises:
        KeyError: there is no function of that name.
    """
    functions, imports = _library()
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo.extend(functions[name].needs & functions.keys())
    used = {need for name in wanted for need in functions[name].needs} | {"np", "Any"}
    statements = sorted({imports[name] for name in used if name in imports})
    return statements, [function.text for name, function in functions.items() if name in wanted]
