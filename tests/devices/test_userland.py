"""Userlands on disk: made whole or not at all, checked before they are used, removed without a trace."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from devices import boards

from edgeconv.devices import _userland
from edgeconv.devices import _userland_wheels as wheels
from edgeconv.devices._emulated_boards import InstalledRuntime, find_board, site_of
from edgeconv.devices._emulated_qemu import find_qemu
from edgeconv.errors import UnavailableError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("boards"), pytest.mark.timeout(900)]


@pytest.fixture
def copy(armhf, tmp_path):
    """A board of this test's own, which may be damaged: files of the shared one by hard links."""
    folder = tmp_path / "devices" / armhf.board.folder
    folder.parent.mkdir()
    subprocess.run(["cp", "-al", str(armhf.folder), str(folder)], check=True)
    return dataclasses.replace(armhf, folder=folder)


def test_one_that_was_made_is_found_whole_and_says_what_it_is_made_of(armhf, boards_folder):
    built = _userland.required(armhf.board, boards_folder)
    assert built.current
    assert built.stamp["python"].startswith("3.11.")
    assert built.stamp["packages"]["python3-numpy"].startswith("1:1.24")
    assert built.stamp["qemu"][0].isdigit()
    assert built.stamp["bytes"] > 1 << 24


def test_one_that_is_there_is_not_made_again(armhf, boards_folder, monkeypatch):
    monkeypatch.setattr(_userland, "_make", None)
    said = []
    assert _userland.build(armhf.board, boards_folder, said.append).stamp == armhf.stamp
    assert said == []


def test_nothing_half_made_and_no_download_is_left(armhf, arm64, boards_folder):
    left = [path.name for path in boards_folder.iterdir() if path.is_dir() and path.name.startswith(".")]
    assert left == []
    for built in (armhf, arm64):
        assert {path.name for path in built.folder.iterdir()} <= {"root", "store", "edgeconv-board.json"}


def test_every_link_in_it_stays_in_it(armhf, arm64):
    for built in (armhf, arm64):
        root = built.root.resolve()
        for path in root.rglob("*"):
            if path.is_symlink():
                assert not str(path.readlink()).startswith("/"), path
                assert (path.parent / path.readlink()).resolve().is_relative_to(root), path


@pytest.mark.parametrize("damage", ["missing", "shorter", "more", "link"])
def test_damage_is_noticed_before_it_is_used(copy, tmp_path, damage):
    assert _userland.required(copy.board, tmp_path / "devices")
    library = next((copy.root / "usr/lib" / copy.board.userland.triplet).glob("libstdc++.so.6.*"))
    if damage == "missing":
        library.unlink()
    elif damage == "shorter":
        data = library.read_bytes()
        library.unlink()  # a hard link to the shared board's
        library.write_bytes(data[:-1])
    elif damage == "more":
        (copy.root / "usr/lib/python3/dist-packages/sitecustomize.py").write_text("raise SystemExit")
    else:
        link = copy.root / "usr/bin/python3"
        link.unlink()
        link.symlink_to("python3.10")
    with pytest.raises(UnavailableError) as caught:
        _userland.required(copy.board, tmp_path / "devices")
    assert "damaged" in caught.value.what
    assert f"edgeconv devices create {copy.board.name}" in caught.value.hint


def test_one_of_other_parts_is_not_used(copy, tmp_path):
    other = dataclasses.replace(copy.board, qemu_cpu="cortex-a15")
    with pytest.raises(UnavailableError) as caught:
        _userland.required(other, tmp_path / "devices")
    assert "another release" in caught.value.what


def test_one_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        _userland.required(find_board("rpi4-emulated@trixie"), tmp_path)
    assert caught.value.hint == "make it: edgeconv devices create rpi4-emulated@trixie"
    (tmp_path / "rpi4-emulated").mkdir()
    (tmp_path / "rpi4-emulated" / "edgeconv-board.json").write_text("[]")
    assert _userland.found(find_board("rpi4-emulated"), tmp_path) is None


def test_what_is_removed_is_gone(copy, tmp_path):
    base = tmp_path / "devices"
    (base / f".{copy.board.folder}.abcdefgh").mkdir()  # of one that was killed while it was made
    assert _userland.remove(copy.board, base)
    assert [path.name for path in base.iterdir()] == [f".{copy.board.folder}.lock"]
    assert not _userland.remove(copy.board, base)
    assert not _userland.remove(copy.board, tmp_path / "nowhere")


def test_two_at_once_make_one(copy, tmp_path):
    # The second waits for the first, and finds the board.
    base = tmp_path / "devices"
    with _userland.locked(base, copy.board.folder):
        program = (
            "import sys; from pathlib import Path; from edgeconv.devices import _userland\n"
            "from edgeconv.devices._emulated_boards import find_board\n"
            "print('begun', flush=True)\n"
            "_userland.build(find_board(sys.argv[1]), Path(sys.argv[2]), print)\n"
        )
        command = [sys.executable, "-c", program, copy.board.name, str(base)]
        second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert second.stdout.readline() == "begun\n"
        time.sleep(0.3)
        assert second.poll() is None
    assert second.wait(timeout=60) == 0
    assert second.stdout.read() == ""


