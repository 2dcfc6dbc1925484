"""Files of boards as their kernels and systems write them, laid out below a folder."""

from __future__ import annotations

from pathlib import Path

CPU = "sys/devices/system/cpu/"


def laid_out(root: Path, files: dict[str, str]) -> str:
    """The files below ``root``, in the form that the readers take their root in."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    return str(root)


def cores(
    names: dict[int, tuple[int, int]], features: str, *, tail: str = "", label: str = "Features"
) -> str:
    """``/proc/cpuinfo`` of an ARM: core to implementer and part."""
    blocks = [
        f"processor\t: {core}\nBogoMIPS\t: 108.00\n{label}\t: {features}\n"
        f"CPU implementer\t: 0x{implementer:x}\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: 0x{part:x}\nCPU revision\t: 3\n"
        for core, (implementer, part) in names.items()
    ]
    return "\n".join([*blocks, tail])


def clocks(
    frequencies: dict[int, int], governor: str, capacity: dict[int, int] | None = None
) -> dict[str, str]:
    files = {}
    for core, khz in frequencies.items():
        files[f"{CPU}cpu{core}/cpufreq/cpuinfo_max_freq"] = f"{khz}\n"
        files[f"{CPU}cpu{core}/cpufreq/scaling_governor"] = f"{governor}\n"
        files[f"{CPU}cpu{core}/cpufreq/scaling_cur_freq"] = f"{khz // 2}\n"
    for core, share in (capacity or {}).items():
        files[f"{CPU}cpu{core}/cpu_capacity"] = f"{share}\n"
    return files


def release(name: str, ident: str, version: str, codename: str) -> str:
    return (
        f'PRETTY_NAME="{name}"\nNAME="x"\nVERSION_ID="{version}"\nVERSION_CODENAME={codename}\nID={ident}\n'
    )


V8 = "fp asimd evtstrm crc32 cpuid"
V82 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"

RPI4 = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
    "proc/cpuinfo": cores(
        dict.fromkeys(range(4), (65, 3336)),
        V8,
        tail="Revision\t: c03114\nSerial\t\t: 1000\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    ),
    "proc/meminfo": "MemTotal:        3884356 kB\nMemFree:  100 kB\nMemAvailable:    3421168 kB\n"
    "SwapTotal:        102396 kB\nSwapFree:         102396 kB\n",
    "etc/os-release": release("Debian GNU/Linux 12 (bookworm)", "debian", "12", "bookworm"),
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48686\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/class/drm/card0/device/uevent": "DRIVER=v3d\nOF_NAME=gpu\nOF_COMPATIBLE_0=brcm,2711-v3d\n",
    "sys/class/drm/card1/device/uevent": "DRIVER=vc4-drm\nOF_NAME=gpu\nOF_COMPATIBLE_0=brcm,bcm2711-vc5\n",
    **clocks(dict.fromkeys(range(4), 1_500_000), "ondemand"),
}

RPI3_32 = {
    "proc/device-tree/model": "Raspberry Pi 3 Model B Rev 1.2\0",
    "proc/device-tree/compatible": "raspberrypi,3-model-b\0brcm,bcm2837\0",
    "proc/cpuinfo": cores(
        dict.fromkeys(range(4), (65, 3331)),
        "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32",
        tail="Hardware\t: BCM2835\nRevision\t: a02082\nModel\t\t: Raspberry Pi 3 Model B Rev 1.2\n",
    ),
    "proc/meminfo": "MemTotal:         943044 kB\nMemAvailable:     802432 kB\n",
}

RPI5 = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
    "proc/cpuinfo": cores(dict.fromkeys(range(4), (65, 3339)), V82),
    **clocks(dict.fromkeys(range(4), 2_400_000), "ondemand"),
}

JETSON_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3450-0000\0nvidia,tegra210\0",
    "proc/cpuinfo": cores(dict.fromkeys(range(4), (65, 3335)), "fp asimd evtstrm aes pmull sha1 sha2 crc32"),
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, "
    "DATE: Sat Feb 19 17:05:08 UTC 2022\n",
    "var/lib/nvpmodel/status": "pmode:0001 fmode:quiet",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nCORE_0 1\n< POWER_MODEL ID=1 NAME=5W >\n",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.8": "",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.8.2.1": "",
}

ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "proc/cpuinfo": cores(dict.fromkeys(range(6), (65, 3394)), V82),
    "etc/nv_tegra_release": "# R36 (release), REVISION: 3.0, GCID: 36106755, BOARD: generic, EABI: aarch64, "
    "DATE: Thu Apr 25 03:14:05 UTC 2024\n",
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5.1\n\n"
    "Package: nvidia-jetpack\nStatus: install ok installed\nMaintainer: N <n@example>\n"
    "Description: a kit\n of many parts\nVersion: 6.0+b106\n\nPackage: zsh\nVersion: 1\n",
    "var/lib/nvpmodel/status": "pmode:0000",
}

ROCK5 = {
    "proc/device-tree/model": "Radxa ROCK 5B\0",
    "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
    "proc/cpuinfo": cores({n: (0x41, 0xD05 if n < 4 else 0xD0B) for n in range(8)}, V82),
    "sys/class/drm/card1/device/uevent": "DRIVER=panthor\nOF_COMPATIBLE_0=arm,mali-valhall-csf\n",
    "dev/mali0": "",
    **clocks(
        {n: 1_800_000 if n < 4 else 2_400_000 if n < 6 else 2_304_000 for n in range(8)},
        "schedutil",
        {n: 530 if n < 4 else 1024 for n in range(8)},
    ),
}

X86 = {
    "sys/class/dmi/id/sys_vendor": "Intel(R) Client Systems\n",
    "sys/class/dmi/id/product_name": "NUC12WSKi5\n",
    "proc/cpuinfo": "\n".join(
        f"processor\t: {n}\nvendor_id\t: GenuineIntel\nmodel name\t: 12th Gen Intel(R) Core(TM)  i5-1240P\n"
        f"cpu MHz\t\t: 1700.000\nflags\t\t: fpu sse2 sse4_1 sse4_2 avx f16c avx2 fma avx_vnni{' x' * n}\n"
        for n in range(2)
    ),
    "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n",
    "sys/bus/usb/devices/1-1/idVendor": "18d1\n",
    "sys/bus/usb/devices/1-1/idProduct": "9302\n",
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x1ac1\n",
    "sys/bus/pci/devices/0000:01:00.0/device": "0x089a\n",
}
