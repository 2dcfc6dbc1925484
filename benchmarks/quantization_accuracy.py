"""Which route to a quantized TFLite file is nearer to a trained network, on real inputs?

    python benchmarks/quantization_accuracy.py [--only SUBSTRING] [--precisions dynamic] [--json FILE]
        [--trained FOLDER]

Both routes get 100 real samples to calibrate with; accuracy, agreement with fp32 (the largest output is the
same) and signal to noise (dB, the worst output) are over other real inputs. The gate's verdict is on samples
of calibration, as in ``edgeconv convert``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tflite_routes import CORPUS, PRECISIONS, ROUTES, Bench, Model, compare
from trained_models import trained_models

from edgeconv.errors import EdgeconvError
from edgeconv.execution.stage import Limits
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Artifact


def outputs(artifact: Artifact, test: np.ndarray) -> dict[str, np.ndarray]:
    """What a TFLite file gives for each sample, by output: [n, …] float64."""
    from edgeconv.runtimes.litert import RUNTIME

    columns: dict[str, list[np.ndarray]] = {}
    with RUNTIME.open(artifact.path, artifact.contract, threads=2) as session:
        spec = session.inputs[0]
        for sample in test:
            shape = tuple(1 if size is None else size for size in spec.shape or (1, *sample.shape))
            for name, value in session.infer({spec.name: sample.reshape(shape)}).items():
                columns.setdefault(name, []).append(np.asarray(value, dtype=np.float64))
    return {name: np.concatenate([np.atleast_1d(v) for v in values]) for name, values in columns.items()}


def quality(
    artifact: Artifact, reference: Mapping[str, np.ndarray], test: np.ndarray, labels: np.ndarray | None
) -> dict[str, Any]:
    """Signal to noise, agreement with the reference, accuracy where there are labels."""
    found = outputs(artifact, test)
    ratios = []
    for name, expected in reference.items():
        noise = max(float(((expected - found[name]) ** 2).sum()), 1e-30)
        ratios.append(10 * np.log10(float((expected**2).sum()) / noise))
    row: dict[str, Any] = {"test_sqnr_db": round(min(ratios), 1)}
    name = next(iter(reference))
    if reference[name].ndim != 2:
        return row  # a detector: most of its places hold nothing, and which class they are says nothing
    best = found[name].argmax(-1)
    row["agreement"] = round(float((best == reference[name].argmax(-1)).mean()), 4)
    if labels is not None:
        row["accuracy"] = round(float((best.reshape(-1) == labels).mean()), 4)
        row["fp32_accuracy"] = round(float((reference[name].argmax(-1).reshape(-1) == labels).mean()), 4)
    return row


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All models, one after another."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgeconv-accuracy-") as scratch:
        folder = Path(scratch)
        for name, prepare in trained_models(CORPUS, options.trained or folder).items():
            if options.only not in name:
                continue
            case, path, given, test, labels = prepare()
            np.savez(folder / "calibration.npz", x=given)
            async with WorkerPool(jobs=1, limits=Limits(300)) as pool:
                own = Path(tempfile.mkdtemp(dir=folder))
                bench = Bench(Model(name, path, case, folder / "calibration.npz"), own, pool)
                try:
                    await bench.open()
                    rows += await _one(bench, options.precisions.split(","), test, labels)
                except EdgeconvError as error:
                    print(f"{name}: {error}", file=sys.stderr)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


async def _one(
    bench: Bench, precisions: Sequence[str], test: np.ndarray, labels: np.ndarray | None
) -> list[dict[str, Any]]:
    fp32, _ = await bench.take(ROUTES["quantized"]["TensorFlow"][0], "fp32")
    reference = outputs(fp32, test)
    rows = await compare(bench, "quantized", precisions)
    for row in rows:
        row["samples"] = len(test)
        if "bytes" in row:
            names = ROUTES["quantized"][row["route"]][0]
            artifact, _ = await bench.take(names, row["precision"])
            try:
                row.update(quality(artifact, reference, test, labels))
            except EdgeconvError as error:
                row["outcome"], row["reason"] = "does not run", str(error)[:200]
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The two routes side by side, LiteRT Quantizer first."""
    lines = [
        "| model | samples | fp32 right | precision | SQNR dB | agrees with fp32 | right | gate |",
        "| --- | --: | --: | --- | --: | --: | --: | --- |",
    ]
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        pairs.setdefault((row["model"], row["precision"]), []).append(row)
    for (model, precision), pair in pairs.items():
        truth = {f"{row['fp32_accuracy']:.1%}" for row in pair if "fp32_accuracy" in row}
        cells = [
            " / ".join(format(row[key], form) if row.get(key) is not None else "-" for row in pair)
            for key, form in (("test_sqnr_db", ".1f"), ("agreement", ".1%"), ("accuracy", ".1%"))
        ]
        cells.append(" / ".join(row["outcome"] for row in pair))
        start = f"| {model} | {pair[0]['samples']} | {''.join(truth)} | {precision} | "
        lines.append(start + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Compare, print the table, keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="SUBSTRING")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--trained", type=Path, help="folder where the networks trained here are kept")
    options = parser.parse_args()
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    rows = asyncio.run(run(options))
    print(table(rows))


if __name__ == "__main__":
    main()
