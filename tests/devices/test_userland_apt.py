"""Debian packages by a private apt: this machine's own sources, nothing of it changed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.devices import _userland_apt as apt
from edgeconv.devices._userland_apt import PrivateApt, Source, sources_for, unpack
from edgeconv.devices._userland_errors import explained
from edgeconv.errors import UnavailableError

STANZAS = """\
# the mirror of this machine
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
# in between
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""
LINES = """\
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # with a word behind
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/security bookworm-security main
deb-src http://mirror.example/debian bookworm main
deb [trusted=yes] http://third.example/ ./
"""


def test_the_form_of_stanzas_is_read():
    first, second = apt.stanzas(STANZAS)
    assert first == Source(
        ("http://mirror.example/debian",),
        ("bookworm", "bookworm-updates"),
        ("main", "contrib"),
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    )
    assert second.suites == ("bookworm-security",)
    assert second.signed_by.splitlines()[1] == " -----BEGIN PGP PUBLIC KEY BLOCK-----"


def test_the_form_of_lines_is_read():
    first, second, third = apt.lines(LINES)
    assert first == Source(("http://mirror.example/debian",), ("bookworm",), ("main", "contrib"))
    assert second.signed_by == "/usr/share/keyrings/a.gpg"
    assert third.trusted


@given(st.text(alphabet=st.sampled_from("deb URIs:Types\n [=]#/.\tmain"), max_size=300))
def test_no_text_breaks_the_readers(text):
    for source in [*apt.stanzas(text), *apt.lines(text)]:
        assert source.uris


def test_both_files_and_folders_of_lists_are_read(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    (tmp_path / "sources.list.d/two.sources").write_text(STANZAS)
    (tmp_path / "sources.list.d/off.list.disabled").write_text("deb http://no.example/debian bookworm main\n")
    uris = [source.uris[0] for source in apt.host_sources(tmp_path)]
    assert uris == [
        "http://one.example/debian",
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
    ]


def test_another_suite_comes_from_where_this_machines_own_does():
    found = sources_for("trixie", [*apt.stanzas(STANZAS)])
    assert [source.suites for source in found] == [("trixie", "trixie-updates"), ("trixie-security",)]
    assert found[0].uris == ("http://mirror.example/debian",)
    assert found[0].signed_by.endswith("debian-archive-keyring.gpg")
    assert all(source.components == ("main",) for source in found)


def test_sources_of_others_are_left_out():
    others = [
        *apt.lines("deb https://vendor.example/apt cloud-bookworm main\ndeb http://u.example/u jammy main\n")
    ]
    with pytest.raises(UnavailableError) as caught:
        sources_for("bookworm", others)
    assert "no source of Debian packages" in caught.value.what
    assert "debian-archive-keyring" in caught.value.hint


def test_without_apt_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        PrivateApt(tmp_path / "apt", "arm64", "bookworm", [])
    assert "apt is not installed" in caught.value.what
    assert "Debian" in caught.value.hint


needs_apt = pytest.mark.skipif(
    subprocess.run(["sh", "-c", "command -v apt-get dpkg-deb"], capture_output=True).returncode != 0,
    reason="apt is not installed here",
)


@needs_apt
def test_the_private_apt_sees_nothing_installed_and_only_its_own_sources(tmp_path):
    private = PrivateApt(tmp_path / "apt", "arm64", "bookworm", [*apt.stanzas(STANZAS)])
    private._write(sources_for("bookworm", [*apt.stanzas(STANZAS)]))
    said = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--no-release-info",
            "--format",
            "$(REPO_URI) $(RELEASE) $(ARCHITECTURE)",
        ],
        env={**os.environ, "APT_CONFIG": str(tmp_path / "apt/apt.conf")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    seen = {line for line in said if line.endswith(" arm64")}
    assert seen == {
        "http://mirror.example/debian/ bookworm arm64",
        "http://mirror.example/debian/ bookworm-updates arm64",
        "http://mirror.example/debian-security/ bookworm-security arm64",
    }
    config = subprocess.run(
        ["apt-config", "dump"],
        env={**os.environ, "APT_CONFIG": str(tmp_path / "apt/apt.conf")},
        capture_output=True,
        text=True,
    ).stdout
    assert "Post-Invoke" not in config  # hooks of this machine's package manager are not run for it


@needs_apt
def test_without_a_network_it_is_said_so(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from edgeconv.devices._userland_apt import PrivateApt, Source\n"
        "from edgeconv.errors import UnavailableError\n"
        "source = Source(('http://mirror.example/debian',), ('bookworm',), ('main',), '', True)\n"
        "try: PrivateApt(Path(sys.argv[1]), 'arm64', 'bookworm', [source]).download(['python3'])\n"
        "except UnavailableError as error: print(error.what, '|', error.hint)\n"
    )
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("this kernel gives no namespace without a network")
    ran = subprocess.run(
        [*alone, sys.executable, "-c", program, str(tmp_path / "apt")], capture_output=True, text=True
    )
    assert "the network does not answer" in ran.stdout, ran.stderr
    assert "connect this machine" in ran.stdout


def package(folder: Path, name: str) -> Path:
    """A Debian package of the files under ``folder``."""
    control = folder / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n"
    )
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(folder), f"{folder}.deb"], check=True)
    return Path(f"{folder}.deb")


