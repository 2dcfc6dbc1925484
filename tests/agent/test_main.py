"""The agent as a process: what it answers, and how it ends, whatever happens to it."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from agent.talking import NULL, Talk, left_in

import edgeconv.agent
from edgeconv.agent import wire
from edgeconv.devices.shipping import agent_file

X = [("x", np.arange(3, dtype=np.float32))]
NOISY = """
import ctypes, os, sys, time
from .base import Backend, Model


class Noisy(Model):
    inputs = outputs = [{"name": "x", "dtype": "float32", "shape": None}]

    def infer(self, arrays):
        what = float(arrays[0].ravel()[0])
        if what == 1:
            print("by Python")
            ctypes.CDLL(None).puts(b"by the C library")
            ctypes.CDLL(None).fflush(None)
            os.write(1, b"by the system")
            os.system("echo by a program; cat")
        if what == 2:
            raise KeyError("a defect")
        if what == 3:
            raise MemoryError
        if what == 4:
            os.abort()
        if what == 5:
            bytearray(1 << 40)
        if what == 6:  # in C, with the lock of the interpreter given back, as runtimes do
            ctypes.CDLL(None).sleep(1000)
        return arrays


class Backend(Backend):
    name = "noisy"
    formats = ("null",)

    def version(self):
        return "1"

    def open(self, path, fmt, options):
        print("opening")
        return Noisy()


BACKEND = Backend()
"""


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with Talk(tmp_path / "store") as talk:
        yield talk


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent with one back end more, which does everything that a library should not."""
    package = tmp_path_factory.mktemp("noisy") / "edgeconv_agent"
    shutil.copytree(
        Path(edgeconv.agent.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "backends" / "noisy.py").write_text(NOISY)
    program = package.parent / "run.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(package.parent)!r})\n"
        "from edgeconv_agent.main import main\nmain()\n"
    )
    return program


@pytest.fixture
def library(noisy: Path, tmp_path: Path) -> Iterator[tuple[Talk, int]]:
    with Talk(tmp_path / "store", program=noisy) as talk:
        yield talk, int(talk.open(Path(__file__), "noisy", "null")["model"])


def of(value: float) -> list[tuple[str, np.ndarray]]:
    return [("x", np.full(1, value, np.float32))]


class TestTalking:
    def test_the_greeting_says_protocol_python_machine_and_process(self, talk: Talk) -> None:
        assert talk.greeting["edgeconv-agent"] == wire.PROTOCOL
        assert talk.greeting["machine"] == os.uname().machine
        assert talk.greeting["pid"] == talk.process.pid
        assert len(talk.greeting["python"]) == 3

    def test_an_answer_has_the_id_of_its_request(self, talk: Talk) -> None:
        assert talk.ask({"id": "seven", "verb": "versions"})["result"]["runtimes"]["null"] == "1"
        talk.send({"id": [1], "verb": "versions"})
        assert talk.answer()[0]["id"] is None

    def test_requests_may_wait_in_the_pipe(self, talk: Talk) -> None:
        for number in range(20):
            talk.send({"id": number, "verb": "missing", "files": []})
        assert [talk.answer()[0]["id"] for _ in range(20)] == list(range(20))

    def test_two_models_are_open_side_by_side_and_closed_one_by_one(self, talk: Talk) -> None:
        first, second = talk.open_null(), talk.open_null()
        assert first != second
        assert (talk.ask({"verb": "infer", "model": second}, X)["arrays"]["y"] == X[0][1]).all()
        assert talk.ask({"verb": "close", "model": first})["result"] == {}
        assert "no open model" in talk.error({"verb": "infer", "model": first}, X)["what"]
        assert "result" in talk.ask({"verb": "infer", "model": second}, X)

    def test_no_more_models_than_a_board_can_hold_are_open(self, talk: Talk) -> None:
        for _ in range(64):
            last = talk.open_null()
        assert "64 models are open" in talk.error({**NULL, "path": __file__})["what"]
        talk.ask({"verb": "close", "model": last})
        assert talk.open_null() > last

    def test_it_ends_with_its_input_and_leaves_nothing(self, talk: Talk) -> None:
        talk.open_null()
        talk.requests.close()
        assert talk.wait() == 0
        assert left_in(talk.store) == []


