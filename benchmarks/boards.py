"""What emulated ARM boards compute, against x86 with the same runtime in the same version.

    python benchmarks/boards.py                     # writes docs/boards.md; some minutes
    python benchmarks/boards.py --work /tmp/boards  # keeps boards, environments and artifacts for the next time

Takes the demo's model and three models of the corpus to TFLite and ONNX in every precision, for boards with old
runtimes too (``--target``), builds the boards from nothing, and runs every artifact on every board with every
runtime there. The other side is this machine: its own runtimes, or side environments of those versions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
BOARDS = ("rpi4-emulated", "rpi3-32-emulated")
PRECISIONS = ("tflite:fp32", "tflite:fp16", "tflite:dynamic", "tflite:int8", "onnx:fp32", "onnx:int8")
TARGETS = "rpi3-32,rpi4"
ROWS = 4
"""Inferences of each artifact, each on other values."""


@dataclass(frozen=True)
class Model:
    """A model and what it is fed.

    Attributes:
        title: in the table.
        path: below the project, or below the corpus.
        name: of its input.
        shape: of one sample.
        low, high: of the values, drawn evenly.
        flags: what else the conversion is told.
    """

    title: str
    path: str
    name: str
    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0
    flags: tuple[str, ...] = ()


MODELS = (
    Model("digits, the demo's (checkpoint)", "build/demo/digits.ckpt", "image", (8, 8, 1)),
    Model(
        "keyword spotting, DS-CNN (SavedModel)",
        "sm-mlperftiny/kws/kws_ref_model",
        "input_1",
        (49, 10, 1),
        -4,
        4,
    ),
    Model(
        "emotions, mini XCEPTION (Keras 2.0)",
        "k-face-emotion/fer2013_mini_XCEPTION.102-0.66.hdf5",
        "input_1",
        (64, 64, 1),
        -1,
        1,
    ),
    Model(
        "handwriting, LeNet-5 (frozen graph)",
        "ckpt1-lenet5-tftrt/model/frozen_model.pb",
        "input_tensor_input",
        (28, 28, 1),
    ),
)


@dataclass(frozen=True)
class Result:
    """One artifact with one runtime on one board; numbers are the worst of all outputs and rows.

    Attributes:
        max_relative: largest difference, relative to the largest magnitude of that output.
        unequal: share of values that are not equal.
        steps: largest difference in steps of the output's quantization, as its values show it.
        error: what the runtime said where it refused; then there are no numbers.
    """

    model: str
    precision: str
    board: str
    runtime: str
    max_relative: float = 0.0
    unequal: float = 0.0
    steps: float = 0.0
    error: str = ""


def main() -> None:
    """Build, convert, run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--work", type=Path, help="a folder that is kept")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "boards.md")
    parser.add_argument("--raw", type=Path, default=ROOT / "benchmarks" / "results" / "boards.json")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="edgeconv-boards."))
    work.mkdir(parents=True, exist_ok=True)
    os.environ["EDGECONV_CACHE_DIR"] = str(work / "cache")
    try:
        built = {name: build(name) for name in BOARDS}
        environments()
        results = [asdict(result) for result in run(list(artifacts(arguments.corpus, work)))]
    finally:
        if arguments.work is None:
            shutil.rmtree(work, ignore_errors=True)
    found = {"boards": built, "results": results, "load": os.getloadavg()[2], "cores": os.cpu_count()}
    arguments.raw.write_text(json.dumps(found, indent=1) + "\n")
    arguments.page.write_text(page(found))


def build(name: str) -> dict[str, Any]:
    """Make a board of nothing, without any cache, use it again, and say what each took in seconds."""
    from edgeconv.devices import _userland, emulated
    from edgeconv.devices.client import AgentClient

    emulated.remove(name)
    began = time.perf_counter()
    device = emulated.create(name, lambda text: print(f"{name}: {text}", flush=True), cached=False)
    took = time.perf_counter() - began
    again = []
    for _ in range(5):
        began = time.perf_counter()
        with AgentClient(emulated.create(name)):
            again.append(time.perf_counter() - began)
    built = _userland.required(device.board)
    return {
        "seconds": took,
        "again_seconds": float(np.median(again)),
        "megabytes": built.stamp["bytes"] / 1e6,
        "packages": len(built.stamp["packages"]),
        "python": built.stamp["python"],
        "qemu": built.stamp["qemu"],
        "cpu": built.board.qemu_cpu,
        "suite": built.board.userland.suite,
        "runtimes": [runtime.id for runtime in built.board.userland.runtimes],
    }


def environments() -> None:
    """The versions of runtimes that a board has and this Python has not, in side environments."""
    from edgeconv.devices.local import LocalDevice
    from edgeconv.environments import store
    from edgeconv.environments.specs import find_spec
    from edgeconv.errors import UnavailableError

    for choice in choices():
        try:
            LocalDevice().start(choice)
        except UnavailableError:
            distribution = {"litert": "ai-edge-litert"}.get(choice.name, choice.name)
            store.create(find_spec(f"{distribution}=={choice.version}"), say=print)


