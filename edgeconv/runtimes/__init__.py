"""One file a runtime: open, describe inputs and outputs, infer, close."""

from __future__ import annotations

from edgeconv.runtimes.registry import runtime_for, runtimes

__all__ = ["runtime_for", "runtimes"]
