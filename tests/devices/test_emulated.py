"""Emulated boards as devices: what runs there is the board's, and nothing of it is the host's."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys

import pytest
from devices import boards

from edgeconv.devices import emulated
from edgeconv.devices._emulated_boards import find_board
from edgeconv.devices._emulated_qemu import command, find_qemu, variables, version
from edgeconv.devices.base import Device, DeviceKind, RuntimeChoice
from edgeconv.devices.client import AgentClient
from edgeconv.devices.emulated import EmulatedDevice
from edgeconv.errors import UnavailableError, UsageError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("boards"), pytest.mark.timeout(900)]


@pytest.fixture(params=["rpi4-emulated", "rpi3-32-emulated"])
def built(request, boards_folder):
    return boards.built(request.param, boards_folder)


@pytest.fixture
def device(built, boards_folder):
    return EmulatedDevice(built.board, boards_folder)


def python(device, program, runtime=None, **more):
    """What a program prints under the board's Python, started as the agent is."""
    start = device.start(runtime)
    at = start.command.index(next(part for part in start.command if part.endswith(".pyz")))
    merged = {**os.environ, **start.variables, **more}
    ran = subprocess.run(
        [*start.command[:at], "-c", program],
        env={name: value for name, value in merged.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_says_that_it_is_emulated(device):
    assert isinstance(device, Device)
    assert device.emulated
    assert device.kind == "emulated"
    assert "emulated" in device.start(None).where


def test_the_agent_answers_from_a_machine_of_the_board_s_kind(device, built):
    with AgentClient(device) as client:
        assert client.greeting.machine == built.board.userland.machine
        assert client.greeting.python[:2] == (3, 11)


def test_it_shows_its_programs_the_board_s_processor_and_not_the_host_s(device, built):
    # qemu 7.2 shows the host's: ONNX Runtime dies of it at import, LiteRT at the first model.
    said = python(device, "import os; print(os.cpu_count()); print(open('/proc/cpuinfo').read(), end='')")
    cores, _, cpuinfo = said.partition("\n")
    assert int(cores) == built.board.cores
    assert cpuinfo == built.board.cpuinfo()


def test_it_emulates_the_board_s_processor_and_not_what_qemu_has_of_itself(device, built):
    # Under qemu 7.2's own choice int8 kernels of LiteRT compute something else; see test_emulated_outputs.py.
    assert device.start(None).variables["QEMU_CPU"] == built.board.qemu_cpu
    mine = built.board.qemu_cpu
    for runtime in device.runtimes():
        assert device.start(runtime).variables["QEMU_CPU"] == mine


FILES = """
import json, os, sys
NAMES
with open('/proc/self/maps') as stream:
    fields = [line.split(None, 5) for line in stream]
mapped = [each[5].strip() for each in fields if len(each) == 6]
loaded = [getattr(each, '__file__', None) for each in list(sys.modules.values())]
print(json.dumps({
    'path': sys.path, 'loaded': [each for each in loaded if each],
    'mapped': [each for each in mapped if each[0] == '/'],
}))
"""


def test_no_file_of_the_host_is_taken_for_one_of_the_board(device, built):
    tried = 0
    for runtime in built.board.userland.runtimes:
        program = FILES.replace(
            "NAMES", f"import {runtime.module}, ctypes, ssl, sqlite3, decimal, lzma, uuid"
        )
        said = json.loads(python(device, program, RuntimeChoice(runtime.name, runtime.version)))
        for path in [*(each for each in said["path"] if each), *said["loaded"], *said["mapped"]]:
            assert path.startswith(f"{built.root}/"), path
        assert any("ld-linux" in each for each in said["mapped"])
        assert any(built.board.userland.triplet in each for each in said["mapped"])
        tried += 1
    assert tried == len(built.board.userland.runtimes)


def test_no_program_of_the_host_is_started_there(device):
    # qemu hands a program that is started by another to the host's kernel, which would run the host's own.
    program = (
        "import os, shutil, subprocess\n"
        "print(shutil.which('sh'), shutil.which('uname'), os.environ['PATH'])\n"
        "try: subprocess.run(['uname', '-m'])\n"
        "except FileNotFoundError: print('none')\n"
    )
    assert python(device, program) == "None None /nonexistent\nnone\n"


def test_nothing_of_this_process_s_environment_comes_through(device, monkeypatch):
    for name in (
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "EDGECONV_SECRET",
        "QEMU_LD_PREFIX",
    ):
        monkeypatch.setenv(name, "/somewhere")
    seen = python(device, "import os; print(sorted(os.environ))")
    for name in ("HOME", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "EDGECONV_SECRET"):
        assert (f"'{name}'" in seen) == (name == "HOME")


def test_nothing_is_written_into_the_board_when_it_is_used(device, built):
    before = sorted(path for path in built.root.rglob("*"))
    python(device, "import numpy, unittest.mock, xml.dom.minidom")
    assert sorted(path for path in built.root.rglob("*")) == before


def test_a_probe_tells_of_the_board_and_nothing_of_the_host(device, built):
    with AgentClient(device) as client:
        said = client.ask("probe")[0]
    assert said["model"] == built.board.model
    assert said["machine"] == built.board.userland.machine
    assert said["processor"]["cores"] == built.board.cores
    (cluster,) = said["processor"]["clusters"]
    assert cluster["governor"] is None  # the host's governor is no matter of the board
    assert said["sensors"] == {}
    assert said["libc"] == f"glibc {built.board.userland.glibc}"
    assert said["system"]["codename"] == built.board.userland.suite
    assert said["memory"]["total"] is None
    assert said["gpus"] == []


def test_each_runtime_is_there_in_its_version_with_the_numpy_that_it_needs(device, built):
    for runtime in built.board.userland.runtimes:
        with AgentClient(device, RuntimeChoice(runtime.name, runtime.version)) as client:
            said = client.ask("probe")[0]
            assert said["runtimes"][runtime.name] == runtime.version
            assert said["numpy"].split(".")[0] == runtime.wheels.get("numpy", "1")[0]


def test_a_runtime_that_is_not_there_is_answered_with_those_that_are(device):
    with pytest.raises(UnavailableError) as caught:
        AgentClient(device, RuntimeChoice("onnxruntime", "0.1"))
    assert "installed there:" in str(caught.value)


def test_a_board_that_was_not_made_says_how_to_make_it(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        AgentClient(EmulatedDevice(find_board("rpi4-emulated"), tmp_path))
    assert caught.value.hint == "make it: edgeconv devices create rpi4-emulated"


def test_the_runtimes_there_know_the_processor_and_would_not_without_its_cpuinfo(arm64, tmp_path):
    qemu = find_qemu("arm64")
    root = tmp_path / "root"
    subprocess.run(["cp", "-al", str(arm64.root), str(root)], check=True)
    (root / "proc/cpuinfo").unlink()
    runtime = arm64.board.runtime(RuntimeChoice("onnxruntime", "1.31.1"))

    def importing(tree):
        own = variables(arm64.board, tree, runtime)
        return subprocess.run(
            command(tree, qemu, ["-c", "import onnxruntime"]),
            env={name: value for name, value in own.items() if value is not None},
            capture_output=True,
            text=True,
        )

    there = importing(arm64.root)
    assert (there.returncode, there.stderr) == (0, "")
    if int(version(qemu).split(".")[0]) < 10 and platform.machine() == "x86_64":
        without = importing(root)
        assert without.returncode != 0 or "Unknown CPU vendor" in without.stderr


def test_the_kind_finds_boards_that_were_made_and_no_others(arm64, boards_folder, tmp_path, monkeypatch):
    assert isinstance(emulated.DEVICE_KIND, DeviceKind)
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(tmp_path))
    assert emulated.DEVICE_KIND.devices() == ()
    shutil.copytree(arm64.folder, tmp_path / "devices" / "rpi4-emulated", symlinks=True)
    assert [device.name for device in emulated.DEVICE_KIND.devices()] == ["rpi4-emulated"]
    assert emulated.create("rpi4-emulated").name == "rpi4-emulated"
    assert [built.stamp["bytes"] > 0 for built in emulated.installed()] == [True]
    assert emulated.remove("rpi4-emulated")
    assert emulated.DEVICE_KIND.devices() == ()
    assert not emulated.remove("rpi4-emulated")


def test_a_board_may_have_another_name_in_the_user_s_file(tmp_path):
    device = emulated.DEVICE_KIND.from_settings("garden", {"board": "rpi4-emulated@trixie"}, tmp_path)
    assert (device.name, device.emulated) == ("garden", True)
    for settings in ({}, {"board": "rpi4-emulated", "port": 22}, {"board": "rpi9"}):
        with pytest.raises(UsageError):
            emulated.DEVICE_KIND.from_settings("garden", settings, tmp_path)


def test_its_key_is_of_its_data_and_of_nothing_of_this_machine():
    board = find_board("rpi4-emulated")
    program = (
        "from edgeconv.devices._emulated_boards import find_board; print(find_board('rpi4-emulated').sha256)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/")
    assert ran.stdout.strip() == dataclasses.replace(board).sha256
