"""What is known of an artifact on disk: what it is, and its contract as the manifest beside it says it."""

from __future__ import annotations

from pathlib import Path

from edgeconv.errors import UsageError
from edgeconv.execution.manifest import FILE_NAME, read_manifest
from edgeconv.formats.base import Contract, Description, Format, contract_from_json
from edgeconv.formats.registry import identify, sha256_of
from edgeconv.latency.records import Artifact
from edgeconv.recipe.contracts import StatesContract


def is_bare(part: Format) -> bool:
    """Whether files of that format name no inputs and outputs of their own, as graphs do not."""
    return isinstance(part, StatesContract)


def artifact_of(path: Path, description: Description | None = None) -> Artifact:
    """An artifact as measurements name it.

    Args:
        path: of it.
        description: of it, where it was read already.
    """
    part = identify(path)
    described = part.describe(path) if description is None else description
    precision = described.metadata.get("precision")
    return Artifact(
        str(path),
        sha256_of(path, part),
        sum(file.stat().st_size for file in part.files(path)),
        part.name,
        None if precision is None else str(precision),
    )


def contract_beside(path: Path) -> Contract | None:
    """What edgeconv said of an artifact when it made it; ``None`` where nothing is said, or of another file.

    A frozen graph does not name its inputs and outputs; the manifest that was written with it does.
    """
    places = [path.with_name(f"{path.name}.{FILE_NAME}"), path.parent / FILE_NAME]
    if path.is_dir():
        places.append(path / FILE_NAME)
    for place in places:
        if not place.is_file():
            continue
        try:
            manifest = read_manifest(place)
        except UsageError:
            continue
        for record in manifest.artifacts:
            lies_at = place.parent / record.path
            if lies_at.resolve() == path.resolve() and record.sha256 == sha256_of(path, identify(path)):
                return contract_from_json(record.contract)
    return None
