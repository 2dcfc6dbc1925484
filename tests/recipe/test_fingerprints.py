"""What an option points at is part of the cache key."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.recipe.fingerprints import option_sha256


def test_a_builder_that_changes_changes_the_hash_and_so_does_what_it_imports_from_beside(
    tmp_path: Path,
) -> None:
    (tmp_path / "net.py").write_text("def build(): ...")
    (tmp_path / "layers.py").write_text("X = 1")
    options = {"model_builder": f"{tmp_path / 'net.py'}:build"}
    first = option_sha256(options)
    assert option_sha256(options) == first
    (tmp_path / "layers.py").write_text("X = 2")
    second = option_sha256(options)
    (tmp_path / "net.py").write_text("def build(): return 1")
    assert len({h["model_builder"] for h in (first, second, option_sha256(options))}) == 3


def test_a_module_is_found_from_the_current_folder_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "nets_of_ours"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "small.py").write_text("raise RuntimeError('imported')")
    first = option_sha256({"model_builder": "nets_of_ours.small:build"})
    (package / "small.py").write_text("raise RuntimeError('changed')")
    assert option_sha256({"model_builder": "nets_of_ours.small:build"}) != first


def test_what_points_at_nothing_has_no_hash_and_what_is_missing_does_not_raise() -> None:
    assert option_sha256({"trust": True, "signature": "serving_default"}) == {}
    assert option_sha256({"model_builder": "no_such_module:build"}) == {"model_builder": "not found"}
    assert option_sha256({"checkpoint": "no/such/ckpt"}) == {"checkpoint": "unreadable"}
