"""Holds the verdicts of ``edgeconv check`` to reality: every artifact in every runtime that is here.

    python benchmarks/checks.py make FOLDER [--format tflite] [--only SUBSTRING] [--jobs N]
    python benchmarks/checks.py run FOLDER [--format tflite] [--page] [--again] [--show N]

``make`` takes every model of the corpus to all precisions of a format and keeps the artifacts in FOLDER (a
second call goes on where the first ended). ``run`` loads and invokes each of them, and the corpus's own files of
that format, in each side environment of the format's runtimes that was made (``edgeconv environments
create``), every one in its real version, and compares what happened with what ``edgeconv.checking`` says.
What a runtime did with a file is kept in FOLDER by the file's hash; ``--again`` runs it anew. ``--page`` puts
the table into ``docs/checks.md``. Returns 1 where a verdict disagrees.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus import CORPUS, PROJECT, _request
from corpus_cases import cases, format_of

from edgeconv.environments import running, store
from edgeconv.errors import EdgeconvError

PAGE = PROJECT / "docs" / "checks.md"
SCRIPT = Path(running.__file__).with_name("scripts") / "run_artifacts.py"
RUNTIMES = {"tflite": ("tflite-runtime", "ai-edge-litert"), "onnx": ("onnxruntime",), "ort": ("onnxruntime",)}
_FILE_SECONDS = 60.0


def main() -> int:
    """Make artifacts, or run them and compare; returns 1 where a verdict disagrees with what happened."""
    options = _options()
    if options.command == "make":
        asyncio.run(_make(options))
        return 0
    files = list(_files(options.folder, options.format, options.only))
    rows, wrong = [], []
    for environment in _environments(options.format):
        found = _reality(environment, files, options.folder, options.again)
        row, disagreements = _judged(environment, files, found)
        rows.append(row)
        wrong += disagreements
        print(json.dumps(row), file=sys.stderr)
    for text in wrong[: options.show]:
        print(text)
    print(f"{len(files)} files, {len(rows)} runtimes, {len(wrong)} disagreements")
    if options.page:
        _write_page(options.format, rows, len(files))
    return int(bool(wrong))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("command", choices=["make", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--format", default="tflite", choices=sorted(RUNTIMES))
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="cases with this in their name")
    parser.add_argument("--jobs", type=int, default=2, help="models at the same time")
    parser.add_argument("--page", action="store_true", help="put the table into docs/checks.md")
    parser.add_argument("--again", action="store_true", help="run files anew that were run before")
    parser.add_argument("--show", type=int, default=40, metavar="N", help="disagreements to print")
    return parser.parse_args()


async def _make(options: argparse.Namespace) -> None:
    """Every case of the corpus to all precisions of the format, by the cache that a person's calls use."""
    from edgeconv.execution.cache import Cache, default_folder
    from edgeconv.execution.stage import Limits
    from edgeconv.execution.workers import WorkerPool

    todo = [case for case in cases(CORPUS) if options.only in case.name]
    todo = [case for case in todo if format_of(CORPUS, case) not in ("none", *RUNTIMES)]
    cache, slots = Cache(default_folder()), asyncio.Semaphore(options.jobs)
    async with WorkerPool(jobs=options.jobs, limits=Limits(300)) as pool:

        async def one(case: Any) -> None:
            folder = options.folder / options.format / hashlib.sha256(case.name.encode()).hexdigest()[:12]
            if (folder / "manifest.json").exists():
                return
            async with slots:
                began, ended = time.perf_counter(), "made"
                try:
                    await _artifacts(case, folder, options.format, cache, pool)
                except EdgeconvError as error:
                    ended = str(error)[:150]
                print(f"{time.perf_counter() - began:6.1f} s  {case.name}: {ended}", file=sys.stderr)

        await asyncio.gather(*(one(case) for case in todo))


async def _artifacts(case: Any, folder: Path, format_name: str, cache: Any, pool: Any) -> None:
    from edgeconv.execution.publish import Publisher
    from edgeconv.execution.run import Run
    from edgeconv.recipe.convert import make_plan, model_name
    from edgeconv.recipe.request import parse_targets

    wanted = parse_targets([f"{format_name}:all"])
    request = dataclasses.replace(_request(case, folder), to=wanted)
    plan = await asyncio.to_thread(make_plan, request, cache.inputs)
    publisher = Publisher(folder, model_name(request.model), plan)
    run = Run(plan, cache, pool, lambda event: None, publisher.publish)
    await run.execute()
    publisher.publish_front_end(run.front_end())
    publisher.finish(run.failures, run.source_gate())


