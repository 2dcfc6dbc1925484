"""One file an arrow between two formats, named ``<target>_from_<source>``."""

from __future__ import annotations

from edgeconv.conversions.registry import conversions

__all__ = ["conversions"]
