"""Two routes to one artifact, over the corpus: which takes more models, is nearer to them, costs less?

    python benchmarks/tflite_routes.py fp32|quantized|onnx [--only SUBSTRING] [--operations]
        [--precisions dynamic,int8] [--json FILE]

``fp32``: TFLite over a frozen graph, or straight from the SavedModel (each SavedModel of the corpus, each
Keras file after our own arrow, three networks of ``benchmarks/models.py``). ``quantized``: from the fp32
TFLite file by LiteRT Quantizer, or by TensorFlow's converter once more. ``onnx``: over the frozen graph, or
over the TFLite file. Each step is a worker of its own, forked from a process with the tool imported: seconds
leave imports out, peak memory does not. Every artifact is judged against the outputs of the source.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus_cases import OPERATIONS, Case, cases, format_of

from edgeconv.errors import EdgeconvError
from edgeconv.execution.stage import Limits, Stage, StageResult
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Artifact, contract_from_json, to_json

PROJECT = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("EDGECONV_CORPUS", PROJECT.parent / "shared" / "corpus"))
NETWORKS = ("MobileNetV2", "EfficientNetB0", "ResNet50")
PRECISIONS = ("fp16", "dynamic", "int8", "int16x8")
_FREEZE, _LITE = "frozen_graph_from_saved_model", "tflite_from_frozen_graph"
_SECONDS = 150.0

# Conversions from the source on; those that lead to where the source is already are left out. The number is
# how many steps at the end are the route's own: the others are there for other artifacts anyway.
ROUTES: dict[str, dict[str, tuple[tuple[str, ...], int]]] = {
    "fp32": {
        "over the frozen graph": ((_FREEZE, _LITE), 2),
        "from the SavedModel": (("tflite_from_saved_model",), 1),
    },
    "quantized": {
        "LiteRT Quantizer": ((_FREEZE, _LITE, "tflite_from_tflite"), 1),
        "TensorFlow": ((_FREEZE, _LITE), 1),
    },
    "onnx": {
        "over the frozen graph": ((_FREEZE, "onnx_from_frozen_graph"), 1),
        "over TFLite": ((_FREEZE, _LITE, "onnx_from_tflite"), 2),
    },
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the comparison: path, what is said of it beside, and samples to calibrate with, if any."""

    name: str
    path: Path
    case: Case
    calibration: Path | None = None


