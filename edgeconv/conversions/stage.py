"""The worker's side of a conversion: from JSON to a :class:`ConversionJob` and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.conversions.base import ConversionJob
from edgeconv.conversions.registry import conversion_named
from edgeconv.errors import ConversionError
from edgeconv.formats.base import Artifact, contract_from_json, to_json
from edgeconv.formats.registry import format_named, sha256_of
from edgeconv.surgery.changes import messages


def convert(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Run one conversion.

    Args:
        payload: ``conversion``, ``source`` (path, format, precision, sha256, contract), ``destination``,
            ``precision``, ``scratch``, ``calibration`` (path or null), ``options``.

    Returns:
        ``contract``, ``notes`` (those of the changes among them), ``replaced`` (tensors of the source that
        compute something else now, see ``edgeconv.surgery.changes``), and ``sha256`` and ``bytes`` of what
        was written.
    """
    source = payload["source"]
    conversion = conversion_named(payload["conversion"], source["precision"], payload["precision"])
    destination = Path(payload["destination"])
    result = conversion.convert(
        ConversionJob(
            source=Artifact(
                path=Path(source["path"]),
                format=source["format"],
                precision=source["precision"],
                sha256=source["sha256"],
                contract=contract_from_json(source["contract"]),
            ),
            destination=destination,
            precision=payload["precision"],
            scratch=Path(payload["scratch"]),
            calibration=None if payload["calibration"] is None else Path(payload["calibration"]),
            options=payload["options"],
        )
    )
    if not destination.exists():
        raise ConversionError(f"{conversion.name} reported success but wrote nothing")
    part = format_named(conversion.target)
    found = part.describe(destination).metadata.get("precision")
    notes = [*result.notes, *messages(result.changes)]
    if found == "fp32" and payload["precision"] != "fp32":
        notes.append(f"nothing in the model could be narrowed to {payload['precision']}: the file is fp32")
    return {
        "contract": to_json(result.contract),
        "notes": notes,
        "replaced": [to_json(each) for change in result.changes for each in change.replaced],
        "sha256": sha256_of(destination, part),
        "bytes": sum(file.stat().st_size for file in part.files(destination)),
    }