def _files(folder: Path, format_name: str, only: str) -> Iterator[dict[str, Any]]:
    """All files to run: ``path``, ``name`` for a person, ``sha256``, ``shapes`` of inputs by tensor."""
    from edgeconv.formats.registry import identify

    for manifest in sorted((folder / format_name).glob("*/manifest.json")):
        document = json.loads(manifest.read_text())
        for artifact in document["artifacts"]:
            path = manifest.parent / artifact["path"]
            if artifact["format"] != format_name or only not in document["source"]["path"]:
                continue
            shapes = {
                spec.get("tensor") or spec["name"]: [1 if size is None else size for size in spec["shape"]]
                for spec in artifact["contract"]["inputs"]
                if spec.get("shape") is not None
            }
            name = f"{Path(document['source']['path']).parent.name}/{path.name}"
            yield _file(path, name, shapes)
    for path in sorted(CORPUS.rglob(f"*.{format_name}")):
        try:
            known = identify(path).name == format_name
        except EdgeconvError:
            known = False
        if known and only in str(path):
            yield _file(path, str(path.relative_to(CORPUS)), {})


def _file(path: Path, name: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"path": str(path.resolve()), "name": name, "sha256": sha256, "shapes": shapes}


def _environments(format_name: str) -> list[Any]:
    here = [e for e in store.installed() if e.spec.name in RUNTIMES[format_name] and e.current]
    order = RUNTIMES[format_name]
    return sorted(here, key=lambda e: (order.index(e.spec.name), _numbers(e.spec.version)))


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (version or "0").split("."))


def _reality(
    environment: Any, files: list[dict[str, Any]], folder: Path, again: bool
) -> dict[str, dict[str, Any]]:
    """What the runtime did with each file, by the file's hash."""
    kept = folder / "runs" / f"{environment.spec.folder}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    known = {} if again or not kept.exists() else json.loads(kept.read_text())
    todo = list({file["sha256"]: file for file in files if file["sha256"] not in known}.values())
    if todo:
        with tempfile.TemporaryDirectory() as scratch:
            payload = {"files": todo, "seconds": _FILE_SECONDS}
            answer = running.run_in(
                environment, SCRIPT, payload, scratch=Path(scratch), seconds=60 + 10.0 * len(todo)
            )
        assert answer["version"] == environment.spec.version
        known |= {file["sha256"]: said for file, said in zip(todo, answer["results"], strict=True)}
        kept.write_text(json.dumps(known, indent=0))
    return {file["sha256"]: known[file["sha256"]] for file in files}


def _judged(
    environment: Any, files: list[dict[str, Any]], found: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """The row of a runtime in the table, and its disagreements in words."""
    from edgeconv.checking.base import RuntimeVerdict, checker_for
    from edgeconv.formats.registry import identify

    runtime, version = environment.spec.name, environment.spec.version
    counts: Counter[str] = Counter()
    wrong = []
    for file in files:
        path = Path(file["path"])
        checker = checker_for(identify(path).name, runtime)
        assert checker is not None, f"no checker for {runtime}"
        verdict = RuntimeVerdict(runtime, version, tuple(checker.check(path, runtime, version)))
        really = found[file["sha256"]]
        runs = bool(really["invoked"])
        counts["runs" if runs else "refused"] += 1
        if verdict.verdict == ("runs" if runs else "refused"):
            continue
        counts["disagrees"] += 1
        said = "; ".join(problem.what for problem in verdict.problems if problem.severity != "note")
        happened = really["error"] or really["crash"] or "it ran"
        wrong.append(
            f"{runtime}=={version} {file['name']} ({file['sha256'][:8]}): check says {verdict.verdict} "
            f"({said}); {really['stage']}: {happened[:300]}"
        )
    row = {"runtime": runtime, "version": version, "files": len(files), **counts}
    return row, wrong


def _write_page(format_name: str, rows: list[dict[str, Any]], files: int) -> None:
    begin, end = f"<!-- {format_name}: begin -->", f"<!-- {format_name}: end -->"
    lines = [
        f"{files} files of the format; `python benchmarks/checks.py run FOLDER --format {format_name} --page`:",
        "",
        "| runtime | runs, as said | refused, as said | disagreements |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        wrong = row.get("disagrees", 0)
        lines.append(
            f"| {row['runtime']} {row['version']} | {row.get('runs', 0)} | {row.get('refused', 0)} | {wrong} |"
        )
    before, _, rest = PAGE.read_text().partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + after)


if __name__ == "__main__":
    sys.exit(main())
