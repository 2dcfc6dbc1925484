"""The examples in the docstrings of the public API run, on a real model."""

from __future__ import annotations

import doctest
import importlib
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgeconv

LIGHT = ["edgeconv.recipe.request", "edgeconv.recipe.convert", "edgeconv.cli.options"]


def run_examples(module: ModuleType, names: dict[str, object]) -> int:
    """Run a module's examples with those names in reach, in the order of their texts; returns how many."""
    runner = doctest.DocTestRunner()
    examples = doctest.DocTestFinder().find(module, extraglobs=names)
    for example in sorted(examples, key=lambda e: e.lineno or 0):
        runner.run(example)
    result = runner.summarize()
    assert result.failed == 0
    return result.attempted


@pytest.mark.parametrize("name", LIGHT)
def test_the_examples_of_a_module_hold(name: str) -> None:
    assert run_examples(importlib.import_module(name), {}) > 0


@pytest.mark.slow
def test_the_examples_of_the_package_hold(digits: Path, tmp_path: Path) -> None:
    shutil.copy(digits / "digits.keras", tmp_path)
    with np.load(digits / "samples.npz") as samples:
        images = samples["image"]
    names = {"edgeconv": edgeconv, "digits": tmp_path, "images": images}
    assert run_examples(edgeconv, names) >= 6
    assert run_examples(importlib.import_module("edgeconv.parts"), names) >= 2


def test_the_public_names_are_those_said() -> None:
    assert set(edgeconv.__all__) <= set(dir(edgeconv))
    for name in edgeconv.__all__:
        assert getattr(edgeconv, name).__doc__