class TestWrongRequests:
    @pytest.mark.parametrize(
        ("header", "says"),
        [
            ({}, "no verb None"),
            ({"verb": "exec"}, "no verb 'exec'"),
            ({"verb": ["open"]}, "no verb"),
            ({"verb": "open"}, "'backend' is None"),
            ({"verb": "open", "backend": {}}, "'backend' is {}"),
            ({"verb": "open", "backend": "os", "format": "x"}, "no runtime 'os'"),
            ({**NULL, "path": "/no/such"}, "no such file"),
            ({**NULL, "path": "a\0b"}, "must be text"),
            ({**NULL, "format": "tflite", "path": __file__}, "null opens null, not tflite"),
            ({**NULL, "path": __file__, "options": {"thread": 1}}, "no option 'thread'"),
            ({**NULL, "path": __file__, "options": [1]}, "must be an object"),
            ({**NULL, "path": __file__, "options": {"spin_ns": -1}}, "'spin_ns' is -1"),
            ({"verb": "infer", "model": []}, "no open model"),
            ({"verb": "infer", "model": True}, "no open model"),
            ({"verb": "infer", "model": 9}, "no open model 9"),
            ({"verb": "close"}, "no open model None"),
            ({"verb": "put", "sha256": "../../etc/passwd", "size": 1, "offset": 0}, "no SHA-256"),
            ({"verb": "put", "sha256": "0" * 64, "size": 1e9, "offset": 0}, "'size' is 1000000000.0"),
            ({"verb": "put", "sha256": "0" * 64, "size": -1, "offset": 0}, "'size' is -1"),
            ({"verb": "put", "sha256": "0" * 64, "size": 9, "offset": 4}, "a part of a file at 4, not at 0"),
            ({"verb": "missing", "files": "x"}, "must be a list of text"),
            ({"verb": "missing", "files": ["x"]}, "no SHA-256"),
            ({**NULL, "files": {"a": "0" * 64}, "main": "a"}, "was not sent"),
            ({**NULL, "files": {"a": "0" * 64}, "main": "../../../etc/passwd"}, "none of the files"),
            ({**NULL, "files": []}, "must be an object"),
        ],
    )
    def test_are_refused_in_words_and_the_agent_goes_on(self, talk: Talk, header, says: str) -> None:
        error = talk.error(header)
        assert error["kind"] == "usage"
        assert says in error["what"]
        assert "result" in talk.ask({"verb": "versions"})
        assert "Traceback" not in talk.said()

    def test_arrays_that_are_no_input_are_refused(self, talk: Talk) -> None:
        model = talk.open_null()
        for arrays in ([], [("z", X[0][1])], [*X, *X]):
            assert talk.error({"verb": "infer", "model": model}, arrays)["what"] == "the inputs are x"

    def test_an_array_of_a_dtype_of_objects_is_refused(self, talk: Talk) -> None:
        model = talk.open_null()
        entry = {"name": "x", "dtype": "object", "shape": [1], "bytes": 8}
        talk.send({"id": 1, "verb": "infer", "model": model, "arrays": [entry]}, [bytes(8)])
        error = talk.answer()[0]["error"]
        assert (error["kind"], "wrong description" in error["what"]) == ("usage", True)

    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack(">4sIQ", wire.MAGIC, wire.LARGEST_HEADER + 1, 0),
            struct.pack(">4sIQ", wire.MAGIC, 2, wire.LARGEST_BODY + 1),
            struct.pack(">4sIQ", wire.MAGIC, 3, 0) + b"[1]",
            struct.pack(">4sIQ", wire.MAGIC, 3, 0) + b"\xff\xfe\xfd",
        ],
    )
    def test_what_is_no_frame_ends_it_with_the_reason_in_the_log(self, talk: Talk, data: bytes) -> None:
        talk.raw(data)
        assert talk.wait() == 2
        assert re.search(r"^edgeconv agent: ", talk.said())
        assert left_in(talk.store) == []

    def test_a_frame_cut_short_ends_it(self, talk: Talk) -> None:
        talk.raw(struct.pack(">4sIQ", wire.MAGIC, 10, 0) + b"{")
        talk.requests.close()
        assert talk.wait() == 2
        assert "ended within a frame" in talk.said()


