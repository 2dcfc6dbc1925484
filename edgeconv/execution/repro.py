"""Repeats a failed stage in this process; called by the script that a failure leaves behind."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path


def repeat(job_file: Path) -> None:
    """Call the stage of ``job.json`` again, with everything it prints on the terminal.

    What it writes goes to a new temporary folder, which is named and kept.
    """
    job = json.loads(job_file.read_text())
    payload = job["payload"]
    folder = Path(tempfile.mkdtemp(prefix="edgeconv-repro-"))
    for key in ("destination", "scratch", "observation"):
        if key in payload:
            payload[key] = str(folder / Path(payload[key]).name)
    if "scratch" in payload:
        Path(payload["scratch"]).mkdir()
    module, _, name = job["call"].partition(":")
    print(f"{job['name']}: {job['call']}, writing to {folder}", file=sys.stderr)
    value = getattr(importlib.import_module(module), name)(payload)
    print(json.dumps(value, indent=1))
