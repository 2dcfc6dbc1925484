"""Takes every model of the corpus through edgeconv and writes what became of each.

    python benchmarks/corpus.py [--only SUBSTRING] [--jobs N] [--warm]

Each model goes through ``edgeconv convert`` on the command line, in a process of its own; the many graphs of
single operations share one pool of warm workers, with ``--warm`` all models do. Where inputs and outputs are
known, the artifacts are run on them too. Writes ``docs/corpus.md`` and ``benchmarks/results/corpus.json``;
with ``--only`` or ``--without`` it prints, or with ``--update`` puts these into the files. The corpus is
looked for beside the project, or where ``EDGECONV_CORPUS`` says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus_cases import OPERATIONS, QUANTIZED, Case, cases, format_of
from corpus_golden import check
from corpus_table import table

from edgeconv.errors import EdgeconvError, ExitCode

PROJECT = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("EDGECONV_CORPUS", PROJECT.parent / "shared" / "corpus"))
RESULTS = PROJECT / "benchmarks" / "results" / "corpus.json"
PAGE = PROJECT / "docs" / "corpus.md"
_WORKER_SECONDS = 300


def main() -> int:
    """Run the cases; returns 1 where one ended in a defect of edgeconv's own."""
    options = _options()
    chosen = [case for case in cases(CORPUS) if options.only in case.name]
    if options.without:
        chosen = [case for case in chosen if options.without not in case.name]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="edgeconv-corpus-") as folder:
        scratch = Path(folder)
        os.environ["EDGECONV_CACHE_DIR"] = str(scratch / "cache")
        warm = [c for c in chosen if options.warm or c.model.startswith(OPERATIONS)]
        cold = [c for c in chosen if c not in warm]
        results = asyncio.run(run_all(cold, warm, scratch, options.jobs))
    seconds = time.perf_counter() - began
    results.sort(key=lambda result: [case.name for case in chosen].index(result["name"]))
    if options.update:
        found = {result["name"]: result for result in results}
        whole = json.loads(RESULTS.read_text())
        results = [found.get(result["name"], result) for result in whole["results"]]
        seconds, options.warm = whole["seconds"], whole["warm"]
    if (options.only or options.without) and not options.update:
        print(table(results, seconds, options.warm))
    else:
        RESULTS.parent.mkdir(exist_ok=True)
        whole = {"seconds": round(seconds), "warm": options.warm, "results": results}
        RESULTS.write_text(json.dumps(whole, indent=1) + "\n")
        PAGE.write_text(table(results, seconds, options.warm))
        print(f"{len(results)} cases in {seconds:.0f} s: {PAGE.name}, {RESULTS.name}")
    return int(any(result["exit"] == ExitCode.DEFECT for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="cases with this in their name")
    parser.add_argument("--without", default="", metavar="SUBSTRING", help="no cases with this in their name")
    parser.add_argument("--jobs", type=int, default=2, help="models at the same time")
    parser.add_argument("--warm", action="store_true", help="share warm workers among all models")
    parser.add_argument("--update", action="store_true", help="with --only: put these into the whole table")
    return parser.parse_args()


async def run_all(
    cold: Sequence[Case], warm: Sequence[Case], scratch: Path, jobs: int
) -> list[dict[str, Any]]:
    """What became of the cases; those in ``cold`` get processes of their own, those in ``warm`` share."""
    results = await _gather(cold, jobs, lambda case, folder: _by_command(case, folder), scratch)
    if warm:
        from edgeconv.execution.stage import Limits
        from edgeconv.execution.workers import WorkerPool

        async with WorkerPool(jobs=jobs, limits=Limits(_WORKER_SECONDS)) as pool:
            results += await _gather(warm, jobs, lambda case, folder: _in_pool(case, folder, pool), scratch)
    return results


async def _gather(some: Sequence[Case], jobs: int, how: Any, scratch: Path) -> list[dict[str, Any]]:
    slots = asyncio.Semaphore(jobs)

    async def one(case: Case) -> dict[str, Any]:
        async with slots:
            folder = Path(tempfile.mkdtemp(dir=scratch))
            began = time.perf_counter()
            ended = await how(case, folder)
            result = _result(case, folder, time.perf_counter() - began, **ended)
            print(f"{result['seconds']:6.1f} s  exit {result['exit']}  {case.name}", file=sys.stderr)
            return result

    return list(await asyncio.gather(*(one(case) for case in some)))


def targets(case: Case) -> list[str]:
    """What is asked for of a case: each format that the source is not, in fp32, and int8 where chosen."""
    kind = format_of(CORPUS, case)
    wanted = ["frozen_graph"] if kind in ("saved_model", "keras", "checkpoint") else []
    wanted += [to for to in ("tflite", "onnx") if to != kind]
    return wanted + [to for to in QUANTIZED if case.quantized and not to.startswith(f"{kind}:")]


_FILES = ("--data", "--calibration", "--checkpoint")


def _said(case: Case) -> list[str]:
    """What a person said, with files found inside the corpus."""
    flags = ("", *case.said)
    return [
        str(CORPUS / text) if flag in _FILES else text for flag, text in zip(flags, case.said, strict=False)
    ]


async def _by_command(case: Case, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgeconv", "convert", str(CORPUS / case.model), "--json", "-q"]
    command += ["-o", str(folder), "--to", ",".join(targets(case)), *_said(case), "--no-cache"]
    command += ["--worker-timeout", str(_WORKER_SECONDS)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    out, err = await process.communicate()
    document = json.loads(out) if out.strip() else {}
    manifest = document if "artifacts" in document else None  # else it is the error, which is on stderr too
    return {"exit_code": process.returncode, "manifest": manifest, "message": err.decode(errors="replace")}


async def _in_pool(case: Case, folder: Path, pool: Any) -> dict[str, Any]:
    from edgeconv.execution.cache import Cache
    from edgeconv.execution.publish import Publisher
    from edgeconv.execution.run import Run
    from edgeconv.recipe.convert import exit_code, make_plan, model_name

    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as own:
            cache = Cache(Path(own))
            request = _request(case, folder)
            plan = make_plan(request, cache.inputs)
            publisher = Publisher(folder, model_name(request.model), plan)
            run = Run(plan, cache, pool, lambda event: None, publisher.publish)
            await run.execute()
            publisher.publish_front_end(run.front_end())
            manifest = publisher.finish(run.failures, run.source_gate())
    except EdgeconvError as error:
        message = f"error: {error}" + (f"\n  → {error.hint}" if error.hint else "")
        return {"exit_code": int(error.exit_code), "manifest": None, "message": message}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return {"exit_code": int(ExitCode.DEFECT), "manifest": None, "message": message}
    return {"exit_code": int(exit_code(manifest)), "manifest": manifest.to_json(), "message": ""}


def _request(case: Case, folder: Path) -> Any:
    from edgeconv.recipe.request import ConversionRequest, parse_shapes, parse_targets

    said = _said(case)
    values: dict[str, list[str]] = {}
    for flag, value in zip(said[::2], said[1::2], strict=True):
        values.setdefault(flag, []).append(value)

    def names(flag: str) -> tuple[str, ...]:
        return tuple(name for text in values.get(flag, []) for name in text.split(","))

    files = {flag: Path(values[flag][0]) for flag in _FILES if flag in values}
    return ConversionRequest(
        CORPUS / case.model,
        folder,
        parse_targets(targets(case)),
        data=files.get("--data"),
        calibration=files.get("--calibration"),
        checkpoint=files.get("--checkpoint"),
        shapes=parse_shapes(values.get("--shape", [])),
        inputs=names("--inputs"),
        outputs=names("--outputs"),
        signature=next(iter(values.get("--signature", [])), None),
    )


def _result(
    case: Case, folder: Path, seconds: float, exit_code: int, manifest: Any, message: str
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": case.name,
        "model": case.model,
        "format": format_of(CORPUS, case),
        "said": list(case.said),
        "exit": exit_code,
        "seconds": round(seconds, 1),
        "message": _clean(message, folder),
        "targets": {},
        "plain": dict(case.plain),
    }
    for wanted in targets(case):
        name = wanted.replace(":", ".") if ":" in wanted else f"{wanted}.fp32"
        result["targets"][name] = _outcome(name, case, folder, manifest)
    return result


def _outcome(name: str, case: Case, folder: Path, manifest: Any) -> dict[str, Any]:
    if manifest is None:
        return {"outcome": "refused"}
    own = [f for f in manifest["failures"] if f["artifact"] == name]
    failures = [_failure(f, folder) for f in own]
    record = next((a for a in manifest["artifacts"] if a["id"] == name), None)
    if record is None:
        if all(f["follows"] for f in own):
            failures = [_failure(f, folder) for f in manifest["failures"] if not f["follows"]][:1]
        return {"outcome": "failed", "failures": failures}
    gate = record["gate"]
    numbers = [output["max_abs"] for output in gate["outputs"] if output.get("max_abs") is not None]
    outcome = {
        "outcome": gate["verdict"],
        "by": record["conversion"],
        "bytes": record["bytes"],
        "max_abs": max(numbers, default=None),
        "reason": _clean(gate.get("reason") or "", folder) or None,
        "hint": _clean(gate.get("hint") or "", folder) or None,
        "notes": [_clean(note, folder) for note in record["notes"]],
        "failures": failures,
    }
    if case.golden:
        contract = manifest["source"]["contract"] or record["contract"]
        written = (manifest.get("front_end") or {}).get("path")
        front_end = folder / written if written else None
        outcome["golden"] = check(CORPUS, case.golden, record, folder / record["path"], contract, front_end)
    return outcome


def _failure(failure: Any, folder: Path) -> dict[str, str]:
    keys = ("artifact", "conversion", "reason", "hint")
    return {key: _clean(str(failure[key] or ""), folder) for key in keys}


def _clean(text: str, folder: Path) -> str:
    """The text without paths of this machine and without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    for place, name in (
        (folder, "OUT"),
        (CORPUS, "CORPUS"),
        (folder.parent, "SCRATCH"),
        (PROJECT, "PROJECT"),
    ):
        text = text.replace(f"{place}/", f"{name}/" if name != "CORPUS" else "").replace(str(place), name)
    text = re.sub(r"(/[\w.+-]+){2,}/site-packages/", "", text)
    return re.sub(r"/tmp/[\w./-]+", "SCRATCH", text).strip()


if __name__ == "__main__":
    sys.exit(main())
