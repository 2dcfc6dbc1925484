"""What goes wrong in practice ends in a clear error, and what was finished stays.

ONNX models are the sources here, so that no test waits for TensorFlow. A converter that fails, hangs or is
wrong comes from an outside package that adds an arrow by an entry point, as anyone may.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgeconv.formats.registry import file_sha256

Call = Callable[..., Any]

pytestmark = pytest.mark.slow

OUTSIDE = """
import os, shutil, time
from pathlib import Path
from edgeconv.conversions.base import Conversion
from edgeconv.errors import ConversionError


def convert(job):
    Path(os.environ["STARTED"]).write_text(str(os.getpid()))
    if "@how@" == "fails":
        raise ConversionError("no kernel for FOO", where="node/foo", why="it is made up", hint="use BAR")
    if "@how@" == "waits":
        time.sleep(120)
    if "@how@" == "fills":
        job.destination.write_bytes(bytes(64 << 20))
    if "@how@" == "errs":
        contract = job.source.contract
        from edgeconv.conversions.registry import conversion_named
        other = Path(os.environ["OTHER_MODEL"])
        import dataclasses
        wrong = dataclasses.replace(job, source=dataclasses.replace(job.source, path=other))
        return conversion_named("ort_from_onnx", "fp32", "fp32").convert(wrong)
    raise KeyError("keras_tensor_7")


CONVERSION = Conversion(
    "@target@_from_onnx_that_@how@", "onnx", "@target@", precisions=("fp32",), convert=convert, cost=0.01
)
"""


@pytest.fixture
def outside(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Installs a package whose arrow is preferred and misbehaves in one way; gives the environment for it."""

    def install(how: str, target: str = "ort") -> dict[str, str]:
        home = tmp_path / "site"
        info = home / "outside-1.0.dist-info"
        info.mkdir(parents=True)
        (home / "outside.py").write_text(OUTSIDE.replace("@how@", how).replace("@target@", target))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[edgeconv.conversions]\nours = outside:CONVERSION\n")
        path = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "STARTED": str(tmp_path / "started")}

    return install


@pytest.fixture
def net(artifacts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(artifacts / "digits.fp32.onnx", tmp_path / "net.onnx"))


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


