"""Side environments for tests: made once a session, or once for all with ``EDGECONV_TEST_CACHE=FOLDER``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeconv.environments import store
from edgeconv.environments.specs import find_spec
from edgeconv.errors import UnavailableError


def python_of(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a side environment; the test skips where none can be made."""
    kept = os.environ.get("EDGECONV_TEST_CACHE")
    base = tmp_path_factory.getbasetemp()
    root = Path(kept) if kept else base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    spec = find_spec(name)
    try:
        return (store.found(spec, root / "environments") or store.create(spec, root / "environments")).python
    except UnavailableError as error:
        pytest.skip(f"'{name}' cannot be made here: {error}")
