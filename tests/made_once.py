"""What is costly to make and the same for all tests: side environments and emulated boards.

They lie in ``build/tests`` of the checkout, or in ``EDGECONV_TEST_CACHE``; they are made when a test first
needs them, checked before they are used again, and shared by the processes of a run (both stores lock).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeconv.environments import store
from edgeconv.environments.specs import find_spec
from edgeconv.errors import UnavailableError


def cache() -> Path:
    """A cache folder of edgeconv's, kept from run to run."""
    kept = os.environ.get("EDGECONV_TEST_CACHE")
    folder = Path(kept).absolute() if kept else Path(__file__).parents[1] / "build" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def environment(name: str) -> store.Environment:
    """The side environment; the test skips where it cannot be made."""
    try:
        return store.create(find_spec(name), cache() / "environments")
    except UnavailableError as error:
        pytest.skip(f"'{name}' cannot be made here: {error}")
