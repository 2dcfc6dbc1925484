"""How devices and what they say of themselves look on a terminal and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgeconv.cli.options import plain

if TYPE_CHECKING:
    from edgeconv.devices.base import Device
    from edgeconv.devices.probing import Probed
    from edgeconv.errors import EdgeconvError


def probed_fields(probed: Probed) -> dict[str, Any]:
    """What a probe gave, for JSON: the agent's own fields and those of this side."""
    others = [
        {
            "runtime": str(each.choice),
            "version": each.version,
            "error": None if each.error is None else error_fields(each.error),
        }
        for each in probed.others
    ]
    device = probed.device
    return {
        "name": device.name,
        "kind": device.kind,
        "emulated": device.emulated,
        "seconds": round(probed.seconds, 3),
        **probed.said,
        "other_runtimes": others,
    }


def error_fields(error: EdgeconvError) -> dict[str, Any]:
    """An error, for JSON."""
    return {
        "what": error.what,
        "where": error.where,
        "why": error.why,
        "hint": error.hint,
        "exit_code": int(error.exit_code),
    }


def list_lines(
    devices: Sequence[Device],
    answers: Sequence[Probed | EdgeconvError | None],
    wrong: Sequence[EdgeconvError],
    *,
    quiet: bool,
) -> None:
    """Print the table of devices, with what they said where they were asked; then what is wrong."""
    from rich.text import Text

    from edgeconv.cli.guard import show_error
    from edgeconv.cli.tables import console_for_tables, print_wrapped, table_with
    from edgeconv.devices.probing import Probed
    from edgeconv.devices.registry import makeable_names, target_of

    asked = any(answer is not None for answer in answers)
    console = console_for_tables()
    table = table_with("device", "what it is", "kind", "target", *(("runtimes", ">seconds") if asked else ()))
    errors = list(wrong)
    for device, answer in zip(devices, answers, strict=True):
        about = device.about
        cells: list[str] = []
        if isinstance(answer, Probed):
            said = answer.said
            about = str(said.get("model") or about)
            cells = [", ".join(_runtimes(answer)) or "none", f"{answer.seconds:.1f}"]
        elif answer is not None:
            cells = ["does not answer", ""]
            errors.append(answer)
        row = [device.name, about, device.kind, target_of(device) or "", *cells]
        table.add_row(*(Text(plain(cell)) for cell in row))
    if not quiet:
        console.print(table)
        here = {device.name for device in devices}
        missing = [name for name in makeable_names() if "@" not in name and name not in here]
        if missing:
            print_wrapped(console, f"can be made (edgeconv devices create NAME): {', '.join(missing)}", "dim")
    for error in errors:
        show_error(error)


def probe_lines(probed: Probed, *, target: str | None, likely: str | None, written: bool) -> None:
    """Print what a device said of itself, one thing a line; what is not known is left out."""
    said, device = probed.said, probed.device
    emulated = ", emulated" if device.emulated else ""
    model = said.get("model") or device.about
    _row(f"{device.name}", f"{model}{emulated} (answered in {probed.seconds:.1f} s)", margin="")
    for name, text in (
        ("processor", _processor(said)),
        ("features", " ".join((said.get("processor") or {}).get("features") or [])),
        ("memory", _memory(said.get("memory") or {})),
        ("disk", _disk(said.get("disk") or {})),
        ("system", _system(said)),
        ("libraries", ", ".join(_libraries(said))),
        ("Python", _python(said)),
        ("runtimes", ", ".join(_runtimes(probed)) or "none: install ai-edge-litert or onnxruntime there"),
        ("GPU", ", ".join(str(gpu.get("name")) for gpu in said.get("gpus") or [])),
        ("TensorRT", said.get("tensorrt")),
        ("Edge TPU", ", ".join(said.get("edge_tpus") or [])),
        ("Jetson", _jetson(said.get("jetson"))),
        ("clock", _clock(said)),
        ("heat", _heat(said)),
        ("throttled", _throttled(said.get("throttled"))),
    ):
        if text:
            _row(name, str(text))
    for other in probed.others:
        if other.error is not None:
            _row("", f"{other.choice} cannot be used: {other.error}")
    if target is not None:
        _row("target", target)
    elif likely is not None:
        save = f"; write it down: edgeconv devices probe {device.name} --save-target" if written else ""
        _row("target", f"looks like {likely}{save}")


