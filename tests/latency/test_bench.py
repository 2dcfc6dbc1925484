"""The harness with real agents: fresh processes that take turns, cool down, and break by themselves."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.local import LocalDevice
from edgeconv.devices.session import Wish
from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.latency import bench, records
from edgeconv.latency.bench import Case, Effort, null_model_ns, repository_commit
from edgeconv.latency.cutting import cut_after
from edgeconv.latency.profile import profile
from edgeconv.latency.records import Artifact
from edgeconv.latency.spoiled import Limits
from edgeconv.latency.summary import summarise

QUICK = Effort(launches=2, seconds=0.1)


def case(path: Path, fmt: str = "null", runtime: str = "null", **options: Any) -> Case:
    def inputs(contract: Any, specs: Any) -> Sequence[dict[str, Any]]:
        return [{spec.name: np.ones([size or 1 for size in spec.shape], spec.dtype) for spec in specs}]

    artifact = Artifact(path.name, "0" * 64, 1, fmt)
    wish = Wish(RuntimeChoice(runtime), options=options)
    return Case(artifact, path, None, LocalDevice(), wish, inputs)


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    path = tmp_path / "nothing.null"
    path.write_bytes(b"x")
    return path


@pytest.fixture
def null_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """The null model has no format of its own; its files are whatever file there is."""
    from edgeconv.devices import session

    real = session.format_named

    class Null:
        @staticmethod
        def files(path: Path) -> list[Path]:
            return [path]

    monkeypatch.setattr(session, "format_named", lambda name: Null if name == "null" else real(name))


@pytest.mark.usefixtures("null_format")
class TestTurns:
    def test_what_takes_known_time_is_measured_to_take_it_in_each_launch(self, nothing: Path) -> None:
        run = bench.run([case(nothing, spin_ns=1_000_000), case(nothing, spin_ns=4_000_000)], QUICK)
        short, long = run.measurements
        assert short.run == long.run
        assert [launch.number for launch in short.launches] == [0, 1]
        assert {a.place + b.place for a, b in zip(short.launches, long.launches, strict=True)} == {1}
        for measured, nanoseconds in ((short, 1_000_000), (long, 4_000_000)):
            for launch in measured.launches:
                assert launch.samples.min() >= nanoseconds
                assert len(launch.warm) > 0
                assert launch.first_ns is not None
                assert launch.first_ns >= nanoseconds
                assert launch.columns["begin"].shape == (len(launch.samples),)
                assert (launch.peak_bytes or 0) >= (launch.import_bytes or 0) > 0
        assert len(short.overhead_ns) == 2
        assert 0 < summarise(short).overhead_ns < 1_000_000  # type: ignore[operator]

    def test_all_of_it_goes_into_a_file_and_comes_back(self, nothing: Path, tmp_path: Path) -> None:
        run = bench.run([case(nothing)], QUICK)
        records.write(tmp_path / "m.json", run.measurements)
        assert records.read(tmp_path / "m.json") == run.measurements

    def test_one_that_breaks_does_not_stop_the_others(self, nothing: Path) -> None:
        run = bench.run([case(nothing, nonsense=1), case(nothing), case(nothing, "tflite", "litert")], QUICK)
        assert len(run.measurements) == 2  # an option that a back end does not know is not sent
        (broken,) = run.broken
        assert broken.case.artifact.format == "tflite"

    def test_where_all_break_the_first_error_is_raised(self, nothing: Path) -> None:
        with pytest.raises(EdgeconvError, match="not a TFLite model"):
            bench.run([case(nothing, "tflite", "litert")], QUICK)

    def test_nothing_to_measure_is_refused(self, nothing: Path) -> None:
        with pytest.raises(UsageError):
            bench.run([], QUICK)
        with pytest.raises(UsageError):
            bench.run([case(nothing)], Effort(launches=0))


@pytest.mark.usefixtures("null_format")
class TestHeat:
    def test_a_warm_device_is_waited_for_until_its_temperature_fell(
        self, nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        zone = tmp_path / "root/sys/class/thermal/thermal_zone0"
        zone.mkdir(parents=True)
        (zone / "type").write_text("cpu-thermal\n")
        sensor = zone / "temp"
        sensor.write_text("50000\n")
        monkeypatch.setenv("EDGECONV_AGENT_ROOT", f"{tmp_path / 'root'}/")
        monkeypatch.setattr(bench, "_COOL_POLL_SECONDS", 0.05)
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            if text.startswith("launch 1"):
                sensor.write_text("70000\n")
            if "waiting" in text:
                threading.Timer(0.5, sensor.write_text, ("52000\n",)).start()

        run = bench.run([case(nothing)], Effort(launches=3, seconds=0.1, limits=Limits(celsius=65)), say)
        first, second, third = run.measurements[0].launches
        assert first.cooled_seconds == 0.0
        assert [each.kind for each in first.spoiled if each.kind != "load"] == []
        assert second.cooled_seconds == 0.0  # it was cool when the launch before it ended
        assert [each.kind for each in second.spoiled if each.kind != "load"] == ["heat"]
        assert third.cooled_seconds > 0
        assert [each.kind for each in third.spoiled if each.kind != "load"] == []
        assert any("has 70 °C: waiting until it has 55" in text for text in said)


def test_the_null_model_alone_tells_what_the_harness_costs() -> None:
    assert null_model_ns(LocalDevice(), RuntimeChoice("null"), rounds=10) > 0


def test_the_commit_is_that_of_the_persons_repository(tmp_path: Path) -> None:
    assert repository_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert repository_commit(tmp_path) is None  # nothing was committed yet
    (tmp_path / "a").write_text("1")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    commit = repository_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "a").write_text("2")
    assert repository_commit(tmp_path) == f"{commit}-dirty"


class TestProfile:
    def test_a_tflite_file_that_is_cut_after_each_op_runs_and_gives_every_op_a_time(self, kws: Path) -> None:
        found = profile(case(kws, "tflite", "litert"), seconds=1.0)
        assert found.reason is None
        assert [op.op for op in found.ops].count("CONV_2D") == 5
        assert len(found.ops) == 13
        assert {op.by for op in found.ops} == {"xnnpack", "cpu"}
        assert found.outside is not None
        assert 0 <= found.outside < 1
        kinds = {kind: ns for kind, ns, _ in found.by_kind()}
        assert kinds["CONV_2D"] > kinds["RESHAPE"]

    def test_a_copy_cut_behind_the_last_op_computes_what_the_file_does(
        self, kws: Path, tmp_path: Path
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter

        data = kws.read_bytes()
        (tmp_path / "all.tflite").write_bytes(cut_after(data, 13))
        outputs = []
        for path in (kws, tmp_path / "all.tflite"):
            interpreter = Interpreter(str(path))
            interpreter.allocate_tensors()
            (fed,) = interpreter.get_input_details()
            interpreter.set_tensor(fed["index"], np.full(fed["shape"], 17, fed["dtype"]))
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
        assert np.array_equal(*outputs)

    @pytest.mark.parametrize("ops", [0, 14, 10**6])
    def test_it_cannot_be_cut_where_it_has_no_ops(self, kws: Path, ops: int) -> None:
        with pytest.raises(EdgeconvError, match="cannot be cut"):
            cut_after(kws.read_bytes(), ops)

    def test_a_damaged_file_is_refused(self, kws: Path) -> None:
        data = kws.read_bytes()
        for size in (0, 7, 40, 200):
            with pytest.raises(EdgeconvError):
                cut_after(data[:size], 1)

    @pytest.mark.usefixtures("null_format")
    def test_a_runtime_that_tells_nothing_is_said_to(self, nothing: Path) -> None:
        found = profile(case(nothing))
        assert found.ops == ()
        assert "does not tell" in str(found.reason)


@pytest.fixture
def kws(corpus: Path) -> Path:
    """A keyword spotter of 13 ops, quantized."""
    return corpus / "sm-mlperftiny/kws/kws_ref_model.tflite"
