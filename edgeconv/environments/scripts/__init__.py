"""Programs that run inside side environments: they import nothing of edgeconv."""

from pathlib import Path

SCRIPTS = Path(__file__).parent
"""The folder they lie in."""