def _row(name: str, text: str, margin: str = "  ") -> None:
    click.echo(f"{margin}{name}: {plain(text)}" if name else f"{margin}{plain(text)}")


def _processor(said: dict[str, Any] | Any) -> str:
    processor = said.get("processor") or {}
    parts = []
    for cluster in processor.get("clusters") or []:
        speed = f" at {cluster['max_mhz'] / 1000:.3g} GHz" if cluster.get("max_mhz") else ""
        parts.append(f"{len(cluster['cores'])} × {cluster.get('cpu') or said.get('machine')}{speed}")
    usable, cores = said.get("usable_cores"), processor.get("cores")
    few = f", {usable} of {cores} cores may be used" if usable and cores and usable < cores else ""
    return " + ".join(parts) + few


def _memory(memory: dict[str, Any]) -> str:
    if not memory.get("total"):
        return ""
    text = _gigabytes(memory["total"])
    if memory.get("available") is not None:
        text += f", {_gigabytes(memory['available'])} available"
    return text + (f", swap {_gigabytes(memory['swap'])}" if memory.get("swap") else ", no swap")


def _disk(disk: dict[str, Any]) -> str:
    return f"{_gigabytes(disk['free'])} free for {disk['store']}" if disk.get("free") is not None else ""


def _system(said: Any) -> str:
    system = (said.get("system") or {}).get("name")
    bits = ""
    if said.get("userland_bits") != said.get("kernel_bits"):
        bits = f" ({said.get('userland_bits')}-bit programs on a {said.get('kernel_bits')}-bit kernel)"
    return ", ".join(filter(None, [system, f"Linux {said.get('kernel')} {said.get('machine')}{bits}"]))


def _libraries(said: Any) -> list[str]:
    cxx = said.get("glibcxx")
    return [text for text in (said.get("libc"), f"GLIBCXX {cxx}" if cxx else None) if text]


def _python(said: Any) -> str:
    python = said.get("python") or {}
    numpy = f"numpy {said['numpy']}" if said.get("numpy") else "no numpy"
    pip = "" if python.get("pip") else ", no pip"
    return f"{python.get('version')} ({python.get('path')}), {numpy}{pip}"


def _runtimes(probed: Probed) -> list[str]:
    """Each runtime with all of its versions, that of the device's own Python first."""
    versions: dict[str, list[str]] = {}
    own = [(name, version) for name, version in (probed.said.get("runtimes") or {}).items() if version]
    for name, version in [*own, *((each.choice.name, each.version) for each in probed.others)]:
        if version and version not in versions.setdefault(name, []):
            versions[name].append(version)
    return [f"{name} {' '.join(each)}" for name, each in versions.items() if each]


def _jetson(jetson: dict[str, Any] | None) -> str:
    if not jetson:
        return ""
    kit = f"JetPack {jetson['jetpack']}, " if jetson.get("jetpack") else ""
    mode = f", power mode {jetson['power_mode']}" if jetson.get("power_mode") else ""
    return f"{kit}L4T {jetson.get('l4t')}{mode}"


def _clock(said: Any) -> str:
    clusters = (said.get("processor") or {}).get("clusters") or []
    governors = list(dict.fromkeys(c["governor"] for c in clusters if c.get("governor")))
    mhz = (said.get("sensors") or {}).get("mhz") or []
    now = f"{min(mhz):.0f} to {max(mhz):.0f} MHz now" if mhz and min(mhz) < max(mhz) else ""
    now = now or (f"{mhz[0]:.0f} MHz now" if mhz else "")
    return ", ".join(filter(None, [now, f"governor {' and '.join(governors)}" if governors else ""]))


def _heat(said: Any) -> str:
    celsius = (said.get("sensors") or {}).get("celsius") or {}
    return ", ".join(f"{name} {value:.0f} °C" for name, value in celsius.items())


def _throttled(throttled: dict[str, Any] | None) -> str:
    if throttled is None:
        return ""
    now, since = throttled.get("now") or [], throttled.get("since start") or []
    if not now and not since:
        return "no, and never since its start"
    return f"{', '.join(now) or 'not now'}; since its start: {', '.join(since) or 'never'}"


def _gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
