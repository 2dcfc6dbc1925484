"""This machine as a device: which side environments the agent can run in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.local import LocalDevice
from edgeconv.environments import store
from edgeconv.environments.specs import find_spec


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(tmp_path))
    return store.default_root()


def lay_out(root: Path, name: str, python: str | None) -> None:
    """What is on disk of an environment, without its distributions: enough to be found."""
    spec = find_spec(name)
    program = store.interpreter(root / spec.folder)
    program.parent.mkdir(parents=True)
    program.touch()
    stamp = {"id": spec.id, "sha256": spec.sha256, "python": python}
    (root / spec.folder / "edgeconv-environment.json").write_text(json.dumps(stamp))


def test_environments_whose_python_is_too_old_for_the_agent_are_no_runtimes_of_it(root: Path) -> None:
    lay_out(root, "onnxruntime==1.16.3", "3.11.7")
    lay_out(root, "tensorflow==1.15.5", "3.7.16")
    lay_out(root, "ai-edge-litert==1.4.0", None)
    assert LocalDevice().runtimes() == (RuntimeChoice("onnxruntime", "1.16.3"),)
