"""What a person sees: a live table on a terminal, plain lines elsewhere, no name that steers anything."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgeconv.cli import description_page, tables
from edgeconv.cli import progress as progress_module
from edgeconv.cli.options import plain
from edgeconv.cli.progress import progress
from edgeconv.execution.events import Event
from edgeconv.execution.manifest import Manifest
from edgeconv.formats.base import Candidate, Description, Finding, Signature, TensorSpec

RECORD = {
    "id": "tflite.int16x8",
    "format": "tflite",
    "precision": "int16x8",
    "path": "network.int16x8.tflite",
    "sha256": "0",
    "bytes": 1_234_567,
    "from": "saved_model.fp32",
    "conversion": "x",
    "contract": {},
    "seconds": 12.3,
    "peak_rss_bytes": 1_234e6,
    "gate": {"verdict": "pass", "reference": "saved_model.fp32"},
}
NASTY = "[red]x[/] [link=file:///etc]\x1b[2J\x07\r\u202e"


def on_a_terminal(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and all that a command writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    full = {**os.environ, "TERM": "xterm-256color", **(env or {})}
    full.pop("COLUMNS", None)
    process = subprocess.Popen(command, cwd=cwd, env=full, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = bytearray()
    end = time.monotonic() + 200
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
        elif process.poll() is not None:
            break
    os.close(ours)
    return process.wait(timeout=30), seen.decode(errors="replace")


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.slow
def test_on_a_terminal_a_run_is_a_live_table_that_leaves_only_the_result(
    artifacts: Path, tmp_path: Path
) -> None:
    env = {"EDGECONV_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "edgeconv", "convert", str(artifacts / "digits.fp32.onnx")]
    code, seen = on_a_terminal([*command, "--to", "ort,onnx:fp16", "-o", "out"], tmp_path, env)
    assert code == 0
    assert "\x1b[?25l" in seen, "the cursor is hidden while the table is redrawn"
    assert "\x1b[?25h" in seen, "and shown again"
    assert "\x1b[2K" in seen, "lines are erased and drawn again"
    text = without_colours(seen)
    assert re.search(r"ort\.fp32 +. convert [0-9]+ s", text), "a step under way shows its seconds"
    result = text[text.rindex("artifact ") :]
    assert "digits.fp32.fp32.ort" in result
    assert "pass" in result
    assert "out/, with manifest.json" in result


@pytest.mark.slow
def test_elsewhere_it_is_a_line_a_step_without_colours(
    artifacts: Path, edgeconv: Callable[..., Any], tmp_path: Path
) -> None:
    env = {"EDGECONV_CACHE_DIR": str(tmp_path / "cache")}
    ran = edgeconv("convert", artifacts / "digits.fp32.onnx", "--to", "ort", "-o", "out", env=env)
    assert ran.code == 0
    assert "\x1b" not in ran.all
    lines = [re.split(r"\s{2,}|(?<=\w) +(?=\w)", line.strip())[:3] for line in ran.err.splitlines()]
    assert ["done", "convert", "ort.fp32"] in lines
    assert ["done", "gate", "ort.fp32"] in lines
    verbose = edgeconv("convert", artifacts / "digits.fp32.onnx", "--to", "ort", "-o", "out", "-v", env=env)
    assert "cached   convert  ort.fp32" in verbose.err


def test_an_error_on_a_terminal_is_coloured_and_short(tmp_path: Path) -> None:
    code, seen = on_a_terminal([sys.executable, "-m", "edgeconv", "inspect", "nothing.keras"], tmp_path)
    assert code == 2
    assert "\x1b[31m" in seen
    assert without_colours(seen).splitlines() == [
        "error: nothing.keras: no such file or folder",
        "  → check the path",
    ]


def test_a_long_error_on_a_terminal_is_broken_between_words_and_its_way_out_is_whole(tmp_path: Path) -> None:
    name = "a_folder_with_a_long_name/" * 4 + "model.ckpt-68577"
    code, seen = on_a_terminal([sys.executable, "-m", "edgeconv", "inspect", name], tmp_path)
    assert code == 2
    lines = without_colours(seen).splitlines()
    assert lines[0] == "error:"
    assert lines[1].strip() == f"{name}:"  # the terminal goes on with it on the next line: it can be copied
    assert lines[-1] == "  → check the path"


def test_a_training_checkpoint_is_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What optimisers remember is counted, unlikely candidates too, and what is said of many is said once."""
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, no_color=True)
    monkeypatch.setattr(tables, "console_for_tables", lambda: console)
    names = [f"block{n}/convolution{n}/BatchNorm/moving_variance" for n in range(40)]
    stored = [*names, *(f"{name}/{slot}" for name in names for slot in ("Adam", "Adam_1"))]
    tensor = TensorSpec("block9/convolution9/BatchNorm/moments", "float32", (1,))
    doubtful = [Candidate("output", tensor, "Mul", 0.15, ("no input's values reach it",))] * 30
    hint = "'edgeconv convert' takes dropout out; " + "and so on " * 20 + "--last-word"
    description = Description(
        format="checkpoint",
        path="run/model.ckpt",
        bytes=1,
        candidates=(Candidate("output", tensor, "Relu", 0.9, ("nothing takes it",)), *doubtful),
        metadata={"variables": [{"name": name, "dtype": "float32", "shape": [1]} for name in stored]},
        findings=tuple(Finding("live-dropout", f"dropout {name}", hint=hint) for name in names),
    )

    description_page.print_description(description, all_ops=False, verbose=False)

    seen = without_colours(stream.getvalue())
    assert len(seen.splitlines()) < 60
    assert all(len(line.rstrip()) <= 80 for line in seen.splitlines())
    assert "and 20 more and 80 of optimisers, which -v lists" in seen
    assert "and 30 less likely outputs, which -v lists" in seen
    assert tensor.name in seen
    assert names[0] in seen
    assert "36 more of that kind" in seen
    assert seen.count("--last-word") == 1

    stream.truncate(0)
    description_page.print_description(description, all_ops=False, verbose=True)
    seen = without_colours(stream.getvalue())
    assert seen.count("Adam_1") == 40
    assert seen.count("no input's values reach it") == 30


