"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from calling import Ran

CORPUS = Path(os.environ.get("EDGECONV_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real models beside the project; tests that need it skip where it is not there."""
    if not CORPUS.is_dir():
        pytest.skip(f"the corpus of real models is not here ({CORPUS}); set EDGECONV_CORPUS to its folder")
    return CORPUS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the person's own cache or history."""
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("EDGECONV_HISTORY", str(tmp_path_factory.getbasetemp() / "history.sqlite"))


@pytest.fixture
def edgeconv(tmp_path: Path) -> Callable[..., Ran]:
    """Calls the command line in a process of its own, in the test's folder."""

    def call(
        *arguments: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 240,
    ) -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "edgeconv", *map(str, arguments)],
            cwd=cwd or tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return call


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small network in every form a training leaves; see ``small_models.py``."""
    folder = tmp_path_factory.mktemp("digits")
    script = Path(__file__).with_name("small_models.py")
    built = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="session")
def artifacts(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run that makes every kind of artifact from ``digits.keras``."""
    folder = digits / "digits.edgeconv"
    targets = "saved_model,frozen_graph,tflite:fp32,tflite:int8,onnx:fp32,onnx:fp16,ort"
    command = f"convert digits.keras --to {targets} --calibration samples.npz"
    ran = subprocess.run(
        [sys.executable, "-m", "edgeconv", *command.split()],
        cwd=digits,
        env={**os.environ, "EDGECONV_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "cache")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return folder
