"""``edgeconv inspect``: the description of what the user chose of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgeconv.errors import UsageError
from edgeconv.formats.base import Description
from edgeconv.formats.registry import identify
from edgeconv.recipe.contracts import HasParts


def described(path: Path, tags: Sequence[str] | None = None, signature: str | None = None) -> Description:
    """Describe a model, or the graph of some tags and what one signature of it runs.

    Raises:
        UsageError: nothing is there, no such tags or signature, or a format that has none.
        InvalidModelError: no known format, truncated, corrupt, or of a newer version.
    """
    part = identify(path)
    if tags is None and signature is None:
        return part.describe(path)
    if isinstance(part, HasParts):
        description = part.describe_part(path, tags, signature)
    else:
        if tags is not None:
            raise UsageError(f"a {part.name} has no tags", where=str(path), hint="leave --tags out")
        description = part.describe(path)
    if signature is None:
        return description
    named = tuple(each for each in description.signatures if each.name == signature)
    if not named:
        raise UsageError(
            f"there is no signature '{signature}'",
            where=str(path),
            hint=f"it has: {', '.join(each.name for each in description.signatures) or 'none'}",
        )
    return dataclasses.replace(description, signatures=named)