@dataclass
class Bench:
    """One model: what was made of it already, so that shared steps are done once."""

    model: Model
    folder: Path
    pool: WorkerPool
    plan: Any = None
    source: Artifact | None = None
    observation: Path | None = None
    made: dict[tuple[str, ...], tuple[Artifact, dict[str, Any]] | str] = field(default_factory=dict)

    async def open(self) -> None:
        """Look at the model, take a Keras file to a SavedModel, and run the source.

        Raises:
            EdgeconvError: the model is no model, or cannot be run.
        """
        from edgeconv.recipe.convert import make_plan

        self.plan = make_plan(_request(self.model, self.folder), self.folder)
        self.source = self.plan.source
        if self.source.format == "keras":
            self.source, _ = await self._convert(self.source, "saved_model_from_keras", "fp32", "keras")
        assert self.source.contract is not None
        self.observation = self.folder / "source.npz"
        await self.gate(self.source, None, self.observation)

    async def take(self, names: Sequence[str], precision: str) -> tuple[Artifact, list[dict[str, Any]]]:
        """Go along a route; what each step took.

        Raises:
            EdgeconvError: a step failed.
        """
        assert self.source is not None
        artifact, took = self.source, []
        for position, name in enumerate(names):
            if name == _FREEZE and artifact.format == "frozen_graph":
                continue
            wanted = precision if position == len(names) - 1 else "fp32"
            key = (*names[: position + 1], wanted)
            if key not in self.made:
                label = f"{len(self.made)}"
                try:
                    self.made[key] = await self._convert(artifact, name, wanted, label)
                except EdgeconvError as error:
                    self.made[key] = f"{name}: {error}"
            step = self.made[key]
            if isinstance(step, str):
                raise EdgeconvError(step)
            artifact = step[0]
            took.append(step[1])
        return artifact, took

    async def _convert(
        self, source: Artifact, name: str, precision: str, label: str
    ) -> tuple[Artifact, dict[str, Any]]:
        from edgeconv.conversions.registry import conversion_named
        from edgeconv.formats.registry import format_named

        arrow = conversion_named(name, source.precision, precision)
        scratch = self.folder / f"{label}-scratch"
        scratch.mkdir()
        target = self.folder / f"{label}{format_named(arrow.target).suffix or '.saved_model'}"
        calibration = None
        if precision in arrow.needs_calibration:
            calibration = str(self.plan.calibration(source.contract).path)
        options = {k: v for k, v in self.plan.open_options.items() if k in arrow.options}
        payload = {
            "conversion": name,
            "source": to_json(source),
            "destination": str(target),
            "precision": precision,
            "scratch": str(scratch),
            "calibration": calibration,
            "options": options,
        }
        result = await self._stage("convert", payload, arrow.preload)
        value = result.value
        contract = contract_from_json(value["contract"])
        artifact = Artifact(target, arrow.target, precision, value["sha256"], contract)
        return artifact, {
            "conversion": name,
            "seconds": round(result.seconds, 3),
            "cpu_seconds": round(value["cpu_seconds"], 3),
            "peak_mb": round(result.peak_rss_bytes / 1e6),
            "bytes": value["bytes"],
            "notes": value["notes"],
        }

    async def gate(self, artifact: Artifact, tolerance: Any, observation: Path) -> dict[str, Any]:
        """Run an artifact on the probes; judge it by the source where it is not the source."""
        from edgeconv.runtimes.registry import runtime_for

        assert self.source is not None
        assert self.source.contract is not None
        runtime = runtime_for(artifact.format)
        is_source = artifact is self.source
        payload = {
            "artifact": to_json(artifact),
            "runtime": runtime.name,
            "options": dict(self.plan.open_options) if is_source else {},
            "probes": str(self.plan.probes(self.source.contract).path),
            "reference": None if is_source else "source",
            "reference_contract": to_json(self.source.contract),
            "reference_observation": None if is_source else str(self.observation),
            "tolerance": tolerance,
            "observation": str(observation),
        }
        result = await self._stage("gate", payload, runtime.preload)
        verdict: dict[str, Any] = result.value["verdict"]
        return verdict

    async def _stage(self, call: str, payload: Mapping[str, Any], preload: tuple[str, ...]) -> StageResult:
        module = {"convert": "tflite_routes:convert", "gate": "edgeconv.comparison.stage:gate"}[call]
        stage = Stage(call, module, payload, preload, self.folder / "log")
        return await self.pool.run(stage)