@needs_apt
def test_packages_are_unpacked_into_one_tree_with_everything_in_usr(tmp_path):
    for name, path in {
        "one": "lib/one.so",
        "two": "usr/lib/two.so",
        "three": "usr/share/doc/three/manual",
    }.items():
        (tmp_path / name / path).parent.mkdir(parents=True)
        (tmp_path / name / path).write_text(name)
    unpack([package(tmp_path / name, name) for name in ("one", "two", "three")], tmp_path / "root")
    root = tmp_path / "root"
    assert str((root / "lib").readlink()) == "usr/lib"
    assert (root / "usr/lib/one.so").read_text() == "one"
    assert (root / "lib/two.so").read_text() == "two"
    assert not (root / "usr/share/doc/three/manual").exists()


@needs_apt
def test_no_link_leads_out_of_the_tree_and_nothing_runs_as_its_owner(tmp_path):
    (tmp_path / "one/usr/bin").mkdir(parents=True)
    (tmp_path / "one/etc/a").mkdir(parents=True)
    (tmp_path / "one/etc/a/link").symlink_to("/usr/bin/tool")
    tool = tmp_path / "one/usr/bin/tool"
    tool.write_text("x")
    tool.chmod(0o4555)
    unpack([package(tmp_path / "one", "one")], tmp_path / "root")
    link = tmp_path / "root/etc/a/link"
    assert str(link.readlink()) == "../../usr/bin/tool"
    assert link.resolve() == (tmp_path / "root/usr/bin/tool").resolve()
    mode = (tmp_path / "root/usr/bin/tool").stat().st_mode
    assert not mode & stat.S_ISUID
    assert mode & stat.S_IWUSR  # so that the board can be removed again
    assert mode & stat.S_IXUSR


@needs_apt
def test_a_damaged_package_is_named(tmp_path):
    (tmp_path / "broken_1_all.deb").write_bytes(b"!<arch>\nbroken")
    with pytest.raises(UnavailableError) as caught:
        unpack([tmp_path / "broken_1_all.deb"], tmp_path / "root")
    assert "the package broken" in caught.value.what


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("E: You don't have enough free space in /a/archives/.", "no space left"),
        ("tar: ./usr/lib/a: Cannot write: No space left on device", "no space left"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "no space",
        ),
        (
            "E: Failed to fetch http://m.example/a  Temporary failure resolving 'm.example'",
            "network does not",
        ),
        (
            "Could not connect to m.example:80 (192.0.2.1). - connect (111: Connection refused)",
            "network does not",
        ),
        ("E: Unable to locate package python9", "there is no python9"),
        ("ERROR: No matching distribution found for onnxruntime==9", "there is no onnxruntime==9"),
        (
            "E: The repository 'http://m.example buster Release' does not have a Release file.",
            "mirror does not",
        ),
        ("E: Sub-process gave up", "cannot be had"),
    ],
)
def test_what_tools_say_is_told_as_what_it_means(said, what):
    error = explained("A thing", f"Reading package lists...\n{said}\n")
    assert what in error.what
    if "no space" not in what:
        assert error.what.startswith("A thing cannot be had")
        assert said[:60] in error.why