class TestFiles:
    def test_names_that_leave_their_folder_are_refused(self, talk: Talk) -> None:
        sha = hashlib.sha256(b"data").hexdigest()
        assert talk.put(b"data")["result"] == {"received": 4}
        for name in ("../x", "/tmp/x", "a/../../x", "", ".", "a/..", "x\0y"):
            error = talk.error({**NULL, "files": {name: sha}, "main": ""})
            assert "leaves its folder" in error["what"], name
        for files in ({"a": sha, "a/b": sha}, {"a/b": sha, "a": sha}, {"a": sha, "./a": sha}):
            assert talk.error({**NULL, "files": files})["kind"] == "usage"
        assert left_in(talk.store) == [f"files/{sha}"]

    def test_a_model_of_several_files_lies_in_a_folder_of_its_own_until_it_is_closed(
        self, talk: Talk
    ) -> None:
        sha = hashlib.sha256(b"data").hexdigest()
        talk.put(b"data")
        answer = talk.ask({**NULL, "files": {"variables/a": sha, "b": sha}, "main": ""})
        assert [name.split("/", 3)[-1] for name in left_in(talk.store) if name != f"files/{sha}"] == [
            "b",
            "variables/a",
        ]
        talk.ask({"verb": "close", "model": answer["result"]["model"]})
        assert left_in(talk.store) == [f"files/{sha}"]

    def test_a_file_in_parts_is_there_when_it_is_whole_and_not_before(self, talk: Talk) -> None:
        data = os.urandom(wire.CHUNK + 1000)
        sha = hashlib.sha256(data).hexdigest()
        first = {"verb": "put", "sha256": sha, "size": len(data), "offset": 0}
        talk.send({"id": 1, **first}, [data[: wire.CHUNK]])
        assert talk.answer()[0]["result"] == {"received": wire.CHUNK}
        assert talk.ask({"verb": "missing", "files": [sha]})["result"] == {"missing": [sha]}
        assert talk.put(data)["result"] == {"received": len(data)}  # from the start again
        assert talk.ask({"verb": "missing", "files": [sha]})["result"] == {"missing": []}
        assert (talk.store / "files" / sha).read_bytes() == data

    def test_a_file_that_is_not_what_its_hash_says_is_not_kept(self, talk: Talk) -> None:
        answer = talk.put(b"data", hashlib.sha256(b"other").hexdigest())
        assert answer["error"]["kind"] == "refused"
        assert left_in(talk.store) == []

    def test_more_than_was_announced_is_refused(self, talk: Talk) -> None:
        talk.send({"id": 1, "verb": "put", "sha256": "0" * 64, "size": 2, "offset": 0}, [b"abc"])
        assert talk.answer()[0]["error"]["kind"] == "usage"

    def test_a_store_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with Talk(tmp_path / "file") as talk:
            error = talk.put(b"data")["error"]
            assert (error["kind"], "cannot write to" in error["what"]) == ("unavailable", True)


