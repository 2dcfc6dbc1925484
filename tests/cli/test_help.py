"""Help, completion and wrong calls: quick, without any heavy import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeconv.cli.main import group

COMMANDS = group.list_commands(None)  # type: ignore[arg-type]
HEAVY = (
    "tensorflow",
    "keras",
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "litert_quantizer",
    "numpy",
    "pandas",
)


def imported_by(program: str, *arguments: str) -> set[str]:
    """Top-level modules that a Python program has imported when it ends."""
    code = f"import sys, atexit\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n{program}"
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in ran.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example_and_imports_nothing_heavy(command: str) -> None:
    program = "from edgeconv.cli.main import main\nsys.argv[0] = 'edgeconv'\nmain()"
    loaded = imported_by(program, *filter(None, [command, "--help"]))
    assert "click" in loaded
    assert not loaded & set(HEAVY)
    shown = subprocess.run(
        [sys.executable, "-m", "edgeconv", *filter(None, [command, "--help"])], capture_output=True, text=True
    )
    assert shown.returncode == 0
    examples = shown.stdout.split("Examples:")[1]
    assert "edgeconv " in examples


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not imported_by("import edgeconv") & {*HEAVY, "click", "rich"}


def test_the_installed_command_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("edgeconv")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"edgeconv, version \d+\.\d+\.\d+\n", shown.stdout)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["conver"], "Did you mean 'convert'?"),
        (["convert", "m.keras", "--calibraton", "x"], "--calibration"),
        (["convert"], "Missing argument 'MODEL'"),
        (["convert", "m.keras", "--jobs", "0"], "--jobs"),
        (["convert", "m.keras", "--to", "tflight"], "did you mean 'tflite'"),
        (["convert", "m.keras", "--to", "tflite:int4"], "int"),
        (["convert", "m.keras", "--shape", "image"], "--shape NAME=1,224,224,3"),
        (["convert", "m.keras"], "m.keras: no such file or folder"),
        (["compare", "a.keras"], "Missing argument 'CANDIDATE'"),
        (["compare", "a", "b", "--map", "x"], "--map REFERENCE=CANDIDATE"),
        (["inspect", "nothing.pb"], "nothing.pb: no such file or folder"),
        (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
    ],
)
def test_a_wrong_call_exits_2_and_names_the_right_one(
    call: list[str], said: str, edgeconv: Callable[..., object]
) -> None:
    ran = edgeconv(*call)
    assert (ran.code, ran.out) == (2, "")  # type: ignore[attr-defined]
    assert said in ran.err  # type: ignore[attr-defined]
    assert "Traceback" not in ran.err  # type: ignore[attr-defined]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_names_the_command(shell: str, edgeconv: Callable[..., object]) -> None:
    ran = edgeconv("completion", shell)
    assert ran.code == 0  # type: ignore[attr-defined]
    assert f"{shell}_complete" in ran.out  # type: ignore[attr-defined]
    assert "_EDGECONV_COMPLETE" in ran.out  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("edgeconv con", "convert"),
        ("edgeconv convert --cal", "--calibration"),
        ("edgeconv completion z", "zsh"),
    ],
)
def test_bash_completes(line: str, offered: str) -> None:
    """As bash does it: the function that the script registers is called with the words typed so far."""
    words = line.split(" ")
    program = f"""
        eval "$(edgeconv completion bash)" || exit 9
        COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
        _edgeconv_completion edgeconv; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "--norc", "-c", program],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert offered in ran.stdout.split()