class Running:
    """A run under way in a session of its own, as a shell would start it."""

    def __init__(self, *arguments: object, cwd: Path, env: dict[str, str], background: bool = False) -> None:
        """In the background a shell without job control starts programs that ignore SIGINT."""
        on_interrupt = signal.SIG_IGN if background else signal.SIG_DFL
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgeconv", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, on_interrupt),
        )

    def until(self, file: Path, seconds: float = 120) -> str:
        """Wait for a file that is written when a certain point is reached."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if text := file.read_text():
                    return text
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        raise TimeoutError(file)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said on standard error."""
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process], seconds: float = 10) -> bool:
    """Whether all processes have ended, within some seconds."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def half_written(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".") and p.name != ".lock"]


def test_where_the_preferred_way_fails_the_next_takes_its_place_and_the_manifest_says_so(
    net: Path, outside: Call, edgeconv: Call
) -> None:
    ran = edgeconv("convert", net, "--to", "ort", "-o", "out", env=outside("fails"))
    assert ran.code == 0, ran.all
    manifest = manifest_of(net.parent / "out")
    (artifact,) = manifest["artifacts"]
    assert artifact["conversion"] == "ort_from_onnx"
    assert artifact["gate"]["verdict"] == "pass"
    (failure,) = manifest["failures"]
    assert failure["conversion"] == "ort_from_onnx_that_fails"
    assert failure["superseded_by"] == "ort_from_onnx"
    assert failure["reason"] == "node/foo: no kernel for FOO (it is made up)"
    assert failure["hint"] == "use BAR"
    assert "ort_from_onnx took the place of ort_from_onnx_that_fails" in ran.out


def test_a_wrong_result_of_the_preferred_way_is_caught_by_its_gate_and_replaced(
    net: Path, outside: Call, edgeconv: Call, tmp_path: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(net)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(-values, tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    env = {**outside("errs"), "OTHER_MODEL": str(tmp_path / "other.onnx")}
    ran = edgeconv("convert", net, "--to", "ort", "-o", "out", "--json", env=env)
    assert ran.code == 0, ran.err
    (artifact,) = ran.json["artifacts"]
    assert (artifact["conversion"], artifact["gate"]["verdict"]) == ("ort_from_onnx", "pass")
    (failure,) = ran.json["failures"]
    assert failure["superseded_by"] == "ort_from_onnx"
    assert "output 'scores'" in failure["reason"]


def test_a_failure_leaves_log_hint_and_a_script_that_runs_and_the_rest_goes_on(
    net: Path, outside: Call, edgeconv: Call
) -> None:
    """The only way to one of two artifacts fails."""
    env = outside("fails", target="tflite")
    ran = edgeconv("convert", net, "--to", "tflite,ort,onnx:fp16", "-o", "out", env=env)
    assert ran.code == 5
    manifest = manifest_of(net.parent / "out")
    assert {a["id"] for a in manifest["artifacts"]} == {"ort.fp32", "onnx.fp16"}, "the others go on"
    (failure,) = manifest["failures"]
    assert failure["artifact"] == "tflite.fp32"
    assert failure["superseded_by"] is None
    for said in ("tflite_from_onnx_that_fails failed", failure["reason"], "→ use BAR", failure["repro"]):
        assert said in ran.out
    assert "no kernel for FOO" in (net.parent / "out" / failure["log"]).read_text()
    again = subprocess.run(
        [sys.executable, net.parent / "out" / failure["repro"]],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert again.returncode != 0
    assert "no kernel for FOO" in again.stderr, "the script repeats just that step"
    mended = edgeconv("convert", net, "--to", "ort", "-o", "out")
    assert mended.code == 0
    assert not (net.parent / "out" / "failures").exists(), "a run that went well leaves none behind"


def test_a_surprise_in_a_converter_is_a_failed_conversion_and_no_defect(
    net: Path, outside: Call, edgeconv: Call
) -> None:
    ran = edgeconv("convert", net, "--to", "ort", "-o", "out", "--json", env=outside("surprises"))
    assert ran.code == 0
    (failure,) = ran.json["failures"]
    assert "KeyError: 'keras_tensor_7'" in failure["reason"]
    log = (net.parent / "out" / failure["log"]).read_text()
    assert "Traceback" in log, "the log has what the message leaves out"
    script = net.parent / "out" / failure["repro"]
    env = {**os.environ, "PYTHONPATH": f"{net.parent / 'site'}:{os.environ.get('PYTHONPATH', '')}"}
    again = subprocess.run(
        [sys.executable, script],
        env={**env, "STARTED": str(net.parent / "again")},
        capture_output=True,
        text=True,
    )
    assert "KeyError: 'keras_tensor_7'" in again.stderr, "the script repeats just that step"


def test_a_worker_killed_from_outside_takes_nothing_else_down(net: Path, outside: Call) -> None:
    run = Running("convert", net, "--to", "ort,onnx:fp16", "-o", "out", cwd=net.parent, env=outside("waits"))
    os.kill(int(run.until(net.parent / "started")), signal.SIGKILL)
    code, err = run.end()
    assert code == 0, err
    manifest = manifest_of(net.parent / "out")
    assert {a["id"] for a in manifest["artifacts"]} == {"ort.fp32", "onnx.fp16"}
    (failure,) = manifest["failures"]
    assert "was killed (SIGKILL)" in failure["reason"]
    assert "--jobs 1" in failure["hint"]


def test_a_worker_that_hangs_is_stopped_after_its_time(net: Path, outside: Call, edgeconv: Call) -> None:
    env = outside("waits")
    ran = edgeconv("convert", net, "--to", "ort", "-o", "out", "--worker-timeout", "8", "--json", env=env)
    assert ran.code == 0, ran.err
    (failure,) = ran.json["failures"]
    assert "it took longer than 8 s" in failure["reason"]
    assert "--worker-timeout" in failure["hint"]
    assert not psutil.pid_exists(int((net.parent / "started").read_text()))


@pytest.mark.parametrize(
    ("number", "background"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
    ids=["SIGINT", "SIGTERM", "SIGTERM-in-the-background"],
)
def test_an_interrupted_run_keeps_what_was_finished_and_goes_on_from_there(
    net: Path, outside: Call, edgeconv: Call, number: signal.Signals, background: bool
) -> None:
    env = {**outside("waits"), "EDGECONV_CACHE_DIR": str(net.parent / "cache")}
    wanted = ("--to", "ort,onnx:fp16", "-o", "out")
    run = Running("convert", net, *wanted, cwd=net.parent, env=env, background=background)
    run.until(net.parent / "started")
    wait_for(net.parent / "out" / "net.fp16.onnx")
    started = time.monotonic()
    children = run.children()
    if number == signal.SIGINT:
        os.killpg(run.process.pid, number)  # as a terminal does it
    else:
        run.process.send_signal(number)
    code, err = run.end()
    assert code == 130
    assert "the same command goes on from there" in err
    assert time.monotonic() - started < 10
    assert gone(children)
    assert [a["id"] for a in manifest_of(net.parent / "out")["artifacts"]] == ["onnx.fp16"]
    assert half_written(net.parent / "out") == []
    resumed = edgeconv(
        "convert", net, "--to", "ort,onnx:fp16", "-o", "out", "--json", env={**env, "PYTHONPATH": path()}
    )
    assert resumed.code == 0
    cached = {a["id"]: a["cached"] for a in resumed.json["artifacts"]}
    assert cached == {"onnx.fp16": True, "ort.fp32": False}


def test_a_run_that_was_killed_leaves_no_process_and_nothing_half_written(
    net: Path, outside: Call, edgeconv: Call
) -> None:
    env = {**outside("waits"), "EDGECONV_CACHE_DIR": str(net.parent / "cache")}
    run = Running("convert", net, "--to", "ort,onnx:fp16", "-o", "out", cwd=net.parent, env=env)
    run.until(net.parent / "started")
    wait_for(net.parent / "out" / "net.fp16.onnx")
    children = run.children()
    assert len(children) >= 2
    run.process.kill()
    run.process.wait()
    assert gone(children)
    assert not (net.parent / "out" / "net.fp32.ort").exists()
    staging = net.parent / "cache" / "staging"
    assert list(staging.iterdir()), "the killed run could not tidy up"
    ran = edgeconv(
        "convert", net, "--to", "ort,onnx:fp16", "-o", "out", "--json", env={**env, "PYTHONPATH": path()}
    )
    assert ran.code == 0
    assert {a["id"]: a["cached"] for a in ran.json["artifacts"]} == {"onnx.fp16": True, "ort.fp32": False}
    assert list(staging.iterdir()) == []


def wait_for(file: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} never came"
        time.sleep(0.02)
    time.sleep(0.3)


def path() -> str:
    return os.environ.get("PYTHONPATH", "")


@pytest.mark.parametrize("same_folder", [True, False])
def test_two_runs_at_once_share_the_work_and_do_not_disturb_each_other(
    net: Path, edgeconv: Call, same_folder: bool
) -> None:
    env = {"EDGECONV_CACHE_DIR": str(net.parent / "cache")}
    results: list[Any] = [None, None]

    def work(index: int) -> None:
        folder = "out" if same_folder else f"out{index}"
        results[index] = edgeconv("convert", net, "--to", "ort,onnx:fp16", "-o", folder, "--json", env=env)

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.code for r in results] == [0, 0], [(r.err, r.out) for r in results]
    for index in (0, 1):
        folder = net.parent / ("out" if same_folder else f"out{index}")
        assert {a["id"] for a in manifest_of(folder)["artifacts"]} == {"ort.fp32", "onnx.fp16"}
        assert half_written(folder) == []
    made = [a["id"] for r in results for a in r.json["artifacts"] if not a["cached"]]
    assert sorted(made) == ["onnx.fp16", "ort.fp32"], "each was made by one of the two"


def test_a_changed_byte_in_the_cache_or_in_the_folder_is_noticed_and_made_good(
    net: Path, edgeconv: Call
) -> None:
    env = {"EDGECONV_CACHE_DIR": str(net.parent / "cache")}
    call = ("convert", net, "--to", "ort", "-o", "out", "--json")
    assert edgeconv(*call, env=env).code == 0
    made = net.parent / "out" / "net.fp32.ort"
    good = made.read_bytes()
    made.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert edgeconv(*call, env=env).json["artifacts"][0]["cached"]
    assert made.read_bytes() == good, "an artifact that was changed is written again"
    (entry,) = (net.parent / "cache" / "entries").glob("*/model.ort")
    entry.chmod(0o644)
    entry.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    again = edgeconv(*call, env=env)
    assert again.code == 0
    assert "was changed from outside" in again.err
    assert not again.json["artifacts"][0]["cached"]
    assert again.json["artifacts"][0]["gate"]["verdict"] == "pass"
    assert file_sha256(made) == again.json["artifacts"][0]["sha256"]


def test_an_output_folder_that_cannot_be_is_refused_before_anything_is_begun(
    net: Path, edgeconv: Call
) -> None:
    (net.parent / "taken").write_text("x")
    ran = edgeconv("convert", net, "--to", "ort", "-o", "taken")
    assert (ran.code, ran.out) == (2, "")
    assert "taken: this is a file, not a folder" in ran.err
    ran = edgeconv("convert", net, "--to", "ort", "-o", "/proc/nowhere/out")
    assert ran.code == 2
    assert "cannot be written" in ran.err
    ran = edgeconv("convert", net, "--to", "ort", env={"EDGECONV_CACHE_DIR": "/proc/nowhere"})
    assert ran.code == 2
    assert "EDGECONV_CACHE_DIR" in ran.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts file systems of a given size, where that is allowed."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting a small file system needs root, which is not given here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_under_the_output_folder_is_said_and_leaves_nothing_half_written(
    net: Path, edgeconv: Call, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("16k")
    ran = edgeconv("convert", net, "--to", "ort,onnx:fp16", "-o", disk / "out")
    assert ran.code == 5
    assert "no space left on the disk" in ran.err
    assert "-o" in ran.err
    assert "Traceback" not in ran.err
    assert half_written(disk / "out") == []
    for artifact in (disk / "out").glob("net.*"):
        assert edgeconv("inspect", artifact).code == 0, f"{artifact.name} is half-written"
    enough = edgeconv("convert", net, "--to", "ort,onnx:fp16", "-o", "elsewhere")
    assert enough.code == 0


@pytest.mark.parametrize("size", ["24k", "56k"])
def test_a_full_disk_under_the_cache_is_said(
    net: Path, edgeconv: Call, small_disk: Callable[[str], Path], size: str
) -> None:
    disk = small_disk(size)
    env = {"EDGECONV_CACHE_DIR": str(disk / "cache")}
    ran = edgeconv("convert", net, "--to", "ort,onnx:fp16", "-o", "out", env=env)
    assert ran.code == 5
    assert "no space left on the disk" in ran.all
    assert "EDGECONV_CACHE_DIR" in ran.all
    assert "Traceback" not in ran.all
    for artifact in (net.parent / "out").glob("net.*"):
        assert edgeconv("inspect", artifact).code == 0


def test_a_converter_that_fills_the_disk_is_told_from_one_that_fails(
    net: Path, outside: Call, edgeconv: Call, small_disk: Callable[[str], Path]
) -> None:
    env = {**outside("fills"), "EDGECONV_CACHE_DIR": str(small_disk("2m") / "cache")}
    # One worker: what runs beside the one that fills the disk would find it full as well.
    ran = edgeconv("convert", net, "--to", "ort", "-o", "out", "--jobs", 1, "--json", env=env)
    assert "no space left on the disk" in ran.json["failures"][0]["reason"]
    assert ran.code == 0, f"the next way needs less: {ran.all}"


def broken(folder: Path, artifacts: Path, digits: Path) -> dict[str, Path]:
    """A truncated or corrupt model of each format."""
    found: dict[str, Path] = {}
    for name in ("digits.keras", "digits.h5"):
        found[name] = folder / name
        found[name].write_bytes((digits / name).read_bytes()[:-2000])
    for suffix in ("pb", "tflite", "onnx", "ort"):
        found[suffix] = folder / f"short.{suffix}"
        found[suffix].write_bytes((artifacts / f"digits.fp32.{suffix}").read_bytes()[:-1500])
    text = folder / "short.pbtxt"
    text.write_text('node {\n  name: "x"\n  op: "Placeholder"\n  attr {\n    key: "dtype"\n')
    found["pbtxt"] = text
    variables = {
        "graph": Path("saved_model.pb"),
        "index": Path("variables/variables.index"),
        "shard": Path("variables/variables.data-00000-of-00001"),
    }
    for part, inside in variables.items():
        copy = Path(shutil.copytree(digits / "digits_saved_model", folder / f"saved_model_{part}"))
        content = (copy / inside).read_bytes()
        (copy / inside).write_bytes(content[: len(content) // 2])
        found[f"saved_model {part}"] = copy
    run = Path(shutil.copytree(digits / "run", folder / "run"))
    shard = run / "ckpt-1.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:100])
    found["checkpoint"] = run / "ckpt-1"
    pointer = folder / "pointer.tflite"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    found["LFS pointer"] = pointer
    found["empty"] = folder / "empty.onnx"
    found["empty"].touch()
    found["text"] = folder / "notes.txt"
    found["text"].write_text("a few words")
    found["nothing"] = folder / "nothing.keras"
    return found


def test_a_broken_model_of_each_format_gets_one_clear_line(
    artifacts: Path, digits: Path, tmp_path: Path
) -> None:
    """In this process, through the same code, as fifteen processes would take a minute."""
    import edgeconv
    from edgeconv.errors import UsageError

    for name, path in broken(tmp_path, artifacts, digits).items():
        for call in (edgeconv.inspect, lambda p: edgeconv.convert(p, "tflite", output=tmp_path / "out")):
            with pytest.raises(UsageError) as caught:
                call(path)
            error = caught.value
            assert error.exit_code == 2, name
            assert str(path) in str(error.where), name
            assert "\n" not in str(error), name
            assert error.hint, name
    assert not (tmp_path / "out").exists()


def test_the_command_line_says_it_in_one_line_and_a_hint(
    edgeconv: Call, artifacts: Path, tmp_path: Path
) -> None:
    (tmp_path / "short.tflite").write_bytes((artifacts / "digits.fp32.tflite").read_bytes()[:5000])
    ran = edgeconv("convert", "short.tflite")
    assert (ran.code, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith("error: short.tflite: the TFLite model is truncated")
    assert second.startswith("  → ")


def test_weights_with_flipped_bytes_never_pass(digits: Path, edgeconv: Call, tmp_path: Path) -> None:
    """Of the right length, so that only the checksums tell."""
    model = Path(shutil.copytree(digits / "digits_saved_model", tmp_path / "flipped"))
    shard = model / "variables" / "variables.data-00000-of-00001"
    content = bytearray(shard.read_bytes())
    for place in range(0, len(content), 64):
        content[place] ^= 0xFF
    shard.write_bytes(bytes(content))
    ran = edgeconv("convert", model, "--to", "frozen_graph", "-o", "out")
    assert ran.code in (1, 2, 5)
    assert "hecksum" in ran.all or "orrupt" in ran.all