class TestFullDisk:
    def test_is_said_with_what_helps_and_nothing_half_stays(self, small_disk: Path) -> None:
        with Talk(small_disk / "store") as talk:
            error = talk.put(os.urandom(3 << 20))["error"]
            assert error["kind"] == "space"
            assert f"the disk is full in {small_disk / 'store'}" in error["what"]
            assert "free some space" in error["hint"]
            assert left_in(talk.store) == []
            assert talk.put(b"small")["result"] == {"received": 5}

    def test_that_fills_up_while_a_file_arrives_is_said_too(self, small_disk: Path) -> None:
        with Talk(small_disk / "store") as talk:
            # Less is announced than comes to lie there: another program takes the room in between.
            data = os.urandom(1 << 20)
            talk.send({"id": 1, "verb": "put", "sha256": "0" * 64, "size": 2 << 20, "offset": 0}, [data])
            assert "result" in talk.answer()[0]
            (small_disk / "other").write_bytes(bytes(900 << 10))
            talk.send(
                {"id": 2, "verb": "put", "sha256": "0" * 64, "size": 2 << 20, "offset": 1 << 20}, [data]
            )
            assert talk.answer()[0]["error"]["kind"] == "space"
            assert left_in(talk.store) == []

    def test_as_a_limit_on_files_is_one_too(self, tmp_path: Path) -> None:
        import resource

        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

        with Talk(tmp_path / "store", limits=limited) as talk:
            assert talk.put(bytes(200_000))["error"]["kind"] == "space"
            assert left_in(talk.store) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here ({mounted.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class TestLibraries:
    def test_what_they_print_does_not_get_between_the_frames(self, library: tuple[Talk, int]) -> None:
        talk, model = library
        assert talk.ask({"verb": "infer", "model": model}, of(1))["arrays"]["x"] == [1.0]
        talk.requests.close()
        talk.wait()  # Python's own buffer is written when the agent ends at the latest
        for words in ("opening", "by Python", "by the C library", "by the system", "by a program"):
            assert words in talk.said()

    def test_what_they_raise_is_a_defect_and_the_agent_goes_on(self, library: tuple[Talk, int]) -> None:
        talk, model = library
        error = talk.error({"verb": "infer", "model": model}, of(2))
        assert (error["kind"], error["what"]) == ("defect", "KeyError: 'a defect'")
        assert "Traceback" in talk.said()
        assert "result" in talk.ask({"verb": "infer", "model": model}, of(0))

    @pytest.mark.parametrize("how", [3, 5])
    def test_too_little_memory_is_said_and_the_agent_goes_on(
        self, library: tuple[Talk, int], how: int
    ) -> None:
        talk, model = library
        assert talk.error({"verb": "infer", "model": model}, of(how))["kind"] == "memory"
        assert "result" in talk.ask({"verb": "infer", "model": model}, of(0))

    def test_a_long_inference_gives_signs_of_life(self, talk: Talk) -> None:
        model = talk.open_null(sleep_seconds=2.5)
        described, parts = wire.pack(X)
        talk.send({"id": 5, "verb": "infer", "model": model, "arrays": described}, parts)
        frames = []
        while not frames or frames[-1].get("id") != 5:
            frames.append(talk.frame()[0])
        assert len(frames) >= 2
        assert all(isinstance(frame["alive"], float) for frame in frames[:-1])


class TestEnds:
    def infer_long(self, talk: Talk, model: int) -> None:
        """Begin an inference that does not end, and return when it runs."""
        described, parts = wire.pack(of(6))
        talk.send({"id": 5, "verb": "infer", "model": model, "arrays": described}, parts)
        assert "alive" in talk.frame()[0]

    def held(self, talk: Talk) -> str:
        """A file and a model of it, so that there is something to leave behind; gives the file's hash."""
        talk.put(b"data")
        sha = hashlib.sha256(b"data").hexdigest()
        talk.ask({"verb": "open", "backend": "noisy", "format": "null", "files": {"a": sha}, "main": "a"})
        assert len(left_in(talk.store)) == 2
        return f"files/{sha}"

    def test_within_a_long_inference_when_its_input_ends(self, library: tuple[Talk, int]) -> None:
        talk, model = library
        whole = self.held(talk)
        self.infer_long(talk, model)
        talk.requests.close()
        assert talk.wait() == 3
        assert left_in(talk.store) == [whole]

    def test_within_a_long_inference_when_nobody_reads_any_more(self, library: tuple[Talk, int]) -> None:
        talk, model = library
        whole = self.held(talk)
        self.infer_long(talk, model)
        talk.answers.close()
        assert talk.wait() == 3
        assert left_in(talk.store) == [whole]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_within_a_long_inference_by_a_signal(self, library: tuple[Talk, int], number) -> None:
        talk, model = library
        whole = self.held(talk)
        self.infer_long(talk, model)
        talk.process.send_signal(number)
        assert talk.wait() == 128 + number
        assert left_in(talk.store) == [whole]

    def test_while_it_waits_by_a_signal(self, talk: Talk) -> None:
        talk.process.send_signal(signal.SIGTERM)
        assert talk.wait() == 128 + signal.SIGTERM

    def test_killed_within_a_request_the_next_one_clears_up(self, library: tuple[Talk, int]) -> None:
        talk, model = library
        whole = self.held(talk)
        self.infer_long(talk, model)
        talk.kill()
        assert len(left_in(talk.store)) == 2  # nothing can be done after SIGKILL
        with Talk(talk.store) as after:
            after.put(b"data of the next")
            kept = [name for name in left_in(talk.store) if not name.startswith("files/")]
            assert kept == []
            assert whole in left_in(talk.store)

    def test_clearing_up_leaves_those_that_are_running(self, library: tuple[Talk, int]) -> None:
        talk, _ = library
        self.held(talk)
        with Talk(talk.store) as other:
            other.put(b"another")
        assert len([name for name in left_in(talk.store) if name.startswith("sessions/")]) == 1

    def test_aborted_by_a_library(self, library: tuple[Talk, int]) -> None:
        talk, model = library
        described, parts = wire.pack(of(4))
        talk.send({"id": 5, "verb": "infer", "model": model, "arrays": described}, parts)
        assert talk.wait() == -signal.SIGABRT


class TestLimits:
    def test_a_body_that_does_not_fit_into_memory_is_an_error_and_the_next_request_is_answered(
        self, tmp_path: Path
    ) -> None:
        import resource

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))

        with Talk(tmp_path / "store", limits=limited, variables={"OPENBLAS_NUM_THREADS": "1"}) as talk:
            model = talk.open_null()
            big = np.zeros(150 << 20, np.float32)
            assert talk.error({"verb": "infer", "model": model}, [("x", big)])["kind"] == "memory"
            assert "result" in talk.ask({"verb": "infer", "model": model}, X)

    def test_it_is_the_first_to_go_when_memory_runs_out(self, talk: Talk) -> None:
        assert Path(f"/proc/{talk.process.pid}/oom_score_adj").read_text().strip() == "1000"

    def test_its_peak_of_memory_is_told_and_begins_anew_when_asked(self, talk: Talk) -> None:
        talk.ask({"verb": "infer", "model": talk.open_null()}, [("x", np.zeros(20 << 20, np.float32))])
        before = talk.ask({"verb": "memory", "reset": True})["result"]
        after = talk.ask({"verb": "memory"})["result"]
        assert before["peak_bytes"] > 80 << 20
        if before["reset"]:
            assert after["resident_bytes"] <= after["peak_bytes"] < before["peak_bytes"]


