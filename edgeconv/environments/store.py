"""Side environments on disk: made, found, checked, removed. Never the user's own.

Each is a folder of its own under edgeconv's cache, whole or not there: it is made beside its place and
renamed when everything is installed and imports. Nothing makes one unless a person asks for it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from edgeconv.environments.specs import Spec, canonical, known_specs
from edgeconv.errors import ConversionError, UnavailableError, UsageError
from edgeconv.paths import cache_folder

_STAMP = "edgeconv-environment.json"
_STEP_SECONDS = 1800.0
_NO_NETWORK = re.compile(
    r"Failed to establish a new connection|Temporary failure in name resolution|Name or service not known|"
    r"Network is unreachable|Connection refused|ConnectTimeout|ReadTimeout|ProxyError|SSLError|"
    r"No route to host|Connection timed out|Connection aborted"
)
_NOT_THERE = re.compile(r"No matching distribution found for (\S+)")


@dataclass(frozen=True, slots=True)
class Environment:
    """A side environment that is there.

    Attributes:
        spec: what it was to be.
        folder: where it lies.
        python_version: of its Python, ``3.11.7``.
        current: whether it has the pins of this release of edgeconv.
    """

    spec: Spec
    folder: Path
    python_version: str
    current: bool

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return interpreter(self.folder)

    def variables(self) -> dict[str, str]:
        """The variables of programs run in it: the person's own, without what would lead out of it."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTHON")
            # TensorFlow 2 sets the last one where it is imported, and TensorFlow 1 would obey it.
            and name not in ("VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", "TF2_BEHAVIOR")
        }
        return {**kept, **self.spec.variables, "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1"}


def default_root() -> Path:
    """Where side environments lie: ``environments`` in edgeconv's cache folder."""
    return cache_folder() / "environments"


def interpreter(folder: Path) -> Path:
    """The interpreter of the environment in ``folder``."""
    return folder / "bin" / "python"


