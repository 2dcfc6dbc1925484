"""Whether two artifacts of one model compute the same: probes, metrics, tolerances, the gate, locating."""

from __future__ import annotations
