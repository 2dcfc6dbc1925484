"""Files and folders are whole or not there, and a full disk is said."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from edgeconv.errors import ConversionError
from edgeconv.execution import atomic


def test_a_text_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "manifest.json"
    atomic.write_text(target, "one")
    atomic.write_text(target, "two")
    assert target.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_copy_replaces_what_was_there(tmp_path: Path, kind: str) -> None:
    source, target = tmp_path / "source", tmp_path / "out" / "target"
    for name in ("old", "new"):
        if kind == "file":
            source.write_text(name)
        else:
            source.mkdir(exist_ok=True)
            (source / "saved_model.pb").write_text(name)
        atomic.copy_into_place(source, target)
    found = target if kind == "file" else target / "saved_model.pb"
    assert found.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ConversionError, match="no space left") as caught,
        atomic.explained_disk_errors(tmp_path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "EDGECONV_CACHE_DIR" in (caught.value.hint or "")


def test_a_really_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """On a real file system of 1 MB, where mounting one is allowed."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root, which is not given here")
    try:
        source = tmp_path / "weights"
        source.write_bytes(bytes(2 << 20))
        with pytest.raises(ConversionError, match="no space left"), atomic.explained_disk_errors(small):
            atomic.copy_into_place(source, small / "weights")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
