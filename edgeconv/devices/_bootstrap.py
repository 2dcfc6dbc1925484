"""What begins on a board that has a shell and Python only: the agent if it is there, else it is asked for.

One line for the login shell, whatever shell that is, starts a small script of ``sh``. That tries one Python
after another with a small program, which looks for the agent in the store by its hash, reads it from standard
input where it is not there, and becomes the agent, on the same pipes and without a second interpreter.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence

from edgeconv.devices.shipping import PACKAGE

ASK = b"ECV0 send the agent\n"
"""What the board says when it has not this agent; the bytes of the agent are the answer."""

NO_PYTHON, TOO_OLD, CANNOT_RUN, FULL, CANNOT_WRITE, GARBLED = 96, 97, 95, 98, 93, 94
"""Exit codes of the script: what is missing there. The agent's own are below 10."""

PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 7, -1)), "python")
"""Tried in this order where the settings name none."""

# Read by Pythons that are too old, too, which must be able to say so.
_PROGRAM = f"""
import sys
if sys.version_info < (3, 8):
    sys.stderr.write("edgeconv: %s is Python %d.%d\\n" % ((sys.executable,) + tuple(sys.version_info[:2])))
    sys.exit({TOO_OLD})
import errno, hashlib, os
sha, size, store = sys.argv[1], int(sys.argv[2]), os.path.expanduser(sys.argv[3])
folder = os.path.join(store, "agents")
path = os.path.join(folder, sha + ".pyz")

def failed(code, what):
    sys.stderr.write("edgeconv: %s\\n" % what)
    sys.exit(code)

def kept():
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest() == sha
    except OSError:
        return False

def write(data, target):
    import time
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        other = os.path.join(folder, name)
        if name.endswith(".tmp") and time.time() - os.stat(other).st_mtime > 3600:
            os.remove(other)
    fresh = "%s.%d.tmp" % (target, os.getpid())
    try:
        with open(fresh, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(fresh, target)
    except OSError:
        if os.path.exists(fresh):
            os.remove(fresh)
        raise

def compiled():
    # Of this Python's own making: to compile the agent anew takes longer than all else that it does at first.
    from _frozen_importlib_external import MAGIC_NUMBER as magic
    name = sys.implementation.cache_tag
    target = os.path.join(folder, "%s.%s-%s" % (sha, name, "".join("%02x" % byte for byte in magic)))
    try:
        with open(target, "rb") as stream:
            data = stream.read()
        if hashlib.sha256(data[32:]).digest() == data[:32]:
            return target
    except OSError:
        pass
    import io, marshal, zipfile
    made = io.BytesIO()
    with zipfile.ZipFile(path) as sources, zipfile.ZipFile(made, "w") as codes:
        for each in sources.namelist():
            code = compile(sources.read(each), each, "exec", dont_inherit=True)
            codes.writestr(zipfile.ZipInfo(each + "c"), magic + bytes(12) + marshal.dumps(code))
    data = made.getvalue()
    try:
        write(hashlib.sha256(data).digest() + data, target)
    except OSError:
        return path
    return target

if not kept():
    os.write(1, {ASK!r})
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit({GARBLED})
        data += part
    if hashlib.sha256(data).hexdigest() != sha:
        failed({GARBLED}, "the agent did not arrive as it was sent")
    try:
        write(data, path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        failed({FULL} if full else {CANNOT_WRITE}, "%s: %s" % (folder, error.strerror))
    del data
sys.argv[:] = [path, "--store", store]
sys.path[:] = [compiled()] + [each for each in sys.path if each]
from {PACKAGE}.main import main
main()
"""

# No single quote and no backslash: in single quotes, every login shell takes it as it is.
_SCRIPT = (
    "s=$1; n=$2; d=$3; c=$4; shift 4; f=; "
    'for p in "$@"; do '
    'case $p in "~/"*) p=$HOME/${p#"~/"};; esac; '
    'case $p in */*) if [ -d "$p" ]; then p=$p/bin/python; fi;; esac; '
    'command -v "$p" >/dev/null 2>&1 || continue; '
    'f=1; "$p" -B -c "$c" "$s" "$n" "$d"; r=$?; '
    f"case $r in {TOO_OLD}) ;; 126|127) exit {CANNOT_RUN};; *) exit $r;; esac; "
    "done; "
    f'if [ "$f" ]; then exit {TOO_OLD}; fi; exit {NO_PYTHON}'
)

# Kills nothing but that agent: a number alone may belong to another process by now.
_REAP = (
    "p=$1; s=$2; d=$3; "
    'case $d in "~/"*) d=$HOME/${d#"~/"};; esac; '
    'if grep -q "$s" /proc/$p/cmdline 2>/dev/null; then kill -9 $p; fi; '
    'rm -rf "$d"/sessions/$p-*'
)


def begin(sha256: str, size: int, store: str, pythons: Sequence[str] = PYTHONS) -> str:
    """The line for the login shell that begins the agent.

    Args:
        sha256: of the agent.
        size: of the agent, bytes.
        store: folder on the board; a leading ``~/`` is the home there.
        pythons: names or paths of interpreters, or folders of virtual environments, in the order to try.
    """
    code = base64.b64encode(_PROGRAM.encode()).decode()
    program = f'import binascii;exec(binascii.a2b_base64("{code}"))'
    return _line(_SCRIPT, sha256, str(size), store, program, *pythons)


def reap(pid: int, sha256: str, store: str) -> str:
    """The line that ends the agent of that number, if it is one, and removes what it left half done."""
    return _line(_REAP, str(pid), sha256, store)


def _line(script: str, *arguments: str) -> str:
    return "exec sh -c " + " ".join(shlex.quote(word) for word in (script, "edgeconv", *arguments))