def choices() -> list[Any]:
    """Every runtime of every board, once."""
    from edgeconv.devices._emulated_boards import find_board
    from edgeconv.devices.base import RuntimeChoice

    found = [
        RuntimeChoice(runtime.name, runtime.version)
        for name in BOARDS
        for runtime in find_board(name).userland.runtimes
    ]
    return list(dict.fromkeys(found))


def artifacts(corpus: Path, work: Path) -> Iterator[tuple[Model, str, Path]]:
    """Every model in every precision, with the one that made it: ``(model, precision, file)``."""
    for model in MODELS:
        path = (ROOT if model.path.startswith("build/") else corpus) / model.path
        if model.path.startswith("build/") and not path.with_suffix(".ckpt.index").exists():
            train()
        folder = work / "artifacts" / path.name
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "samples.npz", **{model.name: samples(model, 32)})
        command = [sys.executable, "-m", "edgeconv", "convert", str(path), "--to", ",".join(PRECISIONS)]
        command += [
            "--target",
            TARGETS,
            "--calibration",
            str(folder / "samples.npz"),
            "-o",
            str(folder / "out"),
        ]
        if model.path.startswith("build/"):
            builder = ROOT / "examples" / "digits" / "model.py"
            command += ["--model-builder", f"{builder}:build", "--trust"]
        subprocess.run([*command, *model.flags, "--quiet"], stdout=subprocess.DEVNULL)
        manifest = json.loads((folder / "out" / "manifest.json").read_text())
        made = {f"{each['format']}:{each['precision']}": each for each in manifest["artifacts"]}
        for precision in PRECISIONS:
            if precision in made:
                yield model, precision, folder / "out" / made[precision]["path"]
            else:
                print(f"{model.title}: no {precision}", flush=True)


def train() -> None:
    """Train the demo's model."""
    subprocess.run([sys.executable, str(ROOT / "examples" / "digits" / "demo.py")], check=True, cwd=ROOT)


def samples(model: Model, count: int) -> Any:
    """Seeded inputs, [count, *shape] float32."""
    return np.random.default_rng(0).uniform(model.low, model.high, (count, *model.shape)).astype(np.float32)


def run(made: list[tuple[Model, str, Path]]) -> Iterator[Result]:
    """Every artifact on every board with every runtime there, each held to this machine's."""
    from edgeconv.devices.local import LocalDevice

    here: dict[Any, dict[str, Any]] = {}
    for choice in choices():
        here[choice] = outputs(LocalDevice(), choice, made)
    for name in BOARDS:
        from edgeconv.devices.emulated import EmulatedDevice, find_board

        device = EmulatedDevice(find_board(name))
        for choice in device.runtimes():
            there = outputs(device, choice, made)
            for model, precision, path in made:
                if str(path) in there:
                    result = judged(here[choice][str(path)], there[str(path)])
                    print(model.title, precision, name, choice, result, flush=True)
                    yield Result(model.title, precision, name, str(choice), **result)


def outputs(device: Any, choice: Any, made: list[tuple[Model, str, Path]]) -> dict[str, Any]:
    """Outputs of all artifacts that the runtime opens, ``[row][output]`` by file; or what it said instead."""
    from edgeconv.devices.client import AgentClient
    from edgeconv.errors import EdgeconvError

    format_name = "onnx" if choice.name == "onnxruntime" else "tflite"
    found: dict[str, Any] = {}
    with AgentClient(device, choice) as client:
        for model, precision, path in made:
            if not precision.startswith(format_name):
                continue
            try:
                opened = client.open(choice.name, format_name, path)
                values = samples(model, ROWS)
                (wanted,) = opened.inputs
                found[str(path)] = [
                    client.ask("infer", {"model": opened.number}, [(wanted["name"], row[None])], silence=600)[
                        1
                    ]
                    for row in values
                ]
                client.close_model(opened)
            except EdgeconvError as error:
                found[str(path)] = str(error)
    return found


def judged(here: Any, there: Any) -> dict[str, Any]:
    """How far two runs are apart."""
    if isinstance(there, str) or isinstance(here, str):
        both = isinstance(there, str) and isinstance(here, str)
        return {"error": f"{'on x86 too: ' if both else ''}{there if isinstance(there, str) else here}"}
    relative = unequal = steps = 0.0
    for mine, theirs in zip(here, there, strict=True):
        for (name, a), (other, b) in zip(mine, theirs, strict=True):
            assert name == other
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            apart = np.abs(a - b)
            relative = max(relative, float(apart.max()) / max(float(np.abs(a).max()), 1e-30))
            unequal = max(unequal, float((apart > 0).mean()))
            steps = max(steps, float(apart.max()) / step_of(np.concatenate([a.ravel(), b.ravel()])))
    return {"max_relative": relative, "unequal": unequal, "steps": round(steps, 2)}