def found(spec: Spec, root: Path | None = None) -> Environment | None:
    """The environment if it is there, without running anything; ``None`` where it is not."""
    folder = (root or default_root()) / spec.folder
    try:
        stamp = json.loads((folder / _STAMP).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(stamp, dict) or not interpreter(folder).exists():
        return None
    return Environment(spec, folder, str(stamp.get("python")), stamp.get("sha256") == spec.sha256)


def installed(root: Path | None = None) -> list[Environment]:
    """All environments that are there, those in versions nobody tried included."""
    from edgeconv.environments.specs import find_spec

    base = root or default_root()
    specs = {spec.folder: spec for spec in known_specs()}
    for stamp in base.glob(f"*/{_STAMP}"):
        if stamp.parent.name not in specs:
            try:
                spec = find_spec(str(json.loads(stamp.read_text())["id"]))
            except (OSError, ValueError, KeyError, TypeError, UsageError):
                continue
            specs[spec.folder] = spec
    there = (found(spec, base) for spec in specs.values())
    return [environment for environment in there if environment is not None]


def required(spec: Spec, root: Path | None = None) -> Environment:
    """The environment, checked: its versions are those pinned and what is needed imports.

    Raises:
        UnavailableError: it is not there, has other versions, or something does not import; names the
            command that makes it.
    """
    environment = found(spec, root)
    create = f"edgeconv environments create {spec.id}"
    if environment is None:
        raise UnavailableError(f"the side environment '{spec.id}' is not here", hint=f"make it: {create}")
    if not environment.current:
        raise UnavailableError(
            f"the side environment '{spec.id}' was made by another release of edgeconv, with other versions",
            where=str(environment.folder),
            hint=f"make it anew: {create}",
        )
    problems = check(environment)
    if problems:
        raise UnavailableError(
            f"the side environment '{spec.id}' is damaged: {problems[0]}",
            where=str(environment.folder),
            hint=f"make it anew: edgeconv environments remove {spec.id}; {create}",
        )
    return environment


def check(environment: Environment) -> list[str]:
    """What is wrong with an environment: versions that are not those pinned, modules that do not import."""
    program = (
        "import importlib, json, sys\n"
        "try: import importlib.metadata as metadata\n"
        "except ImportError: import importlib_metadata as metadata  # before Python 3.8, pinned there\n"
        "asked = json.loads(sys.argv[1]); said = {}\n"
        "for name in asked['pins']:\n"
        "    try: said[name] = metadata.version(name)\n"
        "    except metadata.PackageNotFoundError: said[name] = None\n"
        "failed = {}\n"
        "for name in asked['imports']:\n"
        "    try: importlib.import_module(name)\n"
        "    except BaseException as error: failed[name] = f'{type(error).__name__}: {error}'\n"
        "print('\\n' + json.dumps({'versions': said, 'failed': failed}))\n"
    )
    spec = environment.spec
    asked = json.dumps({"pins": list(spec.pins), "imports": list(spec.imports)})
    try:
        ran = subprocess.run(
            [str(environment.python), "-I", "-c", program, asked],
            env=environment.variables(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        answer = json.loads(ran.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        return [f"its Python does not run ({type(error).__name__})"]
    problems = [
        f"{name} is {have or 'missing'}, pinned is {spec.pins[name]}"
        for name, have in answer["versions"].items()
        if have != spec.pins[name]
    ]
    return problems + [f"'{name}' does not import ({why})" for name, why in answer["failed"].items()]


def create(
    spec: Spec, root: Path | None = None, say: Callable[[str], None] = lambda text: None
) -> Environment:
    """Make an environment; one that is there and whole is left as it is.

    Args:
        spec: which.
        root: where environments lie; :func:`default_root` where ``None``.
        say: takes a line of progress.

    Raises:
        UnavailableError: no Python of a fitting version, no network, or versions that the package index does
            not have for this machine. The log of what was tried is kept.
    """
    base = root or default_root()
    base.mkdir(parents=True, exist_ok=True)
    with locked(base, spec.folder):
        there = found(spec, base)
        if there is not None and there.current and not check(there):
            return there
        python, version = _fitting_python(spec)
        log = base / "logs" / f"{spec.folder}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text("")
        fresh = Path(tempfile.mkdtemp(dir=base, prefix=f".{spec.folder}."))
        try:
            say(f"making an environment with Python {version}")
            _step([str(python), "-m", "venv", "--clear", str(fresh)], log, spec)
            _install(spec, fresh, log, say)
            target = base / spec.folder
            _rename_inside(fresh, target)
            stamp = {"id": spec.id, "sha256": spec.sha256, "python": version, "created": int(time.time())}
            (fresh / _STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
            made = Environment(spec, fresh, version, True)
            say("checking versions and imports")
            problems = check(made)
            if problems:
                with log.open("a") as stream:
                    stream.write("\n".join(problems) + "\n")
                raise UnavailableError(
                    f"the environment '{spec.id}' was installed and does not work: {problems[0]}",
                    hint=f"read {log}",
                )
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        log.unlink(missing_ok=True)
        return Environment(spec, target, version, True)


def remove(spec: Spec, root: Path | None = None) -> bool:
    """Remove an environment with all that is in it; returns whether there was one."""
    base = root or default_root()
    if not base.is_dir():
        return False
    with locked(base, spec.folder):
        folder = base / spec.folder
        was_there = folder.is_dir()
        discard(folder)
        (base / "logs" / f"{spec.folder}.log").unlink(missing_ok=True)
    return was_there


def size_of(environment: Environment) -> int:
    """Bytes on disk."""
    return sum(path.lstat().st_size for path in environment.folder.rglob("*") if not path.is_dir())


def discard(folder: Path) -> None:
    """Remove a folder; renamed first, so that half of it is never taken for the whole."""
    if folder.is_dir():
        gone = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        folder.rename(gone / folder.name)
        shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def locked(base: Path, folder: str) -> Iterator[None]:
    """Hold ``folder`` of ``base`` against other processes; what killed ones left half-made goes."""
    with filelock.FileLock(base / f".{folder}.lock"):
        for leftover in base.glob(f".{folder}.????????"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
        yield


def _fitting_python(spec: Spec) -> tuple[Path, str]:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable)] if own in spec.pythons else []
    for version in reversed(spec.pythons):
        candidates += _pythons_of(version)
    for candidate in candidates:
        said = _version_of(candidate)
        if said is not None and said.rpartition(".")[0] in spec.pythons:
            return candidate, said
    raise UnavailableError(
        f"the environment '{spec.id}' needs Python {' or '.join(spec.pythons)}, and none is here",
        why=f"this is Python {own}, and the pinned versions have wheels for those only",
        hint=f"install Python {spec.pythons[-1]} so that 'python{spec.pythons[-1]}' is found",
    )


def _pythons_of(version: str) -> list[Path]:
    """Where a Python of a version may be: on the path, and where pyenv and uv keep theirs."""
    program = f"python{version}"
    on_path = shutil.which(program)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    kept = [
        *(pyenv / "versions").glob(f"{version}.*/bin/{program}"),
        *uv.glob(f"cpython-{version}.*/bin/{program}"),
    ]
    return [*([Path(on_path)] if on_path else []), *sorted(kept, reverse=True)]


def _version_of(python: Path) -> str | None:
    program = "import platform, venv, ensurepip; print(platform.python_version())"
    try:
        ran = subprocess.run([str(python), "-I", "-c", program], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def _install(spec: Spec, folder: Path, log: Path, say: Callable[[str], None]) -> None:
    source = {canonical(name) for name in spec.source}
    parts = {
        "wheels": {n: v for n, v in spec.pins.items() if canonical(n) not in source},
        "source": {n: v for n, v in spec.pins.items() if canonical(n) in source},
    }
    pip = [str(interpreter(folder)), "-I", "-m", "pip", "install", "--no-input", "--no-deps"]
    for kind, pins in parts.items():
        if not pins:
            continue
        say(f"installing {len(pins)} pinned distributions" + (" from source" if kind == "source" else ""))
        listed = folder / f"pins-{kind}.txt"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        how = ["--only-binary", ":all:"] if kind == "wheels" else ["--no-build-isolation"]
        _step([*pip, *how, "--requirement", str(listed)], log, spec)


def _step(command: list[str], log: Path, spec: Spec) -> None:
    with log.open("ab") as stream:
        try:
            ran = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_STEP_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                f"making '{spec.id}' took more than {_STEP_SECONDS / 60:.0f} minutes and was stopped",
                why="the network is slow or does not answer",
                hint=f"read {log}, and run the same command again",
            ) from error
        except OSError as error:
            raise UnavailableError(f"'{command[0]}' cannot be run", why=str(error)) from error
    if ran.returncode != 0:
        raise _explained(log, spec)


def _explained(log: Path, spec: Spec) -> UnavailableError | ConversionError:
    text = log.read_text(errors="replace")
    if _NO_NETWORK.search(text):
        return UnavailableError(
            f"the environment '{spec.id}' cannot be made: the package index cannot be reached",
            why="pip found no way to it; the log has what it tried",
            hint=f"connect this machine, or set pip's own options for your index; read {log}",
        )
    missing = _NOT_THERE.search(text)
    if missing is not None:
        return UnavailableError(
            f"the environment '{spec.id}' cannot be made: there is no {missing[1]} for this Python here",
            hint=f"read {log}",
        )
    # The log lies on the same disk, and may have had no room for the last words.
    if "No space left on device" in text or shutil.disk_usage(log.parent).free < 1 << 20:
        return UnavailableError(
            f"the environment '{spec.id}' cannot be made: the disk is full",
            hint="free some space, or move edgeconv's cache with EDGECONV_CACHE_DIR",
        )
    last = [line.strip() for line in text.splitlines() if line.strip()][-3:]
    return UnavailableError(
        f"the environment '{spec.id}' cannot be made", why=" | ".join(last)[:400], hint=f"read {log}"
    )


def _rename_inside(folder: Path, target: Path) -> None:
    """Let the scripts of an environment name the place where it will lie."""
    for script in (folder / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        data = script.read_bytes()
        if b"\0" not in data and str(folder).encode() in data:
            script.write_bytes(data.replace(str(folder).encode(), str(target).encode()))