@functools.cache
def pythons() -> list[Path]:
    """The other Pythons of this machine, by version."""
    found = [Path(path) for v in range(8, 14) if (path := shutil.which(f"python3.{v}"))]
    found += sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    versions: dict[str, Path] = {}
    for python in found:
        ran = subprocess.run(
            [python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
        )
        if ran.returncode == 0 and int(ran.stdout.split(".")[1]) >= 8:
            versions.setdefault(ran.stdout.strip(), python)
    return list(versions.values())


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_another_python_without_numpy_takes_files_and_says_what_it_lacks(
    version: str, tmp_path: Path
) -> None:
    python = next((p for p in pythons() if f"{version}." in os.path.realpath(p) or version in p.name), None)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    program = "import numpy"
    if subprocess.run([python, "-I", "-c", program], capture_output=True).returncode == 0:
        pytest.skip(f"Python {version} has numpy here")
    with Talk(tmp_path / "store", python=python) as talk:
        assert ".".join(map(str, talk.greeting["python"])).startswith(version)
        assert talk.put(b"data")["result"] == {"received": 4}
        runtimes = talk.ask({"verb": "versions"})["result"]["runtimes"]
        assert runtimes["null"] == "1"
        assert runtimes["litert"] is None
        error = talk.error({"verb": "open", "backend": "litert", "format": "tflite", "path": __file__})
        assert (error["kind"], error["what"]) == ("unavailable", "litert is not installed for this Python")
        model = talk.open_null()
        described, parts = wire.pack(X)
        talk.send({"id": 9, "verb": "infer", "model": model, "arrays": described}, parts)
        error = talk.answer()[0]["error"]
        assert (error["kind"], error["hint"]) == ("unavailable", "pip install numpy")
        assert "numpy" in error["what"]
        assert "result" in talk.ask({"verb": "memory"})
        assert "result" in talk.ask({"verb": "probe"})


def test_no_clock_that_can_be_set_is_read() -> None:
    folder = Path(edgeconv.agent.__file__).parent
    for path in folder.rglob("*.py"):
        assert not re.search(r"\btime\.time\b|\btime_ns\(|datetime|gmtime|localtime", path.read_text()), path


def test_the_shipped_file_is_the_code_and_runs_from_anywhere(tmp_path: Path) -> None:
    copy = tmp_path / "agent.pyz"
    copy.write_bytes(agent_file().data)
    with Talk(tmp_path / "store", program=copy) as talk:
        assert talk.ask({"verb": "versions"})["result"]["runtimes"]["null"] == "1"
