"""Files and folders are whole or not there, and a full disk is said."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

from edgeconv.errors import ConversionError, UsageError
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


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    old = time.time() - 3600
    left = tmp_path / ".net.fp32.ort.abcd1234"
    left.mkdir()
    (left / "net.fp32.ort").write_bytes(b"half")
    text = tmp_path / ".manifest.json.abcd1234"
    text.write_text("{")
    mine = tmp_path / ".hidden-thing-of-the-user"
    mine.write_text("x")
    with atomic.temporary_beside(tmp_path / "net.fp16.onnx") as fresh:
        fresh.write_text("being written")
        for path in (left, text, mine, fresh.parent):
            os.utime(path, (old, old))
        atomic.remove_leftovers(tmp_path)
        assert fresh.read_text() == "being written"
        assert mine.exists()
        assert not left.exists()
        assert not text.exists()


def test_young_leftovers_stay_as_their_writer_may_not_hold_them_yet(tmp_path: Path) -> None:
    young = tmp_path / ".net.fp32.ort.abcd1234"
    young.mkdir()
    atomic.remove_leftovers(tmp_path)
    assert young.exists()


def test_a_folder_that_cannot_be_made_or_written_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="a file, not a folder"):
        atomic.make_writable_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be written"):
        atomic.make_writable_folder(tmp_path / "file" / "below")
    atomic.make_writable_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
