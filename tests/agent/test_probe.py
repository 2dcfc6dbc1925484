"""What a board is, read from files as boards of many kinds have them; and this machine by the real agent."""

from __future__ import annotations

import json
import platform
import random
import sys
from pathlib import Path

import pytest
from agent.captures import JETSON_NANO, ORIN, ROCK5, RPI3_32, RPI4, RPI5, X86, laid_out

from edgeconv.agent import probe as reader
from edgeconv.agent.clean import clean
from edgeconv.agent.probe import probe
from edgeconv.agent.processor import cpu_name, processor
from edgeconv.devices.client import AgentClient
from edgeconv.devices.local import LocalDevice

BOARDS = {
    "pi3": RPI3_32,
    "pi4": RPI4,
    "pi5": RPI5,
    "nano": JETSON_NANO,
    "orin": ORIN,
    "rock5": ROCK5,
    "x86": X86,
}


def test_a_raspberry_pi_4(tmp_path: Path) -> None:
    said = probe(str(tmp_path / "store"), laid_out(tmp_path, RPI4))
    assert said["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert said["compatible"] == ["raspberrypi,4-model-b", "brcm,bcm2711"]
    assert said["system"] == {
        "name": "Debian GNU/Linux 12 (bookworm)", "id": "debian", "version": "12", "codename": "bookworm",
    }  # fmt: skip
    assert said["processor"] == {
        "cores": 4,
        "name": "Cortex-A72",
        "features": ["crc32", "neon"],
        "clusters": [
            {
                "cores": [0, 1, 2, 3],
                "cpu": "Cortex-A72",
                "max_mhz": 1500.0,
                "capacity": None,
                "governor": "ondemand",
            }
        ],
    }
    assert said["memory"] == {
        "total": 3884356 << 10, "available": 3421168 << 10, "swap": 102396 << 10, "swap_free": 102396 << 10,
    }  # fmt: skip
    assert said["sensors"]["mhz"] == [750.0] * 4
    assert list(said["sensors"]["celsius"].values()) == [48.686]
    assert said["throttled"] == {
        "now": ["under-voltage", "throttled"],
        "since start": ["under-voltage", "throttled"],
    }
    assert said["gpus"] == [{"name": "brcm,2711-v3d", "driver": "v3d", "memory": None}]
    assert said["jetson"] is None
    assert said["edge_tpus"] == []
    assert said["disk"]["free"] > 0


def test_a_32_bit_userland_has_its_own_words_for_features(tmp_path: Path) -> None:
    said = processor(laid_out(tmp_path, RPI3_32))
    assert said["name"] == "Cortex-A53"
    assert said["features"] == ["crc32", "neon", "vfpv4"]


def test_a_raspberry_pi_5_has_dot_products_and_half_precision(tmp_path: Path) -> None:
    said = processor(laid_out(tmp_path, RPI5))
    assert said["name"] == "Cortex-A76"
    assert {"dotprod", "fp16", "atomics"} <= set(said["features"])
    assert "i8mm" not in said["features"]


def test_big_and_little_cores_are_told_apart(tmp_path: Path) -> None:
    root = laid_out(tmp_path, ROCK5)
    said = processor(root)
    assert said["name"] == "Cortex-A55 + Cortex-A76"
    assert [(c["cores"], c["cpu"], c["max_mhz"], c["capacity"]) for c in said["clusters"]] == [
        ([0, 1, 2, 3], "Cortex-A55", 1800.0, 530.0),
        ([4, 5], "Cortex-A76", 2400.0, 1024.0),
        ([6, 7], "Cortex-A76", 2304.0, 1024.0),
    ]
    assert reader.gpus(root) == [{"name": "arm,mali-valhall-csf", "driver": "panthor", "memory": None}]


def test_jetsons_with_their_kit_power_mode_and_tensorrt(tmp_path: Path) -> None:
    nano = laid_out(tmp_path / "nano", JETSON_NANO)
    assert reader.jetson(nano) == {"l4t": "32.7.1", "jetpack": "4", "power_mode": "5W"}
    assert reader.tensorrt(nano) == "8.2.1"
    assert reader.gpus(nano)[0]["name"] == "NVIDIA Maxwell (tegra210)"
    orin = laid_out(tmp_path / "orin", ORIN)
    assert reader.jetson(orin) == {"l4t": "36.3.0", "jetpack": "6.0", "power_mode": "0"}
    assert reader.tensorrt(orin) is None
    assert processor(orin)["name"] == "Cortex-A78AE"


def test_a_pc_with_edge_tpus(tmp_path: Path) -> None:
    root = laid_out(tmp_path, X86)
    assert reader.model(root) == "Intel(R) Client Systems NUC12WSKi5"
    assert reader.compatible(root) is None
    said = processor(root)
    assert said["name"] == "12th Gen Intel(R) Core(TM) i5-1240P"
    assert said["features"] == ["avx", "avx-vnni", "avx2", "f16c", "fma", "sse2", "sse4.1", "sse4.2"]
    assert reader.edge_tpus(root) == ["usb", "pcie"]


def test_a_feature_counts_only_where_every_core_has_it(tmp_path: Path) -> None:
    text = "processor : 0\nFeatures : asimd asimddp\n\nprocessor : 1\nFeatures : asimd\n"
    assert processor(laid_out(tmp_path, {"proc/cpuinfo": text}))["features"] == ["neon"]


def test_cores_without_a_known_number_are_named_by_it(tmp_path: Path) -> None:
    assert cpu_name(0x41, 0xFFE) == "ARM core 0xffe"
    assert cpu_name(0x99, 0x001) == "0x99 core 0x001"
    assert cpu_name(0x4E, 0x004) == "Carmel"


def test_the_register_tells_what_cpuinfo_does_not(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/online": "0-1\n",
        "sys/devices/system/cpu/cpu0/regs/identification/midr_el1": "0x00000000410fd083\n",
        "sys/devices/system/cpu/cpu1/regs/identification/midr_el1": "0x00000000410fd034\n",
    }
    said = processor(laid_out(tmp_path, files))
    assert (said["cores"], said["name"]) == (2, "Cortex-A72 + Cortex-A53")


def test_the_libraries_of_a_board_say_what_a_wheel_may_ask_for(tmp_path: Path) -> None:
    libraries = {
        "libstdc++.so.6": "\x7fELF GLIBCXX_3.4.9\0GLIBCXX_3.4.28\0GLIBCXX_3.4\0",
        "libc.so.6": "\x7fELF GLIBC_2.17\0GLIBC_2.9\0GLIBC_2.31\0GLIBC_PRIVATE\0",
    }
    files = {f"usr/lib/aarch64-linux-gnu/{name}": text for name, text in libraries.items()}
    root = laid_out(tmp_path, files)
    assert reader.glibcxx(root) == "3.4.28"
    assert reader.libc(root) == "glibc 2.31"


def test_a_small_system_with_musl(tmp_path: Path) -> None:
    assert reader.libc(laid_out(tmp_path, {"lib/ld-musl-aarch64.so.1": ""})) == "musl"


def test_where_there_is_nothing_everything_is_there_and_empty(tmp_path: Path) -> None:
    said = probe(str(tmp_path), str(tmp_path))
    assert said["model"] is None
    assert said["processor"]["cores"] is None
    assert said["memory"]["total"] is None
    assert said["gpus"] == []
    json.dumps(said)


@pytest.mark.parametrize("board", BOARDS)
def test_no_damage_to_a_file_makes_it_fail(tmp_path: Path, board: str) -> None:
    chance = random.Random(board)
    whole = probe(str(tmp_path), laid_out(tmp_path / "whole", BOARDS[board]))
    for turn in range(15):
        files = dict(BOARDS[board])
        for name in chance.sample(sorted(files), max(1, len(files) // 3)):
            text = files[name]
            cut = chance.randrange(len(text) + 1)
            noise = "".join(chr(chance.randrange(256)) for _ in range(chance.randrange(20)))
            files[name] = text[:cut] + noise + text[cut + chance.randrange(5) :] * chance.randrange(2)
        said = probe(str(tmp_path), laid_out(tmp_path / str(turn), files))
        assert said.keys() == whole.keys()
        json.dumps(said)


def test_this_machine_by_the_real_agent() -> None:
    with AgentClient(LocalDevice()) as client:
        said, _ = client.ask("probe")
    assert said["machine"] == platform.machine()
    assert said["python"]["version"] == platform.python_version()
    assert said["python"]["path"] == sys.executable
    assert said["runtimes"]["litert"]
    assert said["runtimes"]["tensorrt" if "tensorrt" in said["runtimes"] else "tflite-runtime"] is None
    assert "null" not in said["runtimes"]
    assert said["memory"]["total"] > 1 << 28
    assert said["libc"].startswith("glibc 2.")
    assert said["glibcxx"].startswith("3.4.")
    assert said["processor"]["cores"] >= said["usable_cores"] >= 1


def test_cleaning_takes_what_was_sent_and_nothing_else(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("files/a", "agents/b.pyz", "sessions/1-x/c", "mine/d"):
        (store / name).parent.mkdir(parents=True)
        (store / name).write_bytes(bytes(1000))
    assert clean(str(store)) == 3000
    assert [path.name for path in store.rglob("*")] == ["mine", "d"]
    assert clean(str(store)) == 0
    assert clean(str(tmp_path / "nowhere")) == 0


def test_cleaning_leaves_the_session_of_an_agent_that_runs(tmp_path: Path) -> None:
    from edgeconv.agent.store import Store

    running = Store(str(tmp_path))
    (Path(running.session()) / "arriving").write_bytes(b"x")
    clean(str(tmp_path))
    assert (Path(running.session()) / "arriving").is_file()
    running.close()
    clean(str(tmp_path))
    assert not tmp_path.exists()