def test_a_long_note_loses_its_middle_and_not_what_to_do(screen: io.StringIO) -> None:
    note = "left as it is: " + ", ".join(f"layer{n}" for n in range(90)) + "; name one with --outputs NAME"
    manifest = Manifest.model_validate(
        {"source": {"path": "m", "format": "onnx", "sha256": "0", "notes": [note]}, "artifacts": [RECORD]}
    )
    tables.print_manifest(manifest, Path("out"), quiet=False)
    seen = " ".join(without_colours(screen.getvalue()).split())
    assert "left as it is: layer0," in seen
    assert "layer50" not in seen
    assert seen.endswith("name one with --outputs NAME (-v shows all)")


def test_a_reader_that_goes_away_is_no_error(artifacts: Path) -> None:
    command = f"{sys.executable} -m edgeconv inspect {artifacts / 'digits.fp32.onnx'} --json"
    ran = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1"], capture_output=True, text=True
    )
    assert ran.stdout == "{"
    assert ran.stderr == ""


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What tables print, as on a terminal that shows colours."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    monkeypatch.setattr(tables, "console_for_tables", lambda: console)
    monkeypatch.setattr(progress_module, "Console", lambda **_: console)
    return stream


def assert_harmless(text: str) -> None:
    assert "[red]x[/]" in text, "the name is shown as it is"
    assert "\\x1b[2J" in text
    for character in "\x07\u202e":  # a live table moves the cursor itself
        assert character not in text
    assert "\x1b[2J" not in text.replace("\\x1b[2J", "")
    assert "\x1b]8" not in text, "no link was made of it"


def test_names_from_a_model_are_shown_and_do_nothing(screen: io.StringIO) -> None:
    spec = TensorSpec(NASTY, "float32", (1, None), tensor=f"{NASTY}:0")
    description = Description(
        format="onnx",
        path=f"/models/{NASTY}",
        bytes=1,
        producer=NASTY,
        signatures=(Signature(NASTY, (spec,), (spec,)),),
        candidates=(Candidate("input", spec, "Placeholder", 0.5, (NASTY,)),),
        ops={NASTY: 3},
        metadata={"doc": NASTY},
        findings=(Finding("code", NASTY, where=NASTY, hint=NASTY),),
    )
    description_page.print_description(description, all_ops=True, verbose=True)
    assert_harmless(screen.getvalue())


def test_names_in_a_manifest_and_in_progress_do_nothing(screen: io.StringIO) -> None:
    output = {"name": NASTY, "reference_name": NASTY, "verdict": "fail", "reason": NASTY}
    gate = {"verdict": "fail", "reference": "source", "outputs": [output], "reason": NASTY, "hint": NASTY}
    record = {
        "id": "ort.fp32",
        "format": "ort",
        "precision": "fp32",
        "path": "m.ort",
        "sha256": "0",
        "bytes": 1,
        "from": "source",
        "conversion": "x",
        "contract": {},
        "seconds": 1,
        "peak_rss_bytes": 1,
        "notes": [NASTY],
        "gate": gate,
    }
    failure = {"conversion": "x", "artifact": "tflite.fp32", "reason": NASTY, "hint": NASTY}
    source = {"path": NASTY, "format": "onnx", "sha256": "0"}
    manifest = Manifest.model_validate({"source": source, "artifacts": [record], "failures": [failure]})
    tables.print_manifest(manifest, Path("out"), quiet=False)
    with progress(quiet=False, verbose=True) as listener:
        listener(Event("note", text=NASTY))
        listener(Event("failed", "ort.fp32", "convert", NASTY))
    assert_harmless(screen.getvalue())


@given(st.text())
def test_whatever_is_shown_is_printable(text: str) -> None:
    shown = plain(text)
    assert all(character == "\n" or character.isprintable() for character in shown)
    assert plain(shown) == shown


@pytest.mark.parametrize("width", [70, 200])
def test_names_of_files_and_numbers_are_whole_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(tables, "console_for_tables", lambda: Console(file=stream, width=width))
    source = {"path": "network.keras", "format": "keras", "sha256": "0"}
    manifest = Manifest.model_validate({"source": source, "artifacts": [RECORD]})
    tables.print_manifest(manifest, Path("out"), quiet=False)
    row = stream.getvalue().splitlines()[1]
    for shown in ("network.int16x8.tflite", "1.2 MB", "pass", "12.3", "1,234"):
        assert shown in row