def step_of(values: Any) -> float:
    """The step of quantization that values lie on; infinite where they lie on none, as behind a float softmax."""
    gaps = np.diff(np.unique(values))
    step = float(gaps.min()) if gaps.size else 1.0
    return step if np.abs(values / step - np.round(values / step)).max() < 0.01 else float("inf")


def page(found: Mapping[str, Any]) -> str:
    """The whole page, as Markdown."""
    boards: Mapping[str, Any] = found["boards"]
    lines = [
        "# What emulated boards compute",
        "",
        "*I have no board, and want to know what an emulated one is good for:* it tells whether an artifact loads on ARM and what it",
        "computes there, by the tables below, and never how fast. To make one: `edgeconv devices create rpi4-emulated`.",
        "",
        "Made by `python benchmarks/boards.py`; the raw results are in `benchmarks/results/boards.json`. What boards",
        "are and how they are made: [devices](devices.md).",
        "",
        "## Building them",
        "",
        f"From nothing, without any cache, on {found['cores']} cores with a load of {found['load']:.1f} by others.",
        "*Used again* is from the call until the agent answers under the board's Python, the check of all its",
        "files included.",
        "",
        "| board | system | processor | packages | MB | seconds | used again, seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, board in boards.items():
        lines.append(
            f"| {name} | Debian {board['suite']}, Python {board['python']} | {board['cpu']}, qemu {board['qemu']} | "
            f"{board['packages']} | {board['megabytes']:.0f} | {board['seconds']:.0f} | {board['again_seconds']:.1f} |"
        )
    lines += [
        f"| both | | | | | {sum(board['seconds'] for board in boards.values()):.0f} | |",
        "",
        "## Against x86, with the same runtime in the same version",
        "",
        f"Each artifact on {ROWS} seeded inputs. A number is the largest difference of an output on the board from",
        "the same artifact, runtime and version on x86, relative to the largest magnitude of that output; *exact* says",
        "that all values are equal, bit for bit. For int8, what is not exact is given in steps of the output's",
        "quantization as well, with the share of values that differ.",
        "",
    ]
    lines += [
        "Integers are exact wherever XNNPACK computes them. tflite-runtime 2.14.0 leaves int8 to the kernels of TFLite",
        "itself, and those round otherwise on ARM than on x86: LiteRT 2.3.0 with XNNPACK off (`accelerator=cpu`) differs",
        "there as well. The deeper a network, the more of it adds up. The 32-bit and the 64-bit board give the same",
        "integers with the same version (`tests/devices/test_emulated_outputs.py`). *in floats*: the last op, a softmax,",
        "stays in float, and it alone differs.",
        "",
    ]
    results = [Result(**each) for each in found["results"]]
    for board in boards:
        mine = [each for each in results if each.board == board]
        runtimes = list(dict.fromkeys(each.runtime for each in mine))
        lines += [f"### {board}", "", f"| model | precision | {' | '.join(runtimes)} |"]
        lines.append("| --- | --- |" + " --- |" * len(runtimes))
        for key in dict.fromkeys((each.model, each.precision) for each in mine):
            cells = {each.runtime: cell(each) for each in mine if (each.model, each.precision) == key}
            lines.append(
                f"| {key[0]} | {key[1]} | " + " | ".join(cells.get(name, "") for name in runtimes) + " |"
            )
        lines.append("")
    return "\n".join(lines + summary(results)).rstrip("\n") + "\n"


def cell(result: Result) -> str:
    """One result in few words."""
    if result.error:
        return "refused" + (", on x86 too: " if "on x86 too" in result.error else ": ") + _short(result.error)
    if not result.unequal:
        return "exact"
    if result.precision.endswith("int8"):
        # An output of 8 bits has 256 values; one of more is a float one, as behind a softmax that stays in float.
        in_steps = (
            f", {result.steps:.0f} steps" if result.steps < 256 * result.max_relative * 2 else " in floats"
        )
        return f"{result.max_relative:.1e}{in_steps}, in {result.unequal:.0%} of the values"
    return f"{result.max_relative:.1e}"


def _short(error: str) -> str:
    """The last part of an error, without where it was."""
    return error.rpartition(": ")[2].replace("|", "/").replace("\n", " ")[:90]


def summary(results: list[Result]) -> list[str]:
    """The worst of each precision."""
    lines = [
        "## The worst of each precision",
        "",
        "| precision | artifacts run | exact | largest relative difference |",
    ]
    lines.append("| --- | --- | --- | --- |")
    for precision in PRECISIONS:
        ran = [each for each in results if each.precision == precision and not each.error]
        worst = max((each.max_relative for each in ran), default=0.0)
        exact = sum(not each.unequal for each in ran)
        lines.append(f"| {precision} | {len(ran)} | {exact} | {worst:.1e} |")
    return lines


if __name__ == "__main__":
    main()
