"""Other load on this machine that comes and goes: what a verdict has to bear."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

_TOGGLER = """
import os, random, select, signal, sys
count, rng = int(sys.argv[1]), random.Random(int(sys.argv[2]))
loops = []
for _ in range(count):
    parent = os.getpid()
    child = os.fork()
    if not child:
        os.close(0)
        os.close(1)
        while os.getppid() == parent:
            for _ in range(100000):
                pass
        os._exit(0)
    loops.append(child)
os.write(1, b".")
try:
    while not select.select([0], [], [], rng.uniform(0.05, 0.5))[0]:
        running = rng.randrange(count + 1)
        for place, loop in enumerate(loops):
            os.kill(loop, signal.SIGCONT if place < running else signal.SIGSTOP)
finally:
    for loop in loops:
        os.kill(loop, signal.SIGKILL)
        os.waitpid(loop, 0)
"""


@contextlib.contextmanager
def toggling(loops: int, seed: int = 0) -> Iterator[None]:
    """While it is open, every 50 to 500 ms between none and ``loops`` busy loops run, by chance.

    They end with the block, and with this process however it ends: the end of its pipe ends them.
    """
    if not loops:
        yield
        return
    command = [sys.executable, "-I", "-S", "-c", _TOGGLER, str(loops), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as toggler:
        assert toggler.stdin is not None
        assert toggler.stdout is not None
        try:
            toggler.stdout.read(1)  # all of them are there
            yield
        finally:
            toggler.stdin.close()
            toggler.wait()
