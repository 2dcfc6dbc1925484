"""Clock, heat and throttling, read from captures of files as boards have them."""

from __future__ import annotations

import os
from pathlib import Path

from edgeconv.agent.sensors import Sensors, pi_flag_names


def capture(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


CPU = "sys/devices/system/cpu"
PI = {
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "600000",
    f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "1800000",
    f"{CPU}/cpu2/cpufreq/scaling_cur_freq": "1500000",
    f"{CPU}/cpu10/cpufreq/scaling_cur_freq": "700000",
    f"{CPU}/cpufreq/boost": "0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "61835",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
    "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0",
    "sys/class/thermal/cooling_device0/cur_state": "2",
}


def test_a_raspberry_pi_tells_clock_heat_and_its_throttle_flags(tmp_path: Path) -> None:
    found = Sensors(str(capture(tmp_path, PI))).read()
    assert found["mhz"] == [600.0, 1800.0, 1500.0, 700.0]
    assert found["celsius"] == {"cpu-thermal (thermal_zone0)": 61.835}
    assert found["throttle"] == {"flags": 0x50005, "cooling": 2}
    assert found["at"] > 0


def test_throttle_flags_have_words() -> None:
    assert pi_flag_names(0x50005) == {
        "now": ["under-voltage", "throttled"],
        "since start": ["under-voltage", "throttled"],
    }
    assert pi_flag_names(0x80000) == {"now": [], "since start": ["soft temperature limit"]}


def test_a_pc_tells_its_sensors_and_how_often_it_was_slowed_down(tmp_path: Path) -> None:
    root = capture(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2596.140\n\nprocessor\t: 1\ncpu MHz\t\t: 800.5",
            "sys/class/hwmon/hwmon3/name": "coretemp",
            "sys/class/hwmon/hwmon3/temp1_input": "45000",
            "sys/class/hwmon/hwmon3/temp1_label": "Package id 0",
            "sys/class/hwmon/hwmon3/temp2_input": "44000",
            f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3",
            f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4",
            f"{CPU}/cpu0/thermal_throttle/package_throttle_count": "5",
        },
    )
    found = Sensors(str(root)).read()
    assert found["mhz"] == [2596.14, 800.5]
    assert found["celsius"] == {"coretemp Package id 0 (hwmon3)": 45.0, "coretemp temp2 (hwmon3)": 44.0}
    assert found["throttle"] == {"events": 12}


def test_a_jetson_tells_its_zones_and_overcurrent_events(tmp_path: Path) -> None:
    root = capture(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "CPU-therm",
            "sys/class/thermal/thermal_zone0/temp": "38500",
            "sys/class/thermal/thermal_zone10/type": "GPU-therm",
            "sys/class/thermal/thermal_zone10/temp": "37000",
            "sys/class/thermal/thermal_zone2/type": "PMIC-Die",
            "sys/class/thermal/thermal_zone2/temp": "-256000",  # not powered
            "sys/class/hwmon/hwmon1/oc1_event_cnt": "2",
            "sys/class/hwmon/hwmon1/oc3_event_cnt": "1",
        },
    )
    found = Sensors(str(root)).read()
    assert found["celsius"] == {"CPU-therm (thermal_zone0)": 38.5, "GPU-therm (thermal_zone10)": 37.0}
    assert found["throttle"] == {"overcurrent": 3}


def test_what_is_not_there_or_no_number_is_left_out(tmp_path: Path) -> None:
    assert set(Sensors(str(tmp_path)).read()) == {"at"}
    root = capture(tmp_path, {f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "<unknown>"})
    assert set(Sensors(str(root)).read()) == {"at"}


def test_this_machine_is_read_without_an_error() -> None:
    first, second = Sensors().read(), Sensors().read()
    assert first["at"] < second["at"]


def test_a_virtual_machine_tells_how_long_others_had_its_processor(tmp_path: Path) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    line = f"cpu  1 2 3 4 5 6 7 {12 * tick} 0 0"
    assert Sensors(str(capture(tmp_path, {"proc/stat": line}))).read()["steal_seconds"] == 12.0


def test_an_old_kernel_that_counts_no_such_time_leaves_it_out(tmp_path: Path) -> None:
    assert "steal_seconds" not in Sensors(str(capture(tmp_path, {"proc/stat": "cpu 1 2 3 4"}))).read()
