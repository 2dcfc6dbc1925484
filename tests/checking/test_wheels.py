"""What wheels ask for is read of their libraries, and decides what installs where."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sysconfig
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeconv.checking._elf import ElfError, needs_of, numbers_of
from edgeconv.checking._measure_wheels import promised_glibc, read_wheel
from edgeconv.checking.wheels import (
    distributions,
    find_wheels,
    fits,
    measured,
    newest_that_fits,
    offered,
    pythons_of,
)

SITE = Path(sysconfig.get_paths()["purelib"])
LIBRARY = next(iter(sorted(SITE.glob("numpy/_core/_multiarray_umath*.so"))))
BYTES = LIBRARY.read_bytes()


def newest_of(dump: str, family: str) -> tuple[int, ...]:
    return max(numbers_of(found) for found in re.findall(rf"\b{family}_([\d.]+)", dump))


def test_what_a_library_asks_for_is_what_the_linkers_own_tool_says() -> None:
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("objdump (binutils) is not here")
    dump = subprocess.run([objdump, "-p", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
    said = needs_of(BYTES)
    versions = dump.partition("Version References:")[2]
    assert said.newest["GLIBC"] == newest_of(versions, "GLIBC")
    assert set(said.libraries) == set(re.findall(r"NEEDED\s+(\S+)", dump))


def test_the_architecture_is_named_as_python_names_it() -> None:
    assert needs_of(BYTES).machine == sysconfig.get_platform().rpartition("-")[2]


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"MZ" + bytes(100), b"\x7fELF\x02\x02" + bytes(100)])
def test_what_is_no_library_is_an_error(content: bytes) -> None:
    with pytest.raises(ElfError):
        needs_of(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_library_is_an_error_or_an_answer(data: st.DataObject) -> None:
    # The headers at the beginning, where all offsets are.
    head = bytearray(BYTES[:4096])
    for _ in range(data.draw(st.integers(1, 4))):
        head[data.draw(st.integers(4, 900))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([900, 4096, len(BYTES)]))
    try:
        said = needs_of((bytes(head) + BYTES[4096:])[:end])
    except ElfError:
        return
    assert isinstance(said.newest, dict)


@pytest.mark.parametrize(
    ("tag", "glibc"),
    [
        ("manylinux_2_27_aarch64.manylinux_2_28_aarch64", "2.27"),
        ("manylinux2014_armv7l", "2.17"),
        ("manylinux_2_34_aarch64", "2.34"),
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", "2.17"),
        ("linux_armv7l", None),
    ],
)
def test_a_name_promises_the_oldest_libc_of_its_tags(tag: str, glibc: str | None) -> None:
    assert promised_glibc(f"runtime-1.0-cp311-cp311-{tag}.whl") == glibc


def test_a_wheel_is_read_as_the_data_says_of_that_release(tmp_path: Path) -> None:
    """The installed LiteRT, packed again: what is read of it is what the file of data has."""
    version = importlib.metadata.version("ai-edge-litert")
    machine = needs_of(BYTES).machine
    known = measured("ai-edge-litert", machine).get(version)
    if known is None:
        pytest.skip(f"ai-edge-litert {version} for {machine} was not read")
    path = tmp_path / f"ai_edge_litert-{version}-cp311-cp311-manylinux_2_27_{machine}.whl"
    metadata = importlib.metadata.distribution("ai-edge-litert").read_text("METADATA")
    with zipfile.ZipFile(path, "w") as archive:
        for library in (SITE / "ai_edge_litert").rglob("*.so*"):
            archive.write(library, library.relative_to(SITE).as_posix())
        archive.writestr(f"ai_edge_litert-{version}.dist-info/METADATA", metadata or "")
    said = read_wheel(path)
    assert (said["glibc"], said["glibcxx"], said["cxxabi"]) == (known.glibc, known.glibcxx, known.cxxabi)
    assert (said["numpy"], said["numpy_1"]) == (known.numpy, known.numpy_1)


@pytest.mark.parametrize(
    ("name", "version", "machine", "tag", "needs"),
    [
        ("ai-edge-litert", "2.1.1", "aarch64", "2.27", ("2.34", "3.4.30")),
        ("ai-edge-litert", "2.3.0", "aarch64", "2.27", ("2.34", "3.4.30")),
        ("tflite-runtime", "2.12.0", "armv7l", "2.17", ("2.34", "3.4.29")),
        ("tflite-runtime", "2.14.0", "aarch64", "2.34", ("2.27", None)),
    ],
)
def test_tags_that_promise_another_libc_than_their_libraries_need_are_known(
    name: str, version: str, machine: str, tag: str, needs: tuple[str, str | None]
) -> None:
    (wheel,) = find_wheels(name, version, machine)
    assert (wheel.tag, (wheel.glibc, wheel.glibcxx)) == (tag, needs)
    assert wheel.lowest_glibc == "2.34"


@pytest.mark.parametrize(
    ("system", "litert", "onnxruntime", "tflite_runtime"),
    [
        # What was really installed and run on these systems (docs/targets.md).
        (("aarch64", "3.9", "2.31", "3.4.28"), "2.1.0", "1.19.2", "2.13.0"),
        (("aarch64", "3.11", "2.36", "3.4.30"), "2.3.0", "1.31.1", "2.14.0"),
        (("aarch64", "3.13", "2.41", "3.4.33"), "2.3.0", "1.31.1", None),
        (("armv7l", "3.11", "2.36", "3.4.30"), None, None, "2.14.0"),
        (("aarch64", "3.8", "2.31", "3.4.28"), None, "1.19.2", "2.13.0"),
        (("aarch64", "3.10", "2.35", "3.4.30"), "2.3.0", "1.23.2", "2.14.0"),
    ],
)
def test_the_newest_that_fits_is_what_was_seen_to_install_and_run(
    system: tuple[str, str, str, str], litert: str | None, onnxruntime: str | None, tflite_runtime: str | None
) -> None:
    machine, python, glibc, glibcxx = system
    found = {
        name: newest_that_fits(name, machine, python, glibc=glibc, glibcxx=glibcxx)
        for name in distributions()
    }
    assert found == {
        "ai-edge-litert": litert, "onnxruntime": onnxruntime, "tflite-runtime": tflite_runtime
    }  # fmt: skip


def test_a_release_that_was_not_read_has_its_two_neighbours() -> None:
    assert [wheel.version for wheel in find_wheels("ai-edge-litert", "2.1.3", "aarch64")] == [
        "2.1.1",
        "2.1.6",
    ]
    assert find_wheels("ai-edge-litert", "99.0", "aarch64") == ()
    assert find_wheels("ai-edge-litert", "2.1.3", "armv7l") == ()


def test_versions_are_compared_as_numbers_and_not_as_text() -> None:
    assert fits("2.9", "2.31")
    assert not fits("2.31", "2.9")
    assert not fits("2.31", None)
    assert offered("onnxruntime", "x86_64", "3.11")[0] == "1.15.0"


def test_the_pythons_of_a_release_are_those_it_has_wheels_for() -> None:
    assert pythons_of("tflite-runtime", "2.14.0", "armv7l")[-1] == "3.11"
    assert pythons_of("onnxruntime", "1.19.2", "aarch64")[0] == "3.8"
    assert pythons_of("ai-edge-litert", "2.3.0", "armv7l") == ()


def test_extensions_of_numpy_1_are_known() -> None:
    """tflite-runtime 2.14.0 says numpy>=1.23.2 and fails beside numpy 2; LiteRT 2.3.0 does not."""
    (old,) = find_wheels("tflite-runtime", "2.14.0", "x86_64")
    (new,) = find_wheels("ai-edge-litert", "2.3.0", "x86_64")
    assert (old.numpy, old.numpy_1, new.numpy_1) == (">=1.23.2", True, False)


def test_the_table_in_the_docs_is_that_of_the_data() -> None:
    page = (Path(__file__).parents[2] / "docs" / "targets.md").read_text()
    section = page.partition("## What wheels ask for")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()
            if re.match(r"\| \S+ \d", line)]  # fmt: skip
    assert len(rows) >= 6
    for wheel, tag, needs, _ in rows:
        match = re.match(r"(\S+) (\d+\.\d+(?:\.\d+)?)\b.*(aarch64|x86_64)", wheel)
        assert match is not None, wheel
        name, version, machine = match.groups()
        version = {"1.17": "1.17.3"}.get(version, version)
        (known,) = find_wheels(name, version, machine)
        said = dict(re.findall(r"(GLIBC|GLIBCXX) ([\d.]+)", needs))
        assert (known.tag, known.glibc) == (tag, said["GLIBC"])
        assert known.glibcxx == said.get("GLIBCXX")
