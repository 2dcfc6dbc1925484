"""``edgeconv devices``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeconv.cli.options import common, example, plain, print_json

if TYPE_CHECKING:
    from edgeconv.devices.base import Device


@click.group(
    "devices",
    epilog=example(
        "edgeconv devices list",
        "edgeconv devices add pi4 ssh pi@192.168.1.20",
        "edgeconv devices probe pi4",
        "edgeconv devices create rpi4-emulated",
        "edgeconv devices clean pi4",
    ),
)
def command() -> None:
    """Where artifacts run: this machine, emulated boards, boards over SSH.

    Nothing needs to be on a board but an SSH server and Python. Your own ssh configuration, keys and known
    hosts hold.
    """


@command.command("list", epilog=example("edgeconv devices list", "edgeconv devices list --probe --json"))
@click.option("--probe", "ask", is_flag=True, help="Ask each of them; exits with 4 if one does not answer.")
@common
def list_(ask: bool, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Which devices there are."""
    from edgeconv.cli.device_lines import error_fields, list_lines, probed_fields
    from edgeconv.devices.probing import Probed, probe_all
    from edgeconv.devices.registry import all_devices, target_of

    devices, wrong = all_devices()
    answers = probe_all(devices) if ask else [None] * len(devices)
    broken = [*wrong, *(each for each in answers if each is not None and not isinstance(each, Probed))]
    if as_json:
        rows = []
        for device, answer in zip(devices, answers, strict=True):
            row = {**_fields(device), "target": target_of(device)}
            if isinstance(answer, Probed):
                row["probe"] = probed_fields(answer)
            elif answer is not None:
                row["error"] = error_fields(answer)
            rows.append(row)
        print_json({"devices": rows, "errors": [error_fields(error) for error in wrong]})
    else:
        list_lines(devices, answers, wrong, quiet=quiet)
    return 4 if broken else 0


