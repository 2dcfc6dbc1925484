"""A board over SSH, held to a real OpenSSH server: what works, and what is said when it does not.

After each of them, nothing that was started stays on the board, and no partial file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
import psutil
import pytest
from devices.sshd import Board, free_port, key, serving
from pydantic import ValidationError

from edgeconv.devices import ssh
from edgeconv.devices._ssh_settings import SshSettings
from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.client import AgentClient
from edgeconv.devices.shipping import agent_file
from edgeconv.devices.ssh import SshDevice
from edgeconv.errors import DeviceError, EdgeconvError, UnavailableError, UsageError

Serve = Callable[..., Board]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers, and holds each to leaving nothing behind."""
    with ExitStack() as stack:
        boards: list[Board] = []

        def start(**how: Any) -> Board:
            folder = tmp_path / f"board{len(boards)}"
            folder.mkdir()
            boards.append(stack.enter_context(serving(folder, **how)))
            return boards[-1]

        yield start
        for board in boards:
            assert board.none_left(), [process.cmdline() for process in board.processes()]
            assert board.partial() == []


def python(version: str) -> Path:
    """An interpreter of that version, as version managers keep them; skips where there is none."""
    found = shutil.which(f"python{version}", path=os.environ.get("PATH", ""))
    kept = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}"))
    if not kept and found is None:
        pytest.skip(f"no Python {version} here")
    return kept[-1] if kept else Path(str(found))


def refused(device: SshDevice, runtime: RuntimeChoice | None = None) -> EdgeconvError:
    with pytest.raises(EdgeconvError) as caught:
        AgentClient(device, runtime).close()
    assert caught.value.hint
    return caught.value


def answers(client: AgentClient) -> bool:
    return client.ask("missing", {"files": ["0" * 64]})[0] == {"missing": ["0" * 64]}


def test_a_second_run_sends_nothing(serve: Serve, tmp_path: Path) -> None:
    board = serve()
    model = tmp_path / "model.bin"
    model.write_bytes(os.urandom(100_000))
    with AgentClient(board.device()) as first:
        assert first.bytes_sent == len(agent_file().data)
        first.send_files({"model.bin": model})
        assert first.bytes_sent > len(agent_file().data) + 100_000
    with AgentClient(board.device()) as second:
        assert second.bytes_sent == 0
        second.send_files({"model.bin": model})
        assert second.bytes_sent < 300, "only the question whether it is there"


def test_an_agent_that_was_damaged_there_is_sent_again(serve: Serve) -> None:
    board = serve()
    AgentClient(board.device()).close()
    kept = {path: path.read_bytes() for path in (board.store / "agents").iterdir()}
    assert sorted(path.suffix[:5] for path in kept) == [".cpyt", ".pyz"], "as it was sent, and compiled"
    for path, data in kept.items():
        path.write_bytes(data[:-10])
        with AgentClient(board.device()) as client:
            assert answers(client)
        again = path.read_bytes()
        if path.suffix == ".pyz":
            assert again == agent_file().data
        else:
            assert again[:32] == hashlib.sha256(again[32:]).digest(), "with its hash in front"


def test_without_room_for_its_compiled_form_the_agent_runs_as_it_was_sent(serve: Serve) -> None:
    board = serve()
    size = (len(agent_file().data) // 4096 + 2) * 4  # in kB, whole pages
    small_disk(board.store, f"{size}k")
    try:
        for _ in range(2):
            with AgentClient(board.device()) as client:
                assert answers(client)
        assert [path.suffix for path in board.store.rglob("*") if path.is_file()] == [".pyz"]
        assert board.none_left()
    finally:
        subprocess.run(["umount", str(board.store)], check=True)


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "busybox sh", "zsh", "fish", "tcsh"])
def test_every_login_shell_takes_the_line(serve: Serve, shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell} here")
    board = serve(shell=f"{shutil.which(shell.split()[0])} {' '.join(shell.split()[1:])}")
    strange = "~/it's $(HOME) \"a; `folder`"
    with AgentClient(board.device(store=strange)) as client:
        assert answers(client)
    assert (board.home / strange[2:] / "agents").is_dir()


def test_what_a_login_prints_is_passed_over(serve: Serve) -> None:
    board = serve()
    (board.home / ".bashrc").write_text("echo Welcome to ECV; echo; cat /etc/passwd; echo to stderr >&2\n")
    with AgentClient(board.device()) as client:
        assert answers(client)
    with AgentClient(board.device()) as client:
        assert answers(client)


def test_files_of_the_home_there_do_not_stand_in_for_modules(serve: Serve) -> None:
    board = serve(shell="bash")
    (board.home / "json.py").write_text("raise SystemExit('the wrong module')\n")
    with AgentClient(board.device()) as client:
        assert answers(client)


