"""The board that tests reach over SSH: a real server, real ARM programs, nothing left of it afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from devices import ssh_board as over_ssh

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("boards"), pytest.mark.timeout(900)]


def test_a_login_lands_in_the_arm64_userland(ssh_board: over_ssh.SshBoard) -> None:
    ran = ssh_board.run("uname -m; id -un; pwd; cat /etc/hostname; head -3 /proc/cpuinfo")
    machine, user, home, name, *cpuinfo = ran.stdout.splitlines()
    assert (machine, user, home, name) == ("aarch64", over_ssh.USER, f"/home/{over_ssh.USER}", "board")
    assert "asimd" in cpuinfo[-1]


def test_python_there_has_the_runtimes(ssh_board: over_ssh.SshBoard) -> None:
    program = "import ai_edge_litert.interpreter, onnxruntime; print(onnxruntime.__version__)"
    ran = ssh_board.run(f"python3 -c '{program}'")
    assert ran.stdout.strip() == "1.31.1", ran.stderr


def test_files_go_there_and_come_back(ssh_board: over_ssh.SshBoard, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(bytes(range(256)) * 1000)
    scp = ["scp", "-q", "-F", str(ssh_board.config)]
    subprocess.run([*scp, str(tmp_path / "sent"), "board:here"], check=True, timeout=60)
    assert (ssh_board.home / "here").read_bytes() == (tmp_path / "sent").read_bytes()
    subprocess.run([*scp, "board:here", str(tmp_path / "back")], check=True, timeout=60)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "sent").read_bytes()
    ssh_board.run("rm here")


def test_a_stranger_s_key_is_refused(ssh_board: over_ssh.SshBoard, tmp_path: Path) -> None:
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")]
    subprocess.run(make, check=True)
    config = ssh_board.config.read_text().replace(str(ssh_board.key), str(tmp_path / "other"))
    (tmp_path / "config").write_text(config)
    login = ["ssh", "-F", str(tmp_path / "config"), "-o", "BatchMode=yes", "board", "true"]
    ran = subprocess.run(login, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 255
    assert "Permission denied" in ran.stderr


def test_nothing_there_outlives_it(ssh_tree: over_ssh.Built, tmp_path: Path) -> None:
    with over_ssh.running(ssh_tree, tmp_path) as board:
        board.run("nohup sleep 86399 >/dev/null 2>&1 & echo started")
        assert _running(f"{tmp_path}/root")
        assert _running("sleep 86399")
    assert not _running(f"{tmp_path}/root")
    assert not _running("sleep 86399")
    assert not (tmp_path / "root").exists()


def test_without_python_it_is_a_board_without_python(ssh_tree: over_ssh.Built, tmp_path: Path) -> None:
    with over_ssh.running(ssh_tree, tmp_path, python=False) as board:
        assert board.run("python3 --version").returncode == 127
    assert (ssh_tree.root / "usr/bin/python3").exists()


def _running(text: str) -> bool:
    """Whether a process of this machine has ``text`` in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and path.parent.name != str(os.getpid()):
            return True
    return False
