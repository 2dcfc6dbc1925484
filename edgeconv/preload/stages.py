"""Imports edgeconv's own part of every stage, for the processes that workers are forked from.

Finding all formats, arrows and runtimes takes a third of a second, which each worker would pay.
"""

from __future__ import annotations

from edgeconv.conversions.registry import conversions
from edgeconv.formats.registry import formats
from edgeconv.runtimes.registry import runtimes

FOUND = (len(formats()), len(conversions()), len(runtimes()))
"""How many of each there are; that they were looked for is the purpose."""
