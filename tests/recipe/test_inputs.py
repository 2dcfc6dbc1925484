"""The inputs of a run: samples of the user's serve every artifact, whatever its tensors are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeconv.comparison.samples import load_samples
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.recipe.inputs import InputMaker
from edgeconv.recipe.request import ConversionRequest


def test_samples_under_the_sources_tensor_names_fit_what_is_made_of_it(tmp_path: Path) -> None:
    spec = TensorSpec("features", "float32", (None, 2), "scope/Placeholder:0")
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(tmp_path / "samples.npz", **{"in__scope|Placeholder:0": values})
    maker = InputMaker(ConversionRequest(tmp_path / "m", calibration=tmp_path / "samples.npz"), tmp_path)
    given = maker.calibration(Contract((spec,), ()))
    later = Contract((replace(spec, tensor="features"),), ())
    loaded = np.concatenate([sample["features"] for sample in load_samples(given.path, later)])
    np.testing.assert_array_equal(loaded, values)
    assert not given.made_up


def test_samples_under_logical_names_are_taken_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=np.ones((3, 2), np.float32))
    maker = InputMaker(ConversionRequest(tmp_path / "m", calibration=tmp_path / "samples.npz"), tmp_path)
    given = maker.calibration(Contract((TensorSpec("x", "float32", (None, 2)),), ()))
    assert given.path == tmp_path / "samples.npz"
