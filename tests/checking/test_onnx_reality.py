"""The verdicts on small files, held to ONNX Runtime itself in real releases."""

from __future__ import annotations

from pathlib import Path

import made_once
import pytest
from onnx_files import FILES

from edgeconv.checking.base import RuntimeVerdict
from edgeconv.checking.onnx import CHECKER
from edgeconv.conversions._onnx_files import open_session
from edgeconv.environments import running

SCRIPTS = Path(running.__file__).with_name("scripts")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("onnx_environments")]


@pytest.fixture(scope="module", params=["onnxruntime==1.16.3", "onnxruntime==1.21.1"])
def environment(request):
    return made_once.environment(request.param)


def files(folder: Path) -> dict[str, Path]:
    """All of ``FILES``, and three of them in the ORT format of this release."""
    made = {}
    for name, write in FILES.items():
        made[name] = write(folder).rename(folder / f"{name}.onnx")
    for name in ("plain", "sigmoid-half", "gelu"):
        made[f"{name}-ort"] = folder / f"{name}.ort"
        open_session(made[name], save_to=made[f"{name}-ort"], level="extended")
    return made


def test_each_verdict_is_what_the_release_does(environment, tmp_path):
    version = environment.spec.version
    made = files(tmp_path)
    payload = {"files": [{"path": str(path)} for path in made.values()], "seconds": 60}
    answer = running.run_in(environment, SCRIPTS / "run_artifacts.py", payload, scratch=tmp_path, seconds=240)
    assert answer["version"] == version
    said = {
        name: RuntimeVerdict(
            "onnxruntime", version, tuple(CHECKER.check(path, "onnxruntime", version))
        ).verdict
        for name, path in made.items()
    }
    happened = {
        name: "runs" if result["invoked"] else "refused"
        for name, result in zip(made, answer["results"], strict=True)
    }
    assert said == happened
    assert set(happened.values()) == {"runs", "refused"}


def test_the_table_of_kernels_is_the_releases_own(environment, tmp_path):
    from edgeconv.checking._onnx_tables import release_of

    said = running.run_in(environment, SCRIPTS / "onnxruntime_kernels.py", {}, scratch=tmp_path, seconds=120)
    release = release_of(said["version"])
    for _, domain, op, first, last, constraints in said["kernels"]:
        kernels = release.kernels(domain or "ai.onnx", op)
        assert any(
            each.first == first
            and (each.last == last or (each.last == 0 and last == 0x7FFFFFFF))
            and all(set(allowed) <= each.types[name] for name, allowed in constraints.items())
            for each in kernels
        ), (domain, op, first, last)
