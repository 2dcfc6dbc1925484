"""What is printed of a front end."""

from __future__ import annotations

from edgeconv.execution.manifest import FrontEndRecord


def front_end_lines(record: FrontEndRecord) -> list[str]:
    """The cut, the function that does what is before it, and how close that is to the source."""
    lines = [f"source: {note}" for note in record.notes]
    if record.path is not None:
        needs = f", needs {' and '.join(record.requires)}" if record.requires else ""
        beside = f" and {record.data}" if record.data else ""
        lines.append(f"front end: {record.path}{beside}{needs}; gate {record.gate.verdict}{_error(record)}")
    if not record.supplied and record.outputs:
        reason = f" ({record.reason})" if record.reason else ""
        lines.append(f"front end: not supplied{reason}; feed the artifacts with the tensors of the cut")
    return lines


def _error(record: FrontEndRecord) -> str:
    errors = [output.max_abs for output in record.gate.outputs if output.max_abs is not None]
    if record.gate.verdict == "fail":
        return f", {record.gate.reason}"
    return f", max abs {max(errors):.2g}" if errors else ""
