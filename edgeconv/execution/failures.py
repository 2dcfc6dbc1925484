"""What is left behind when a stage fails: an explanation, the log, and a script that repeats it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from edgeconv.errors import EdgeconvError
from edgeconv.execution.stage import Stage

_MEANING = {
    signal.SIGKILL: (
        "was killed (SIGKILL)",
        "most often the kernel's out-of-memory killer: free memory, or run with --jobs 1",
    ),
    signal.SIGSEGV: ("crashed in native code (SIGSEGV)", "the repro script beside the log repeats it alone"),
    signal.SIGABRT: ("aborted in native code (SIGABRT)", "the log's last lines name the check that failed"),
    signal.SIGBUS: ("crashed with a bus error (SIGBUS)", "a full disk under a mapped file does this: see df"),
    signal.SIGILL: ("used an instruction this CPU lacks (SIGILL)", "compare the CPU with the wheel's needs"),
    signal.SIGTERM: ("was told to end (SIGTERM)", "run the same command again: finished parts are kept"),
}


def explain_exit(status: int) -> tuple[str, str]:
    """What an exit status means and what to do, for a person.

    Args:
        status: exit code, or minus the number of the signal.
    """
    if status < 0:
        try:
            number = signal.Signals(-status)
        except ValueError:
            return f"ended by signal {-status}", "the log says more"
        return _MEANING.get(number, (f"ended by {number.name}", "the log says more"))
    return f"ended with exit code {status}", "the log says more"


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Where the log and the script that repeats a failed stage lie."""

    log: Path
    repro: Path


_REPRO = '''"""Repeats one step of a conversion that failed, alone and in this process.

Step: {name}
It said: {what}

Run it with the Python that has edgeconv installed:  python {file}
"""

from pathlib import Path

from edgeconv.execution.repro import repeat

repeat(Path(__file__).with_name("job.json"))
'''


def record_failure(home: Path, stage: Stage, error: EdgeconvError) -> FailureRecord:
    """Write ``log.txt``, ``job.json`` and ``repro.py`` of a failed stage into the folder ``home``.

    What was there before is replaced.
    """
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    log = home / "log.txt"
    if stage.log.exists():
        shutil.copyfile(stage.log, log)
    else:
        log.write_text(f"{error}\n")
    job = {"name": stage.name, "call": stage.call, "payload": stage.payload, "cwd": os.fspath(Path.cwd())}
    (home / "job.json").write_text(json.dumps(job, indent=1))
    repro = home / "repro.py"
    what = str(error).replace("\\", "\\\\").replace('"""', "'''")
    repro.write_text(_REPRO.format(name=stage.name, what=what, file=repro.name))
    return FailureRecord(log, repro)