@command.command("show", epilog=example("edgeconv devices show pi4"))
@click.argument("name")
@common
def show(name: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """What the settings say of the device NAME; asks nothing of it."""
    from edgeconv.devices.registry import find_device, target_of
    from edgeconv.devices.settings import settings_file, written_down

    device = find_device(name)
    settings = written_down().get(name, {})
    runtimes = [str(each) for each in device.runtimes()]
    if as_json:
        said = {**_fields(device), "target": target_of(device), "runtimes": runtimes, "settings": settings}
        print_json(said)
    elif not quiet:
        click.echo(f"{device.name}: {plain(device.about)}")
        for key, value in settings.items():
            click.echo(f"  {plain(f'{key}: {value}')}")
        if "target" not in settings and target_of(device):
            click.echo(f"  target: {plain(str(target_of(device)))}")
        if runtimes and "runtimes" not in settings:
            click.echo(f"  runtimes: {', '.join(runtimes)}")
        if settings:
            click.echo(f"  in {settings_file()}")
    return 0


@command.command(
    "add",
    epilog=example(
        "edgeconv devices add pi4 ssh pi@192.168.1.20",
        "edgeconv devices add pi4 ssh pi4-in-my-ssh-config --target rpi4",
        "edgeconv devices add pi4 ssh pi@pi4.local --runtime 'tflite-runtime=~/venv'",
    ),
)
@click.argument("name")
@click.argument("kind", type=click.Choice(["ssh"]))
@click.argument("host")
@click.option("--port", type=int, help="Port of the SSH server, where ssh does not know it.")
@click.option("--identity", metavar="FILE", help="File of the key, where ssh does not know it.")
@click.option("--python", metavar="PATH", help="Python there; by default the first one on its PATH.")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    metavar="RUNTIME=PATH",
    help="The Python or virtual environment there that has this runtime (repeatable).",
)
@click.option("--store", metavar="FOLDER", help="Folder there for what is sent.")
@click.option("--target", metavar="TARGET", help="The target that it is, for 'edgeconv check'.")
@common
def add(
    name: str,
    kind: str,
    host: str,
    port: int | None,
    identity: str | None,
    python: str | None,
    runtimes: tuple[str, ...],
    store: str | None,
    target: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Write down a board: NAME is yours to choose, KIND is ssh, HOST is USER@HOST or what ssh knows."""
    from edgeconv.devices import settings
    from edgeconv.devices.registry import all_devices, kinds
    from edgeconv.errors import UsageError

    given: dict[str, Any] = {"host": host, "port": port, "identity": identity, "python": python}
    given |= {"runtimes": dict(map(_runtime, runtimes)) or None, "store": store, "target": target}
    kept = {key: value for key, value in given.items() if value is not None}
    kinds()[kind].from_settings(name, kept, settings.settings_file())
    if target is not None:
        from edgeconv.targets.loading import find_place

        find_place(target)
    if name in {device.name for device in all_devices()[0]} - settings.written_down().keys():
        raise UsageError(f"'{name}' is there already by itself", hint="choose another name")
    path = settings.add(name, {"kind": kind, **kept})
    if as_json:
        print_json({"name": name, "settings": {"kind": kind, **kept}, "path": str(path)})
    elif not quiet:
        click.echo(f"added {name} to {path}")
        click.echo(f"  see what it is: edgeconv devices probe {name}")
    return 0


@command.command("probe", epilog=example("edgeconv devices probe pi4", "edgeconv devices probe pi4 --json"))
@click.argument("name")
@click.option("--save-target", is_flag=True, help="Write down the target that it looks like.")
@common
def probe(name: str, save_target: bool, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Ask the device NAME what it is and has; exits with 4 where it does not answer."""
    from edgeconv.cli.device_lines import probe_lines, probed_fields
    from edgeconv.devices import probing, settings
    from edgeconv.devices.registry import find_device, target_of
    from edgeconv.errors import UsageError

    probed = probing.probe(find_device(name))
    likely = probing.likely_target(probed.said)
    written = name in settings.written_down()
    saved = save_target and written and likely is not None
    if saved:
        settings.set_value(name, "target", str(likely))
    elif save_target:
        what = (
            f"'{name}' looks like no target" if likely is None else f"'{name}' is not in your file of devices"
        )
        raise UsageError(what, hint="'edgeconv targets' lists those there are")
    target = target_of(probed.device)
    if as_json:
        print_json({**probed_fields(probed), "target": likely if saved else target, "likely_target": likely})
    elif not quiet:
        probe_lines(probed, target=likely if saved else target, likely=likely, written=written)
    return 0


@command.command(
    "create",
    epilog=example("edgeconv devices create rpi4-emulated", "edgeconv devices create rpi3-32-emulated"),
)
@click.argument("name")
@click.option(
    "--suite", help="Release of Debian, where it is not the board's own: bullseye, bookworm, trixie."
)
@click.option("--no-cache", is_flag=True, help="Fetch the runtimes anew, and not from pip's cache.")
@common
def create(
    name: str, suite: str | None, no_cache: bool, as_json: bool, quiet: bool, verbose: int, debug: bool
) -> int:
    """Make the emulated board NAME; one that is here and whole is left as it is."""
    from edgeconv.devices import emulated

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    device = emulated.create(name, say, suite=suite, cached=not no_cache)
    runtimes = [str(each) for each in device.runtimes()]
    if as_json:
        print_json({**_fields(device), "target": device.target, "runtimes": runtimes})
    elif not quiet:
        click.echo(f"{device.name}: {plain(device.about)}, with {', '.join(runtimes)}")
        click.echo(f"  prove an artifact there: edgeconv compare REFERENCE CANDIDATE --device {device.name}")
    return 0


@command.command("remove", epilog=example("edgeconv devices remove pi4"))
@click.argument("name")
@common
def remove(name: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Forget the board NAME, or remove the emulated board NAME with all that is in it."""
    from edgeconv.devices import emulated, settings
    from edgeconv.devices.registry import find_device
    from edgeconv.errors import UsageError

    # Also one whose settings are wrong can be forgotten.
    forgotten = name in settings.written_down() and settings.remove(name)
    if not forgotten:
        if find_device(name).kind != "emulated":
            raise UsageError(
                f"'{name}' is always there", hint="only what was added or created can be removed"
            )
        emulated.remove(name)
    if as_json:
        print_json({"name": name, "removed": True})
    elif not quiet:
        click.echo(f"forgot {name}; what was sent to it is still there" if forgotten else f"removed {name}")
    return 0


@command.command("clean", epilog=example("edgeconv devices clean pi4"))
@click.argument("name")
@common
def clean(name: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Remove from the device NAME all that was sent to it, the agent included."""
    from edgeconv.devices.client import AgentClient
    from edgeconv.devices.registry import find_device

    with AgentClient(find_device(name)) as client:
        freed = int(client.ask("clean")[0]["freed"])
    if as_json:
        print_json({"name": name, "freed": freed})
    elif not quiet:
        click.echo(f"{name}: gave back {freed / 1e6:.1f} MB; nothing of edgeconv is there any more")
    return 0


def _fields(device: Device) -> dict[str, Any]:
    return {"name": device.name, "kind": device.kind, "about": device.about, "emulated": device.emulated}


def _runtime(text: str) -> tuple[str, str]:
    from edgeconv.devices.base import RuntimeChoice
    from edgeconv.errors import UsageError

    name, equals, path = text.rpartition("=")
    if not equals or not path or name.endswith("="):
        raise UsageError(f"'{text}' names no runtime and Python", hint="write it like tflite-runtime=~/venv")
    return str(RuntimeChoice.parse(name)), path
