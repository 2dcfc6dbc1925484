"""Debian packages of another architecture and suite, by a private apt: no root, no change of this machine.

The packages come from where this machine's own come from: its list of sources is read, the suite in it is
replaced, and its keyrings verify what comes. The private apt has its own state, lists and an empty list of
what is installed, so it resolves every package down to the C library. No maintainer script is run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from edgeconv.devices._userland_errors import explained, full_disk, run
from edgeconv.errors import UnavailableError

_KNOWN = re.compile(
    r"(?:buster|bullseye|bookworm|trixie|forky|duke|sid|oldstable|stable|testing)(-updates|-security)?"
)
_OPTION = re.compile(r"([\w-]+)=(\S+)")
_UNPACKING = 4
_TOO_LITTLE = 16 << 20
"""Bytes free on a disk on which apt failed, of which it is taken that they were the reason."""
_UNWANTED = ("doc", "man", "info", "lintian", "locale", "bug")


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of an apt list of sources.

    Attributes:
        uris: of the repository.
        suites: ``bookworm``, ``bookworm-updates``.
        components: ``main``.
        signed_by: keyring or key that must have signed it; empty for those that apt trusts anyway.
        trusted: the user said that it need not be signed.
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: bool = False


def host_sources(folder: Path = Path("/etc/apt")) -> list[Source]:
    """The entries for binary packages of this machine's own lists, in both forms that apt reads."""
    found: list[Source] = []
    for path in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        found += stanzas(text) if path.suffix == ".sources" else lines(text)
    return found