def test_a_wheel_whose_tag_promises_less_than_it_needs_is_found_out(boards_folder, tmp_path):
    # Its tag says glibc 2.27, its library asks for 2.34, and here is 2.31: pip takes it, and it cannot run.
    built = boards.built("jetson-jp5-emulated", boards_folder)
    root = tmp_path / "root"
    subprocess.run(["cp", "-al", str(built.root), str(root)], check=True)
    pin = ("ai-edge-litert", "2.3.0")
    wheel = wheels.download([pin], "3.11", built.board.userland.platforms(), tmp_path)[pin]
    site = root / site_of(*pin)
    wheels.unpack(wheel, site)
    library = next(path for path in site.rglob("*.so*") if path.stat().st_size > 1 << 20)
    (site / "only_the_library.py").write_text(f"import ctypes\nctypes.CDLL({str(library)!r})\n")
    liar = InstalledRuntime("litert", "2.3.0", dict([pin]), "only_the_library")
    with pytest.raises(UnavailableError) as caught:
        _userland._try(built.board, root, find_qemu("arm64"), liar)
    assert caught.value.where == "litert==2.3.0 on 'jetson-jp5-emulated'"
    assert re.search(r"GLIBC(XX)?_[0-9.]+' not found", caught.value.why)


def test_it_takes_no_root(armhf, tmp_path):
    # In a user namespace that maps nobody there is no right but that of a plain user.
    alone = ["unshare", "--user"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("this kernel gives no user namespace")
    program = (
        "import os, sys; from pathlib import Path; from edgeconv.devices import _userland\n"
        "from edgeconv.devices._emulated_boards import find_board\n"
        "assert os.geteuid() != 0\n"
        "print(_userland.build(find_board('rpi3-32-emulated'), Path(sys.argv[1])).stamp['files'])\n"
    )
    ran = subprocess.run(
        [*alone, sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    built = _userland.required(armhf.board, tmp_path)
    assert built.stamp["packages"].keys() == armhf.stamp["packages"].keys()
    assert _userland.remove(armhf.board, tmp_path)


@pytest.mark.parametrize("size", ["24m", "80m"], ids=["while fetching", "while unpacking"])
def test_a_full_disk_is_said_and_leaves_nothing(armhf, tmp_path, size):
    program = (
        "import sys; from pathlib import Path; from edgeconv.devices import _userland\n"
        "from edgeconv.devices._emulated_boards import find_board\n"
        "from edgeconv.errors import UnavailableError\n"
        "base = Path(sys.argv[1])\n"
        "try: _userland.build(find_board('rpi3-32-emulated'), base)\n"
        "except UnavailableError as error: print(error.what, '|', error.hint)\n"
        "print(sorted(path.name for path in base.iterdir()))\n"
    )
    small = f'mount -t tmpfs -o size={size} none {tmp_path} && exec "$@"'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small, "sh"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("this kernel gives no namespace with a disk of its own")
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [*alone, sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=variables
    )
    assert "no space left on the disk | free some space" in ran.stdout, ran.stdout + ran.stderr
    assert "['.rpi3-32-emulated.lock']" in ran.stdout


def test_a_limit_on_virtual_memory_is_explained(armhf, boards_folder, tmp_path):
    # Qemu reserves the whole of a 32-bit program's address space.
    program = (
        "import resource, sys; from pathlib import Path; from edgeconv.devices import _userland\n"
        "from edgeconv.devices._emulated_boards import find_board\n"
        "from edgeconv.devices._emulated_qemu import find_qemu\n"
        "from edgeconv.errors import UnavailableError\n"
        "board = find_board('rpi3-32-emulated')\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: _userland._try_runtimes(board, Path(sys.argv[1]), find_qemu('armhf'))\n"
        "except UnavailableError as error: print(error.what, '|', error.hint)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(armhf.root)], capture_output=True, text=True)
    assert "qemu cannot lay out the memory" in ran.stdout, ran.stdout + ran.stderr
    assert "ulimit -v" in ran.stdout


def test_qemu_is_fetched_where_there_is_none(armhf, tmp_path, monkeypatch):
    from edgeconv.devices import _emulated_qemu as qemu_user

    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name.startswith("qemu-") else real(name))
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(UnavailableError) as caught:
        qemu_user.find_qemu("armhf")
    assert "qemu-user-static" in caught.value.hint
    said = []
    qemu = qemu_user.find_qemu("armhf", said.append)
    assert said == ["fetching qemu"]
    assert qemu.is_relative_to(tmp_path / "cache")
    assert qemu_user.version(qemu)[0].isdigit()
    assert qemu_user.find_qemu("arm64") == qemu.with_name("qemu-aarch64-static")
    ran = subprocess.run(
        qemu_user.command(armhf.root, qemu, ["-c", "import os; print(os.uname().machine)"]),
        env={"QEMU_CPU": armhf.board.qemu_cpu},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "armv7l\n", ran.stderr


def test_the_stamp_is_of_this_board(arm64):
    stamp = json.loads((arm64.folder / "edgeconv-board.json").read_text())
    assert (stamp["board"], stamp["key"]) == ("rpi4-emulated", arm64.board.sha256)
