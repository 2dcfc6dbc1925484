"""One file a format: recognise, describe, hash, validate. No conversion here."""

from __future__ import annotations

from edgeconv.formats.registry import describe, format_named, formats, identify

__all__ = ["describe", "format_named", "formats", "identify"]
