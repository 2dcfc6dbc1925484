"""The cache: a complete key, whole entries or none, safe for two runs at once and after a kill."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.execution import cache as cache_module
from edgeconv.execution.cache import Cache, code_sha256, key_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(store: Cache, key: str, text: str = "weights") -> None:
    with store.staging() as staged:
        (staged / "model.bin").write_text(text)
        (staged / "folder").mkdir()
        (staged / "folder" / "part").write_text(text)
        store.publish(key, staged, {"said": text})


@given(JSON, JSON)
def test_different_parts_have_different_keys(one: Any, other: Any) -> None:
    same = key_of({"x": one}, ()) == key_of({"x": other}, ())
    assert same == (repr(one) == repr(other))


@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=4))
def test_the_order_of_the_parts_does_not_matter(parts: dict[str, Any]) -> None:
    assert key_of(parts, ()) == key_of(dict(reversed(parts.items())), ())


def test_the_key_knows_the_versions_of_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of({"x": 1}, ("numpy", "onnx"))
    monkeypatch.setattr(cache_module, "tool_version", lambda tool: "0.0.1")
    assert key_of({"x": 1}, ("numpy", "onnx")) != before


def test_the_key_knows_which_tools(store: Cache) -> None:
    assert key_of({"x": 1}, ("numpy",)) != key_of({"x": 1}, ("numpy", "onnx"))


def test_the_key_knows_the_code_of_the_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of({"x": 1}, ())
    assert len(code_sha256()) == 64
    monkeypatch.setattr(cache_module, "code_sha256", lambda: "changed")
    assert key_of({"x": 1}, ()) != before


def test_what_is_published_is_found_with_its_value_and_files(store: Cache) -> None:
    assert store.find("k") is None
    put(store, "k")
    entry = store.find("k")
    assert entry is not None
    assert entry.value == {"said": "weights"}
    assert set(entry.files) == {"model.bin", "folder/part"}
    assert entry.file("model.bin").read_text() == "weights"
    assert entry.intact()


def test_a_changed_or_missing_file_is_noticed(store: Cache) -> None:
    put(store, "k")
    entry = store.find("k")
    assert entry is not None
    entry.file("model.bin").write_text("weightz")
    assert not entry.intact()
    entry.file("model.bin").unlink()
    assert not entry.intact()


def test_an_untouched_entry_need_not_be_read_to_be_found_and_a_copied_one_is_judged_by_its_hash(
    store: Cache,
) -> None:
    put(store, "k")
    entry = store.find("k")
    assert entry is not None
    assert entry.looks_intact()
    file = entry.file("model.bin")
    os.utime(file, ns=(1, 1))  # a copy of the whole cache has other times
    assert entry.looks_intact()
    file.write_text("weightz")
    assert not entry.looks_intact()


def test_what_changed_without_a_trace_is_found_when_it_is_read(store: Cache) -> None:
    put(store, "k")
    entry = store.find("k")
    assert entry is not None
    file = entry.file("model.bin")
    before = file.stat()
    file.write_text("weightz")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert entry.looks_intact()
    assert not entry.intact()


def test_an_entry_without_its_record_is_no_entry_and_is_replaced(store: Cache) -> None:
    put(store, "k")
    entry = store.find("k")
    assert entry is not None
    (entry.folder / "entry.json").write_text("{ torn")
    assert store.find("k") is None
    put(store, "k", "again")
    again = store.find("k")
    assert again is not None
    assert again.value == {"said": "again"}


def test_of_two_that_publish_the_same_key_the_first_wins(store: Cache) -> None:
    put(store, "k", "first")
    put(store, "k", "second")
    entry = store.find("k")
    assert entry is not None
    assert entry.value == {"said": "first"}


def test_nothing_half_written_is_an_entry(store: Cache, tmp_path: Path) -> None:
    def die(staged: Path) -> None:
        (staged / "model.bin").write_text("half")
        raise RuntimeError("converter died")

    with pytest.raises(RuntimeError, match="converter died"), store.staging() as staged:
        die(staged)
    assert list((tmp_path / "cache" / "staging").iterdir()) == []
    assert list((tmp_path / "cache" / "entries").iterdir()) == []


def test_staging_of_a_killed_run_is_removed_and_that_of_a_live_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    store = Cache(folder)
    program = (
        "import sys, time; from pathlib import Path; from edgeconv.execution.cache import Cache\n"
        f"with Cache(Path({str(folder)!r})).staging() as staged:\n"
        "    (staged / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with store.staging() as mine:
        Cache(folder)
        assert mine.is_dir()
        assert len([p for p in (folder / "staging").iterdir() if p.is_dir()]) == 2
        process.kill()
        process.wait()
        Cache(folder)
        assert [p for p in (folder / "staging").iterdir() if p.is_dir()] == [mine]


def test_runs_that_start_take_no_staging_away_from_one_that_has_just_begun_it(tmp_path: Path) -> None:
    store, done = Cache(tmp_path), threading.Event()

    def starting() -> None:
        while not done.is_set():
            Cache(tmp_path)

    others = [threading.Thread(target=starting) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for _ in range(300):
            with store.staging() as staged:
                (staged / "made").write_text("half")
    finally:
        done.set()
        for other in others:
            other.join()


def test_two_that_need_the_same_key_wait_for_each_other(store: Cache) -> None:
    order: list[str] = []

    async def one(name: str, seconds: float) -> None:
        async with store.lock("k"):
            order.append(f"{name} in")
            await asyncio.sleep(seconds)
            order.append(f"{name} out")

    async def both() -> None:
        await asyncio.gather(one("a", 0.3), one("b", 0.0))

    asyncio.run(both())
    assert order in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])


def test_a_lock_is_given_back_when_its_holder_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    program = (
        "import asyncio, time; from pathlib import Path; from edgeconv.execution.cache import Cache\n"
        "async def hold():\n"
        f"    async with Cache(Path({str(folder)!r})).lock('k'):\n"
        "        print('held', flush=True); time.sleep(60)\n"
        "asyncio.run(hold())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()

    async def take() -> None:
        async with asyncio.timeout(10), Cache(folder).lock("k"):
            pass

    start = time.monotonic()
    asyncio.run(take())
    assert time.monotonic() - start < 10