def test_each_runtime_can_have_a_python_of_its_own(serve: Serve) -> None:
    board = serve()
    old = python("3.8")
    environment = board.home / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    device = board.device(runtimes={"tflite-runtime": str(old), "onnxruntime==1.16.3": "~/venv"})
    for runtime, version in [
        (None, None),
        ("tflite-runtime==2.14.0", (3, 8)),
        ("tflite-runtime", (3, 8)),
        ("onnxruntime==1.16.3", sys.version_info[:2]),
    ]:
        with AgentClient(device, None if runtime is None else RuntimeChoice.parse(runtime)) as client:
            assert version in (None, tuple(client.greeting.python[:2]))
            said = client.ask("probe")[0]
            major, minor, *_ = client.greeting.python
            assert said["python"]["version"].startswith(f"{major}.{minor}.")
            assert said["memory"]["total"]
            assert {"litert", "tflite-runtime", "onnxruntime"} <= said["runtimes"].keys()
    assert device.python_for(RuntimeChoice("onnxruntime", "1.19.2")) is None


def test_the_first_python_that_is_new_enough_is_taken(serve: Serve) -> None:
    board = serve(pythons={"python3": python("3.7"), "python3.9": python("3.9"), "python": python("2.7")})
    with AgentClient(board.device()) as client:
        assert client.greeting.python[:2] == (3, 9)


def test_it_never_weakens_how_hosts_and_logins_are_checked(serve: Serve) -> None:
    command = " ".join(serve().device().command("true"))
    assert "StrictHostKeyChecking" not in command
    assert "KnownHosts" not in command
    assert "BatchMode=yes" in command


def test_no_host_can_be_an_option() -> None:
    for host in ("-oProxyCommand=touch x", "a b", "", "--", "-v"):
        with pytest.raises(ValidationError):
            SshSettings(host=host)


def test_a_name_that_does_not_resolve() -> None:
    error = refused(SshDevice("lab", SshSettings(host="nobody@board.invalid")))
    assert isinstance(error, DeviceError)
    assert "there is no host 'board.invalid'" in str(error)
    assert "devices.yaml" in str(error.hint)


def test_a_host_on_the_way_that_is_not_there(serve: Serve) -> None:
    board = serve()
    config = board.folder / "ssh_config"
    config.write_text("Host 127.0.0.1\n  ProxyJump pi@way.invalid\n" + config.read_text())
    error = refused(board.device())
    assert "the way to '127.0.0.1' over another host" in str(error)
    assert f"ssh -F {config}" in str(error.hint)


def test_a_name_of_the_configuration_is_told_as_the_host_that_it_stands_for(serve: Serve) -> None:
    config = serve().folder / "ssh_config"
    config.write_text("Host lab\n  HostName board.invalid\n" + config.read_text())
    error = refused(SshDevice("lab", SshSettings(host="lab", config=str(config))))
    assert "there is no host 'board.invalid'" in str(error)


def test_a_port_where_nothing_answers(serve: Serve) -> None:
    error = refused(serve().device(port=free_port()))
    assert "no SSH server answers at that port" in str(error)
    assert "ssh -F" in str(error.hint), "the command to try it by hand"


def test_a_host_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ssh._OPTIONS, "ConnectTimeout", "1")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        error = refused(
            SshDevice("lab", SshSettings(host="127.0.0.1", port=listening.getsockname()[1], config="none"))
        )
    assert "does not answer" in str(error)


def test_a_server_that_is_something_else() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        speaking = threading.Thread(target=speak)
        speaking.start()
        settings = SshSettings(host="127.0.0.1", port=listening.getsockname()[1], config="none")
        error = refused(SshDevice("lab", settings))
        speaking.join()
    assert "no SSH server" in str(error)


def test_a_host_key_that_is_not_known_yet(serve: Serve) -> None:
    board = serve()
    (board.folder / "known_hosts").write_text("")
    error = refused(board.device())
    assert "not known yet" in str(error)
    assert "compare the fingerprint" in str(error.hint)
    assert (board.folder / "known_hosts").read_text() == ""


def test_a_host_key_that_has_changed(serve: Serve) -> None:
    board = serve()
    kind, public, *_ = key(board.folder / "other").with_suffix(".pub").read_text().split()
    known = board.folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{board.port} {kind} {public}\n")
    error = refused(board.device())
    assert "not the one it had" in str(error)
    assert f"ssh-keygen -R '[127.0.0.1]:{board.port}' -f {known}" in str(error.hint)


def test_a_login_that_is_refused(serve: Serve) -> None:
    board = serve()
    (board.folder / "authorized").write_text("")
    error = refused(board.device())
    assert "refuses the login" in str(error)
    assert "ssh-copy-id" in str(error.hint)