def convert(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A conversion in its worker, with the CPU seconds of all its threads."""
    from edgeconv.conversions.stage import convert as work

    began = time.process_time()
    return {**work(payload), "cpu_seconds": time.process_time() - began}


async def compare(bench: Bench, pair: str, precisions: Sequence[str]) -> list[dict[str, Any]]:
    """All routes of a pair, in all precisions, for one model."""
    from edgeconv.recipe.inputs import gate_tolerances

    rows = []
    for precision in precisions:
        for route, (names, own) in ROUTES[pair].items():
            row: dict[str, Any] = {"model": bench.model.name, "precision": precision, "route": route}
            try:
                artifact, took = await bench.take(names, precision)
                row.update(_cost(took[-own:]), notes=took[-1]["notes"])
                tolerance = gate_tolerances(())[precision]
                row.update(_verdict(await bench.gate(artifact, tolerance, bench.folder / "seen.npz")))
            except EdgeconvError as error:
                row.update(outcome="failed" if "cpu_seconds" not in row else "does not run")
                row["reason"] = _clean(str(error), bench.folder)
            rows.append(row)
            print(f"{row['outcome']:12} {precision} {route}: {bench.model.name}", file=sys.stderr, flush=True)
    return rows


def _cost(took: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "seconds": round(sum(step["seconds"] for step in took), 3),
        "cpu_seconds": round(sum(step["cpu_seconds"] for step in took), 3),
        "peak_mb": max(step["peak_mb"] for step in took),
        "bytes": took[-1]["bytes"],
    }


def _verdict(verdict: Mapping[str, Any]) -> dict[str, Any]:
    outputs = verdict["outputs"]
    errors = [o["max_abs"] for o in outputs if o["max_abs"] is not None]
    ratios = [o["sqnr_db"] for o in outputs if o["sqnr_db"] is not None]
    return {
        "outcome": verdict["verdict"],
        "reason": verdict.get("reason"),
        "max_abs": max(errors, default=None),
        "sqnr_db": round(min(ratios), 1) if ratios else None,
    }


def _clean(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "…").replace(str(CORPUS), "corpus")
    text = text.replace(tempfile.gettempdir(), "…").replace(str(PROJECT), "…")
    return " ".join(text.split())[:300]


def _request(model: Model, folder: Path) -> Any:
    from edgeconv.recipe.request import ConversionRequest, parse_shapes

    values: dict[str, list[str]] = {}
    for flag, value in zip(model.case.said[::2], model.case.said[1::2], strict=True):
        values.setdefault(flag, []).append(value)

    def names(flag: str) -> tuple[str, ...]:
        return tuple(name for text in values.get(flag, []) for name in text.split(","))

    data = values.get("--data")
    return ConversionRequest(
        model.path,
        folder / "out",
        data=CORPUS / data[0] if data else None,
        calibration=model.calibration,
        shapes=parse_shapes(values.get("--shape", [])),
        inputs=names("--inputs"),
        outputs=names("--outputs"),
        signature=next(iter(values.get("--signature", [])), None),
    )


def models(pair: str, scratch: Path, operations: bool, only: str) -> Iterator[Model]:
    """The models that a pair of routes can be compared on."""
    kinds = ("saved_model", "keras") if pair == "fp32" else ("saved_model", "keras", "frozen_graph")
    for case in cases(CORPUS) if CORPUS.is_dir() else ():
        wanted = case.model.startswith(OPERATIONS) == operations
        if wanted and only in case.name and format_of(CORPUS, case) in kinds:
            yield Model(case.name, CORPUS / case.model, case)
    if not operations:
        for name in NETWORKS:
            # Quantizing them takes long, and benchmarks/quantization_routes.py does it: here only on demand.
            if only == name or (pair != "quantized" and only in name):
                yield Model(name, scratch / name, Case(name))


def _build(model: Model) -> None:
    import subprocess

    if not model.path.exists():
        script = Path(__file__).with_name("models.py")
        subprocess.run([sys.executable, script, model.name, model.path.parent], check=True)


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All models, one after another; processes with the tools imported are shared."""
    rows: list[dict[str, Any]] = []
    precisions = options.precisions.split(",") if options.pair == "quantized" else ["fp32"]
    with tempfile.TemporaryDirectory(prefix="edgeconv-routes-") as folder:
        async with WorkerPool(jobs=1, limits=Limits(_SECONDS)) as pool:
            for model in models(options.pair, Path(folder), options.operations, options.only):
                if model.name in NETWORKS:
                    _build(model)
                bench = Bench(model, Path(tempfile.mkdtemp(dir=folder)), pool)
                try:
                    await bench.open()
                except EdgeconvError as error:
                    reason = _clean(str(error), bench.folder)
                    rows.append({"model": model.name, "outcome": "no source", "reason": reason})
                    continue
                rows += await compare(bench, options.pair, precisions)
    return rows


def main() -> None:
    """Compare the routes of one pair; writes the rows and prints them as a table."""
    from routes_table import table

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pair", choices=list(ROUTES))
    parser.add_argument("--only", default="", metavar="SUBSTRING")
    parser.add_argument("--operations", action="store_true", help="the graphs of single operations instead")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Workers import this file by its name.
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    rows = asyncio.run(run(options))
    if options.json:
        options.json.parent.mkdir(exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
