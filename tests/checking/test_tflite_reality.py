"""The verdicts on small files, held to the runtimes themselves in their real versions."""

from __future__ import annotations

from pathlib import Path

import made_once
import pytest
from tflite_files import FILES, write

from edgeconv.checking.base import RuntimeVerdict
from edgeconv.checking.tflite import CHECKER
from edgeconv.environments import running

SCRIPT = Path(running.__file__).with_name("scripts") / "run_artifacts.py"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tflite_environments")]


@pytest.fixture(scope="module", params=["tflite-runtime==2.14.0", "ai-edge-litert==1.1.2"])
def environment(request):
    return made_once.environment(request.param)


def ran(environment, paths, scratch, **said):
    payload = {"files": [{"path": str(path)} for path in paths], "seconds": 30, **said}
    return running.run_in(environment, SCRIPT, payload, scratch=scratch, seconds=240)


def test_each_verdict_is_what_the_runtime_does(environment, tmp_path):
    runtime, version = environment.spec.name, environment.spec.version
    paths = [write(tmp_path, name) for name in FILES]
    answer = ran(environment, paths, tmp_path)
    assert (answer["runtime"], answer["version"]) == (runtime, version)
    said = {
        path.stem: RuntimeVerdict(runtime, version, tuple(CHECKER.check(path, runtime, version))).verdict
        for path in paths
    }
    happened = {
        path.stem: "runs" if result["invoked"] else "refused"
        for path, result in zip(paths, answer["results"], strict=True)
    }
    assert said == happened
    assert set(happened.values()) == {"runs", "refused"}


def test_a_file_that_ends_the_process_ends_only_itself(environment, tmp_path):
    good, bad = write(tmp_path, "plain"), tmp_path / "crash.tflite"
    bad.write_bytes(_crashing())
    answer = ran(environment, [good, bad, good], tmp_path)
    first, second, third = answer["results"]
    assert first["invoked"]
    assert third["invoked"]
    assert second["crash"] is not None
    assert not second["invoked"]


def _crashing() -> bytes:
    """A comparison of five dimensions with broadcasting, which ends the process of all but new releases."""
    from ai_edge_litert import schema_py_generated as schema
    from tflite_builder import Builder

    b = Builder()
    x, other = b.tensor("x", [1, 2, 1, 2, 1]), b.tensor("other", [2, 2, 2, 2, 2])
    y = b.tensor("y", [2, 2, 2, 2, 2], dtype=6)
    b.op(schema.BuiltinOperator.EQUAL, [x, other], [y])
    b.ends([x, other], [y])
    return b.bytes()