def test_a_configuration_that_is_none(serve: Serve) -> None:
    board = serve()
    (board.folder / "ssh_config").write_text("Nonsense yes\n")
    assert "cannot use its configuration" in str(refused(board.device()))


def test_a_board_without_python(serve: Serve) -> None:
    error = refused(serve(pythons={}).device())
    assert "no Python" in str(error)
    assert "install Python 3.8" in str(error.hint)


def test_a_python_that_is_named_and_not_there(serve: Serve) -> None:
    assert "no Python" in str(refused(serve().device(python="~/venv/bin/python")))


def test_pythons_that_are_too_old_are_told_with_their_versions(serve: Serve) -> None:
    error = refused(serve(pythons={"python3": python("3.7"), "python": python("2.7")}).device())
    assert "too old" in str(error)
    assert "Python 3.7" in str(error)
    assert "Python 2.7" in str(error)


def test_a_python_for_another_machine(serve: Serve) -> None:
    board = serve(shell="bash")
    program = bytearray(Path("/bin/true").resolve().read_bytes())
    program[18:20] = b"\xf7\x00"  # e_machine: BPF, which no kernel starts as a program
    (board.home / "python").write_bytes(program)
    (board.home / "python").chmod(0o755)
    error = refused(board.device(python="~/python"))
    assert "built for another machine" in str(error)


def test_a_store_that_cannot_be_written(serve: Serve) -> None:
    error = refused(serve().device(store="/proc/edgeconv"))
    assert "cannot be written" in str(error)
    assert "store: FOLDER" in str(error.hint)


def tflite_elsewhere(board: Board, client: AgentClient, path: Path) -> EdgeconvError:
    with pytest.raises(UnavailableError) as caught:
        client.open("litert", "tflite", path)
    assert caught.value.where == board.devices[-1].where
    return caught.value


def packages_for_another_machine(folder: Path, machine: bytes, tag: str) -> None:
    """LiteRT as pip puts it there, with libraries whose header says another machine."""
    for distribution in Path(ai_edge_litert.__file__).parent.parent.glob("ai_edge_litert*"):
        shutil.copytree(distribution, folder / distribution.name, symlinks=False)
    for library in folder.rglob("*.so"):
        data = bytearray(library.read_bytes())
        data[4 : 4 + 1], data[18:20] = machine[:1], machine[1:]
        library.write_bytes(data)
    (wheel,) = folder.glob("*.dist-info/WHEEL")
    wheel.write_text(f"Wheel-Version: 1.0\nTag: cp311-cp311-{tag}\n")


@pytest.mark.parametrize(
    ("machine", "tag"),
    [(b"\x02\xb7\x00", "manylinux_2_27_aarch64"), (b"\x01\x28\x00", "linux_armv7l")],
    ids=["64 bits", "32 bits"],
)
def test_a_runtime_whose_wheel_is_for_another_machine(
    serve: Serve, tmp_path: Path, machine: bytes, tag: str
) -> None:
    site = tmp_path / "site"
    packages_for_another_machine(site, machine, tag)
    board = serve(pythons={"python3": f'env" "PYTHONPATH={site}" "{sys.executable}'})
    model = tmp_path / "model.tflite"
    model.write_bytes(b"\0" * 64)
    with AgentClient(board.device()) as client:
        error = tflite_elsewhere(board, client, model)
        assert answers(client)
    assert "for another machine than this Python" in str(error)
    assert "--force-reinstall ai-edge-litert" in str(error.hint)


def test_numpy_is_missed_only_when_an_inference_needs_it(serve: Serve, tmp_path: Path) -> None:
    board = serve(pythons={"python3": f'{sys.executable}" "-S'})
    with AgentClient(board.device()) as client:
        assert client.ask("probe")[0]["numpy"] is None
        model = client.open("null", "null", tmp_path)
        with pytest.raises(UnavailableError, match="numpy is not installed") as caught:
            client.infer(model, {"x": np.zeros(3, np.float32)})
        assert caught.value.hint == "pip install numpy"
        assert answers(client)


def small_disk(folder: Path, size: str) -> None:
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], stderr=-3)
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here")


def test_a_disk_that_is_full_before_the_agent_is_there(serve: Serve) -> None:
    board = serve()
    small_disk(board.store, "16k")
    try:
        error = refused(board.device())
        assert "the disk there is full" in str(error)
        assert board.none_left()
        assert board.partial() == []
    finally:
        subprocess.run(["umount", str(board.store)], check=True)