def stanzas(text: str) -> Iterator[Source]:
    """Entries of a file in the form of deb822."""
    for stanza in re.split(r"\n[ \t]*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] = f"{fields.get(name, '')}\n{line}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        enabled = fields.get("enabled", "yes").lower() not in ("no", "false", "0")
        if enabled and "deb" in fields.get("types", "").split() and fields.get("uris"):
            yield Source(
                uris=tuple(fields["uris"].split()),
                suites=tuple(fields.get("suites", "").split()),
                components=tuple(fields.get("components", "").split()),
                signed_by=fields.get("signed-by", ""),
                trusted=fields.get("trusted", "").lower() in ("yes", "true", "1"),
            )


def lines(text: str) -> Iterator[Source]:
    """Entries of a file in the form of one line each: ``deb [option=value] URI suite component…``."""
    for line in text.splitlines():
        match = re.fullmatch(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)(#.*)?", line)
        if match is None:
            continue
        options = dict(_OPTION.findall(match[1] or ""))
        yield Source(
            uris=(match[2],),
            suites=(match[3],),
            components=tuple(match[4].split()),
            signed_by=options.get("signed-by", "").replace(",", " "),
            trusted=options.get("trusted", "") in ("yes", "true", "1"),
        )


def sources_for(suite: str, sources: Sequence[Source]) -> list[Source]:
    """Debian's entries among ``sources``, for another suite: its updates and fixes where they are now.

    Raises:
        UnavailableError: none of them is of Debian.
    """
    found: list[Source] = []
    for source in sources:
        matches = [_KNOWN.fullmatch(each) for each in source.suites]
        suites = tuple(dict.fromkeys(suite + (match[1] or "") for match in matches if match is not None))
        if suites and "main" in source.components:
            found.append(replace(source, suites=suites, components=("main",)))
    if not any(suite in source.suites for source in found):
        raise UnavailableError(
            "this machine has no source of Debian packages",
            where="/etc/apt/sources.list.d",
            why="an emulated board is made of Debian's packages, from where this machine's own come from",
            hint="add a Debian mirror with main to apt's sources (and its keyring: debian-archive-keyring)",
        )
    return found


class PrivateApt:
    """An apt of its own in a folder."""

    def __init__(self, folder: Path, architecture: str, suite: str, sources: Sequence[Source]) -> None:
        """Write its configuration.

        Args:
            folder: its own; made.
            architecture: of the packages, Debian's name.
            suite: of the packages.
            sources: where they come from, see :func:`sources_for`.

        Raises:
            UnavailableError: apt is not installed.
        """
        if not all(map(shutil.which, ("apt-get", "apt-config", "dpkg-deb", "tar"))):
            raise UnavailableError(
                "apt is not installed here, and emulated boards are made of Debian's packages",
                hint="use Debian or one of its kin, or a container of it",
            )
        self._folder, self._suite, self._sources = folder, suite, tuple(sources)
        for name in ("lists/partial", "archives/partial", "sources", "parts"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        self._configuration = folder / "apt.conf"
        self._configuration.write_text(_configuration(folder, architecture))

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Fetch these packages and all that they depend on; returns their files.

        Updates and security fixes are left out where they cannot be had (a mirror that is being written, a
        suite whose support has ended): the suite itself is whole without them.

        Raises:
            UnavailableError: there is no such package or suite, no network, or no space.
        """
        self._with_sources("install", "--download-only", "--yes", *packages)
        return sorted((self._folder / "archives").glob("*.deb"))

    def download_alone(self, package: str) -> Path:
        """Fetch one package without what it depends on.

        Raises:
            UnavailableError: as :meth:`download`.
        """
        self._with_sources("download", package)
        return next((self._folder / "archives").glob(f"{package}_*.deb"))

    def _with_sources(self, *arguments: str) -> None:
        mine = [each for each in self._sources if self._suite in each.suites]
        plain = [replace(each, suites=(self._suite,)) for each in mine]
        for sources in (list(self._sources), plain):
            self._write(sources)
            for stale in (self._folder / "archives").glob("*.deb"):
                stale.unlink()
            try:
                self._apt("update")
                self._apt(*arguments)
                return
            except UnavailableError as error:
                # On a full disk apt says many things, of signatures that are wrong for one.
                if shutil.disk_usage(self._folder).free < _TOO_LITTLE:
                    raise full_disk() from error
                if sources == plain:
                    raise

    def _write(self, sources: Sequence[Source]) -> None:
        text = "\n\n".join(
            "\n".join(
                [
                    "Types: deb",
                    f"URIs: {' '.join(source.uris)}",
                    f"Suites: {' '.join(source.suites)}",
                    f"Components: {' '.join(source.components)}",
                    *([f"Signed-By: {source.signed_by}"] if source.signed_by else []),
                    *(["Trusted: yes"] if source.trusted else []),
                ]
            )
            for source in sources
        )
        (self._folder / "sources" / "debian.sources").write_text(text + "\n")

    def _apt(self, *arguments: str) -> None:
        variables = {"APT_CONFIG": str(self._configuration)}
        ran = run(["apt-get", "-q", *arguments], variables=variables, cwd=self._folder / "archives")
        # What was left out of the lists is said in the log only: apt's exit code may be 0.
        if ran.returncode != 0 or re.search(r"(?m)^[EW]: (Failed to fetch|Some index files)", ran.stdout):
            raise explained(f"Debian's packages of '{self._suite}'", ran.stdout)


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Unpack packages into a tree of their own with ``/bin``, ``/sbin`` and ``/lib`` in ``/usr``.

    Manuals and translations are left out; absolute links are made relative, so that none of them leads out
    of the tree; nothing keeps the right to run as its owner.

    Raises:
        UnavailableError: a package is damaged, or the disk is full.
    """
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    with ThreadPoolExecutor(_UNPACKING) as pool:
        for done in [pool.submit(_unpack_one, package, root) for package in packages]:
            done.result()
    _tame(root)


def _unpack_one(package: Path, root: Path) -> None:
    # Not dpkg-deb --extract: that one puts a folder in the place of the links in the root.
    unwanted = [f"--exclude=./usr/share/{name}/*" for name in _UNWANTED]
    tar = ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner", *unwanted]
    packed = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    unpacked = run(tar, stdin=packed.stdout)
    assert packed.stdout is not None
    packed.stdout.close()
    if packed.wait() != 0 or unpacked.returncode != 0:
        raise explained(f"the package {package.name.partition('_')[0]}", unpacked.stdout)


def _tame(root: Path) -> None:
    for path in list(root.rglob("*")):
        if path.is_symlink():
            target = str(path.readlink())
            if target.startswith("/"):
                path.unlink()
                up = "../" * (len(path.relative_to(root).parts) - 1)
                path.symlink_to(up + target.lstrip("/"))
            continue
        mode = path.stat().st_mode & 0o7777
        wanted = (mode & 0o1777) | (0o700 if path.is_dir() else 0o600)
        if wanted != mode:
            path.chmod(wanted)


def _configuration(folder: Path, architecture: str) -> str:
    """What apt is to do in a folder; how this machine reaches the network is taken from its own settings."""
    dump = run(["apt-config", "dump"]).stdout
    kept = [
        line
        for line in dump.splitlines()
        if line.startswith("Acquire::")
        and not re.match(r"Acquire::(IndexTargets|Languages|GzipIndexes)", line)
    ]
    own = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",
        "Dir::Cache": f"{folder}/",
        "Dir::Cache::archives": f"{folder}/archives/",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": f"{folder}/parts/",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": f"{folder}/parts/",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": f"{folder}/sources/",
        "Dir::Log": f"{folder}/",
        "Dir::State": f"{folder}/",
        "Dir::State::lists": f"{folder}/lists/",
        "Dir::State::status": f"{folder}/status",
    }
    return "\n".join([*kept, *(f'{name} "{value}";' for name, value in own.items())]) + "\n"
