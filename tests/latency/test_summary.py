"""A measurement in numbers, each only where launches and samples allow it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from latency.making import around, launch, measurement

from edgeconv.latency import causes
from edgeconv.latency.profile import OpTime, Profiled
from edgeconv.latency.records import Spoiled
from edgeconv.latency.summary import ratio, summarise


class TestNumbers:
    def test_the_median_is_that_of_launches_whatever_the_number_of_samples_in_each(self) -> None:
        launches = [launch(np.full((1, 5), 100), n) for n in range(6)] + [launch(np.full((900, 5), 200), 6)]
        assert summarise(measurement(launches)).latency.median == 100

    def test_no_interval_is_made_of_five_launches_and_one_is_of_six(self) -> None:
        assert summarise(measurement(around(1000, 5))).latency.low is None
        six = summarise(measurement(around(1000, 6))).latency
        assert six.low is not None
        assert six.high is not None
        assert six.low <= six.median <= six.high

    def test_a_percentile_has_the_samples_it_needs_or_is_none(self) -> None:
        found = summarise(measurement([launch(np.arange(661).reshape(1, -1) + 1)]))
        assert found.percentiles[0.9] == pytest.approx(595)
        assert found.percentiles[0.99] is None
        assert found.needed == {0.9: 64, 0.99: 662, 0.999: 6636}
        assert summarise(measurement([launch(np.arange(662).reshape(1, -1) + 1)])).percentiles[0.99]

    def test_throughput_load_memory_and_overhead(self) -> None:
        found = summarise(measurement([launch(np.full((10, 5), 2_000_000))]))
        assert found.per_second.median == 500
        assert found.load_seconds.median == 0.001
        assert (found.peak_bytes, found.model_bytes, found.overhead_ns) == (50e6, 10e6, 71)

    def test_spoiled_launches_are_left_out_and_counted_by_kind(self) -> None:
        hot = [
            dataclasses.replace(each, spoiled=(Spoiled("heat", "82 °C"), Spoiled("load", "")))
            for each in around(9000, 2)
        ]
        found = summarise(measurement([*around(1000, 6), *hot]))
        assert found.latency.median < 1100
        assert (found.launches, found.made) == (6, 8)
        assert found.spoiled == {"heat": 2, "load": 2}


class TestRatio:
    def test_is_of_launches_made_side_by_side_and_has_an_interval(self) -> None:
        found = ratio(measurement(around(2000, seed=1)), measurement(around(1000)))
        assert found is not None
        assert found.verdict == "slower"
        assert found.low is not None
        assert found.high is not None
        assert found.low <= 2.0 <= found.high

    def test_equals_show_no_difference(self) -> None:
        found = ratio(measurement(around(1000, seed=1)), measurement(around(1000)))
        assert found is not None
        assert found.verdict == "no difference shown"

    def test_an_emulated_board_is_never_compared_with_a_real_one(self) -> None:
        here, there = measurement(around(1000)), measurement(around(9000), device="rpi4", emulated=True)
        assert ratio(there, here) is None
        assert causes.reference_of(there, (here, there)) is None

    def test_nor_are_measurements_of_two_runs(self) -> None:
        assert ratio(measurement(around(1000)), measurement(around(1000), run="other")) is None


class TestWords:
    fp32 = measurement(around(1_000_000), name="a.fp32.tflite")

    def said(self, ops: dict[str, int] | None = None, told: Profiled | None = None, **fields: object) -> str:
        level = fields.pop("level", 1_000_000)
        int8 = measurement(
            around(float(str(level)), seed=1), name="a.int8.tflite", precision="int8", **fields
        )
        assert causes.reference_of(int8, (self.fp32, int8)) is self.fp32
        return "\n".join(causes.said(int8, self.fp32, ops or {}, told))

    def test_int8_that_is_faster_is_said_to_be_without_causes(self) -> None:
        lines = self.said(level=500_000).splitlines()
        assert lines[0].startswith("int8 is faster than fp32: 0.50 of its time (0.")
        assert len(lines) == 1

    def test_int8_that_is_not_faster_is_said_so_plainly(self) -> None:
        assert self.said().startswith("int8 is not faster here: 1.00 of the time of fp32 (")
        assert self.said(level=2_000_000).startswith("int8 is not faster here, but slower: 2.00 of")

    def test_a_processor_without_the_instructions_is_a_cause_and_one_with_them_is_none(self) -> None:
        assert "none of avx512-vnni, avx-vnni, amx-int8, which make int8 fast" in self.said()
        assert "which make int8 fast" not in self.said(features=["avx2", "avx512-vnni"])

    def test_ops_that_the_delegate_left_are_named(self) -> None:
        placement = {"asked": "xnnpack", "ran": {"xnnpack": 3, "cpu": 2}, "elsewhere": ["SOFTMAX", "PACK"]}
        assert "2 of its 5 ops are not run by xnnpack: SOFTMAX, PACK" in self.said(placement=placement)

    def test_ops_that_only_convert_are_counted_or_timed(self) -> None:
        assert "2 of its 4 ops only convert between types: DEQUANTIZE, QUANTIZE" in self.said(
            {"CONV_2D": 2, "QUANTIZE": 1, "DEQUANTIZE": 1}
        )
        ops = (OpTime("a", "CONV_2D", "xnnpack", 60.0), OpTime("b", "QUANTIZE", "cpu", 40.0))
        lines = self.said({}, Profiled("by test", ops, 0.4, "xnnpack"))
        assert "40% of its time only converts between types" in lines
        assert "40% of its time is outside xnnpack" in lines
        assert "most of its time, 60%, is CONV_2D (1 ops)" in lines

    def test_more_threads_are_compared_with_fewer_of_the_same_artifact(self) -> None:
        four = measurement(around(1_000_000, seed=2), name="a.fp32.tflite", threads=4)
        assert causes.reference_of(four, (self.fp32, four)) is self.fp32
        lines = causes.said(four, self.fp32, {})
        assert lines[0].startswith("4 threads is not faster here")
        assert lines[1] == "there are 2 cores"

    def test_artifacts_of_different_models_are_told_apart_by_their_names(self) -> None:
        other = measurement(around(2_000_000), name="b.fp32.tflite")
        int8 = measurement(around(500_000), name="b.int8.tflite", precision="int8")
        assert causes.reference_of(int8, (self.fp32, other, int8)) is other
        assert causes.reference_of(int8, (self.fp32, int8)) is self.fp32
        assert causes.reference_of(other, (self.fp32, other)) is self.fp32
        assert causes.said(int8, self.fp32, {})[0].startswith(
            "b.int8.tflite is faster than a.fp32.tflite: 0.50"
        )

    def test_of_few_launches_no_more_is_said_than_the_ratio(self) -> None:
        int8 = measurement(around(500_000, launches=3), name="a.int8.tflite", precision="int8")
        (line,) = causes.said(int8, measurement(around(1_000_000, launches=3), name="a.fp32.tflite"), {})
        assert line.startswith("int8 takes 0.50 of the time of fp32; launches are too few")

    def test_the_first_is_compared_with_nothing(self) -> None:
        assert causes.reference_of(self.fp32, (self.fp32,)) is None