def test_a_disk_that_runs_full_with_a_model(serve: Serve, tmp_path: Path) -> None:
    board = serve()
    model = tmp_path / "model.bin"
    model.write_bytes(bytes(3 << 20))
    small_disk(board.store, "1m")
    try:
        with AgentClient(board.device()) as client:
            with pytest.raises(UnavailableError, match="disk is full") as caught:
                client.send_files({"model.bin": model})
            assert "free some space" in str(caught.value.hint)
            assert answers(client), "the agent goes on"
        assert board.none_left()
        assert board.partial() == []
    finally:
        subprocess.run(["umount", str(board.store)], check=True)


def begin_a_file(client: AgentClient, board: Board) -> None:
    """Half of a file lies on the board."""
    data = os.urandom(1000)
    fields = {"sha256": hashlib.sha256(data).hexdigest(), "size": 1000, "offset": 0}
    assert client.ask("put", fields, body=data[:500])[0] == {"received": 500}
    assert board.partial() != []


def logins(board: Board) -> list[psutil.Process]:
    """The server's processes that hold a connection."""
    return psutil.Process(board.process.pid).children()


def test_a_link_that_is_cut_in_the_middle(serve: Serve) -> None:
    board = serve()
    with AgentClient(board.device()) as client:
        begin_a_file(client, board)
        for process in logins(board):
            for each in [*process.children(), process]:
                if each.name() == "sshd":
                    each.kill()
        with pytest.raises(DeviceError, match="the link was cut") as caught:
            answers(client)
        assert "edgeconv devices probe board" in str(caught.value.hint)
    with AgentClient(board.device()) as again:
        assert answers(again), "the next one begins anew"


def test_an_agent_that_the_system_kills(serve: Serve) -> None:
    board = serve()
    with AgentClient(board.device()) as client:
        begin_a_file(client, board)
        os.kill(client.greeting.pid, signal.SIGKILL)
        with pytest.raises(DeviceError, match="killed, as the system does when memory runs out") as caught:
            answers(client)
        assert "smaller model" in str(caught.value.hint)


def test_an_agent_that_dies_of_a_signal_is_told_with_its_name(serve: Serve) -> None:
    with AgentClient(serve().device()) as client:
        os.kill(client.greeting.pid, signal.SIGILL)
        with pytest.raises(DeviceError, match="SIGILL"):
            answers(client)


def test_a_board_that_hangs_is_given_up_and_its_agent_ended(serve: Serve) -> None:
    board = serve()
    with AgentClient(board.device()) as client:
        begin_a_file(client, board)
        os.kill(client.greeting.pid, signal.SIGSTOP)
        with pytest.raises(DeviceError, match="said nothing for 1 seconds"):
            client.ask("missing", {"files": []}, silence=1.0)


def test_a_board_that_hangs_while_it_is_sent_much(serve: Serve) -> None:
    board = serve()
    with AgentClient(board.device()) as client:
        os.kill(client.greeting.pid, signal.SIGSTOP)
        body = bytes(32 << 20)
        fields = {"sha256": "0" * 64, "size": len(body), "offset": 0}
        with pytest.raises(DeviceError, match="said nothing"):
            client.ask("put", fields, body=body, silence=1.0)


def test_when_this_side_is_killed_the_board_is_left_as_it_was(serve: Serve) -> None:
    board = serve()
    client = AgentClient(board.device())
    begin_a_file(client, board)
    os.killpg(client._process.pid, signal.SIGKILL)
    client._process.wait()
    assert board.none_left()
    assert board.partial() == []
    client.close()


def test_the_reaper_kills_nothing_but_that_agent(serve: Serve) -> None:
    board = serve()
    other = subprocess.Popen(["sleep", "60"])
    try:
        board.device()._reap(other.pid, agent_file().sha256)
        time.sleep(0.1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_settings_that_are_wrong_name_the_nearest(tmp_path: Path) -> None:
    for settings, said, hint in [
        ({"host": "a", "pyhton": "x"}, "'pyhton' is no setting", "did you mean 'python'?"),
        ({"python": "x"}, "'host' is missing", "settings there"),
        ({"host": "a", "port": "22"}, "'port'", "settings there"),
        ({"host": "a", "port": 70000}, "'port'", "settings there"),
        ({"host": "a", "runtimes": {"litert": ""}}, "'runtimes.litert'", "settings there"),
    ]:
        with pytest.raises(UsageError) as caught:
            ssh.DEVICE_KIND.from_settings("lab", settings, tmp_path / "devices.yaml")
        assert said in str(caught.value)
        assert hint in str(caught.value.hint)
        assert "lab" in str(caught.value.where)


def test_a_runtime_of_the_settings_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no runtime"):
        ssh.DEVICE_KIND.from_settings("lab", {"host": "a", "runtimes": {"litert==": "~/v"}}, tmp_path)
