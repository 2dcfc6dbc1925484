"""Emulated boards as data: each file is whole, and everything in it decides the key."""

from __future__ import annotations

import dataclasses

import pytest

from edgeconv.devices._emulated_boards import find_board, known_boards, suites_of
from edgeconv.devices._userland_wheels import rounds
from edgeconv.devices.base import RuntimeChoice
from edgeconv.errors import UnavailableError, UsageError

BOARDS = [
    find_board(board.name, suite)
    for board in known_boards()
    for suite in suites_of(board.userland.architecture)
]


@pytest.fixture(params=BOARDS, ids=lambda board: board.name)
def board(request):
    return request.param


def test_there_is_a_64_bit_and_a_32_bit_pi():
    machines = {board.name: board.userland.machine for board in known_boards()}
    assert machines["rpi4-emulated"] == "aarch64"
    assert machines["rpi3-32-emulated"] == "armv7l"


def test_every_board_emulates_a_processor_by_name(board):
    # Under the default, 'max', qemu 7.2 lets some int8 kernels compute something else and says nothing.
    assert board.qemu_cpu.startswith("cortex-")


def test_its_cpuinfo_is_that_of_an_arm_processor_with_all_its_cores(board):
    lines = board.cpuinfo().splitlines()
    assert [line for line in lines if line.startswith("processor")] == [
        f"processor\t: {number}" for number in range(board.cores)
    ]
    assert sum(line.startswith("CPU part\t: 0x") for line in lines) == board.cores
    assert not any("GenuineIntel" in line or "AuthenticAMD" in line for line in lines)
    assert lines[-1] == f"Model\t\t: {board.model}"


def test_it_has_runtimes_of_exact_versions_each_named_once(board):
    ids = [runtime.id for runtime in board.userland.runtimes]
    assert ids
    assert len(set(ids)) == len(ids)
    for runtime in board.userland.runtimes:
        if runtime.wheels:
            assert next(iter(runtime.wheels.values())) == runtime.version


def test_it_takes_the_wheels_that_pip_takes_there_and_no_newer_ones(board):
    platforms = board.userland.platforms()
    minor = int(board.userland.glibc.split(".")[1])
    machine = board.userland.machine
    assert platforms[0] == f"manylinux_2_{minor}_{machine}"
    assert f"manylinux_2_17_{machine}" in platforms
    assert f"manylinux2014_{machine}" in platforms
    assert f"manylinux_2_{minor + 1}_{machine}" not in platforms


def test_the_64_bit_pi_has_a_current_and_an_old_version_of_each_runtime():
    ids = {runtime.id for runtime in find_board("rpi4-emulated").userland.runtimes}
    assert ids >= {"litert==2.3.0", "litert==1.4.0", "onnxruntime==1.31.1", "onnxruntime==1.16.3"}
    assert "tflite-runtime==2.14.0" in ids


def test_tflite_runtime_never_meets_numpy_2(board):
    for runtime in board.userland.runtimes:
        if runtime.name == "tflite-runtime" and runtime.wheels.get("numpy"):
            assert runtime.wheels["numpy"].startswith("1.")


def test_another_suite_is_written_behind_the_name_or_given():
    assert find_board("rpi4-emulated@trixie") == find_board("rpi4-emulated", "trixie")
    assert find_board("rpi4-emulated@trixie").name == "rpi4-emulated@trixie"
    assert find_board("rpi4-emulated@bookworm").name == "rpi4-emulated"


def test_a_name_that_is_nearly_one_is_answered_with_it():
    with pytest.raises(UsageError) as caught:
        find_board("rpi4-emulate")
    assert caught.value.hint == "did you mean 'rpi4-emulated'?"


def test_a_suite_that_it_has_not_is_answered_with_those_that_it_has():
    with pytest.raises(UsageError) as caught:
        find_board("rpi4-emulated@buster")
    assert "rpi4-emulated@trixie" in caught.value.hint


def test_two_suites_at_once_are_refused():
    with pytest.raises(UsageError):
        find_board("rpi4-emulated@trixie", "bullseye")


def test_a_runtime_is_chosen_by_name_and_version_and_the_first_is_the_default():
    board = find_board("rpi4-emulated")
    assert board.runtime(None).id == board.runtime(RuntimeChoice("litert")).id == "litert==2.3.0"
    assert board.runtime(RuntimeChoice("onnxruntime", "1.16.3")).wheels["numpy"] == "1.26.4"
    with pytest.raises(UnavailableError) as caught:
        board.runtime(RuntimeChoice("onnxruntime", "1.0"))
    assert "onnxruntime==1.16.3" in str(caught.value)


def test_the_key_is_of_everything_that_decides_what_is_built():
    board = find_board("rpi4-emulated")
    userland, runtime = board.userland, board.userland.runtimes[0]
    others = [
        dataclasses.replace(board, qemu_cpu="cortex-a53"),
        dataclasses.replace(board, core=board.core + "x"),
        dataclasses.replace(board, cores=2),
        dataclasses.replace(board, userland=dataclasses.replace(userland, packages=userland.packages[1:])),
        dataclasses.replace(board, userland=dataclasses.replace(userland, suite="trixie")),
        dataclasses.replace(board, userland=dataclasses.replace(userland, links={"a": "b"})),
        dataclasses.replace(
            board,
            userland=dataclasses.replace(
                userland, runtimes=(dataclasses.replace(runtime, wheels={"numpy": "2.0.0"}),)
            ),
        ),
    ]
    assert len({each.sha256 for each in [board, *others]}) == len(others) + 1
    assert board.sha256 == find_board("rpi4-emulated").sha256


def test_pins_are_fetched_in_as_few_calls_as_have_each_distribution_once():
    pins = [
        ("numpy", "1.26.4"),
        ("numpy", "2.4.6"),
        ("onnxruntime", "1.16.3"),
        ("onnxruntime", "1.31.1"),
        ("a", "1"),
    ]
    groups = rounds(pins)
    assert len(groups) == 2
    assert sorted(pin for group in groups for pin in group) == sorted(pins)
    for group in groups:
        assert len({name for name, _ in group}) == len(group)
    assert rounds([]) == []
