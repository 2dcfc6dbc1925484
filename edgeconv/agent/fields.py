"""Fields of a request, checked: what is wrong with one is said by its name."""

from __future__ import annotations

from typing import Any

from .errors import AgentError


def whole(
    header: dict[str, Any], name: str, default: int | None = None, least: int = 0, most: int = 1 << 62
) -> int:
    """A whole number from ``least`` to ``most``; ``default`` where it is not given.

    Raises:
        AgentError: it is no such number, or is missing and has no default (``usage``).
    """
    value = header.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise AgentError("usage", "'%s' is %.40r and must be from %d to %d" % (name, value, least, most))
    return value


def seconds(header: dict[str, Any], name: str, default: float, most: float = 86400.0) -> float:
    """A duration from 0 to ``most`` seconds."""
    value = header.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise AgentError("usage", "'%s' is %.40r and must be seconds from 0 to %g" % (name, value, most))
    return float(value)


def text(header: dict[str, Any], name: str, default: str | None = None) -> str:
    """A string without NUL; ``default`` where it is not given."""
    value = header.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise AgentError("usage", "'%s' is %.40r and must be text" % (name, value))
    return value


def mapping(header: dict[str, Any], name: str) -> dict[str, Any]:
    """A JSON object, empty where it is not given."""
    value = header.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AgentError("usage", "'%s' must be an object" % name)
    return value


def wholes(header: dict[str, Any], name: str, default: list[int], most: int) -> list[int]:
    """A list of 1 to ``most`` whole numbers, none below 0; ``default`` where it is not given."""
    values = header.get(name, default)
    if not isinstance(values, list) or not 1 <= len(values) <= most:
        raise AgentError("usage", "'%s' must be a list of 1 to %d numbers" % (name, most))
    return [whole({name: value}, name) for value in values]


def texts(header: dict[str, Any], name: str) -> list[str]:
    """A list of strings, empty where it is not given."""
    value = header.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise AgentError("usage", "'%s' must be a list of text" % name)
    return value
