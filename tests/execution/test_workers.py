"""Workers: an arrow that crashes, hangs or eats the memory takes down its worker and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgeconv.errors import ConversionError, EdgeconvError, UnavailableError
from edgeconv.execution.stage import Limits, Stage, StageResult
from edgeconv.execution.workers import WorkerPool

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _stages_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def stage(tmp_path: Path, function: str, priority: float = 0.0, **payload: Any) -> Stage:
    return Stage(
        name=f"test {function}",
        call=f"stages:{function}",
        payload=payload,
        preload=("json",),
        log=tmp_path / "log.txt",
        memory_bytes=1 << 20,
        priority=priority,
    )


def run_all(
    stages: list[Stage], jobs: int = 2, limits: Limits | None = None
) -> list[StageResult | BaseException]:
    async def work() -> list[StageResult | BaseException]:
        async with WorkerPool(jobs=jobs, limits=limits) as pool:
            return await asyncio.gather(*(pool.run(s) for s in stages), return_exceptions=True)

    return asyncio.run(work())


def run_one(one: Stage, limits: Limits | None = None) -> StageResult:
    (result,) = run_all([one], limits=limits)
    if isinstance(result, BaseException):
        raise result
    return result


def test_a_stage_returns_its_value_and_what_it_took(tmp_path: Path) -> None:
    result = run_one(stage(tmp_path, "eat", megabytes=80))
    assert result.value == {"megabytes": 80}
    assert result.seconds > 0
    assert result.peak_rss_bytes > 80 << 20


def test_workers_are_forked_from_one_process_with_the_modules_loaded(tmp_path: Path) -> None:
    first, second = run_all([stage(tmp_path, "echo"), stage(tmp_path, "echo")])
    assert isinstance(first, StageResult)
    assert isinstance(second, StageResult)
    assert first.value["parent"] == second.value["parent"] != os.getpid()
    assert first.value["pid"] != second.value["pid"]
    warm = Stage("w", "stages:loaded", {"names": ["fractions"]}, ("fractions",), tmp_path / "l", 1)
    assert run_one(warm).value == {"loaded": ["fractions"]}


def test_an_error_of_ours_comes_back_whole(tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        run_one(stage(tmp_path, "refuse"))
    error = caught.value
    assert (error.what, error.where, error.why, error.hint) == (
        "no kernel for FOO",
        "node/foo",
        "it is made up",
        "use BAR",
    )


def test_an_unexpected_exception_becomes_a_conversion_error_and_its_traceback_is_in_the_log(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConversionError, match=r"KeyError.*keras_tensor_7"):
        run_one(stage(tmp_path, "surprise"))
    assert "Traceback" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("name", "said"), [("SIGABRT", "aborted"), ("SIGSEGV", "crashed"), ("SIGKILL", "killed")]
)
def test_a_crash_takes_down_its_worker_only_and_is_explained(tmp_path: Path, name: str, said: str) -> None:
    crashed, fine = run_all([stage(tmp_path, "die", signal=name), stage(tmp_path, "echo", n=1)])
    assert isinstance(crashed, ConversionError)
    assert said in str(crashed)
    assert "Check failed: shape.dims() == 4" in str(crashed)
    assert crashed.hint
    assert isinstance(fine, StageResult)


def test_a_worker_that_hangs_is_stopped_at_its_limit(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ConversionError, match=r"longer than 0\.5 s") as caught:
        run_one(stage(tmp_path, "sleep", seconds=60, started=str(tmp_path / "s")), Limits(seconds=0.5))
    assert time.monotonic() - start < 30
    assert "--worker-timeout" in (caught.value.hint or "")
    assert not psutil.pid_exists(int((tmp_path / "s").read_text()))


def test_a_worker_that_eats_the_memory_is_stopped_at_its_limit(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="more than 200 MB"):
        run_one(stage(tmp_path, "eat", megabytes=400, hold=30), Limits(rss_bytes=200 << 20))


def test_modules_that_cannot_be_imported_are_said(tmp_path: Path) -> None:
    broken = Stage("x", "stages:echo", {}, ("no_such_module_at_all",), tmp_path / "log", 1)
    with pytest.raises(UnavailableError, match="no_such_module_at_all"):
        run_one(broken)


def test_no_more_than_jobs_run_at_once_and_the_important_one_goes_first(tmp_path: Path) -> None:
    stages = [stage(tmp_path, "stamp", priority=p, seconds=0.1, name=p) for p in (0.0, 1.0, 2.0, 3.0)]
    results = [r.value for r in run_all(stages, jobs=1) if isinstance(r, StageResult)]
    in_order = sorted(results, key=lambda r: r["start"])
    assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(in_order))
    # The first is let in at once; of those that had to wait the higher priority starts first.
    assert [r["name"] for r in in_order][1:] == [3.0, 2.0, 1.0]


def test_stages_that_do_not_fit_in_memory_together_run_one_after_another(tmp_path: Path) -> None:
    huge = psutil.virtual_memory().total
    stages = [
        Stage(f"s{n}", "stages:stamp", {"seconds": 0.2, "name": n}, ("json",), tmp_path / "l", huge)
        for n in range(2)
    ]
    first, second = sorted(
        (r.value for r in run_all(stages, jobs=2) if isinstance(r, StageResult)), key=lambda r: r["start"]
    )
    assert first["end"] <= second["start"]


def test_cancelling_kills_the_worker(tmp_path: Path) -> None:
    started = tmp_path / "started"

    async def work() -> None:
        async with WorkerPool(jobs=1) as pool:
            task = asyncio.create_task(pool.run(stage(tmp_path, "sleep", seconds=60, started=str(started))))
            while not started.exists() or not started.read_text():
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(work())
    assert not psutil.pid_exists(int(started.read_text()))


def test_when_the_run_is_killed_nothing_of_it_lives_on(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from test_workers import stage
from edgeconv.execution.workers import WorkerPool
async def work():
    async with WorkerPool(jobs=1) as pool:
        await pool.run(stage(Path({str(tmp_path)!r}), "sleep", seconds=60, started={str(started)!r}))
asyncio.run(work())
"""
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(HERE)})
    try:
        deadline = time.monotonic() + 30
        while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        worker = int(started.read_text())
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(worker)


def test_a_script_without_a_main_guard_does_not_run_again_in_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
print("begun")
from test_workers import run_one, stage
print(run_one(stage(Path({str(tmp_path)!r}), "echo", n=5)).value["n"])
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert done.stdout.split() == ["begun", "5"]


def test_errors_are_edgeconv_errors(tmp_path: Path) -> None:
    (result,) = run_all([stage(tmp_path, "surprise")])
    assert isinstance(result, EdgeconvError)


def test_temporary_files_that_a_library_leaves_go_with_the_pool(tmp_path: Path) -> None:
    left = Path(run_one(stage(tmp_path, "leave_behind")).value["left"])
    assert not left.exists()
    assert not left.parent.exists()


def test_in_the_background_one_more_runs_beside_and_it_yields(tmp_path: Path) -> None:
    stages = [stage(tmp_path, "stamp", seconds=1.5, name=n) for n in range(2)]
    stages += [replace(stage(tmp_path, "stamp", seconds=0.1, name=n), background=True) for n in (2, 3)]
    results = {r.value["name"]: r.value for r in run_all(stages, jobs=2) if isinstance(r, StageResult)}
    assert results[2]["start"] < results[0]["end"]
    assert results[3]["start"] >= results[2]["end"]
    assert [results[n]["niceness"] for n in range(3)] == [os.nice(0), os.nice(0), os.nice(0) + 5]
