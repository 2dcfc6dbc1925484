"""The gate judges each output by itself. Every trap that a well-known tool fell into is a test by name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from edgeconv.comparison.gate import judge, skipped
from edgeconv.comparison.observation import Observation, ProbeResult
from edgeconv.comparison.tolerances import TOLERANCES, Tolerance
from edgeconv.comparison.verdict import OutputVerdict, Verdict
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, Quantization, TensorSpec, to_json

FP32, FP16, INT8 = TOLERANCES["fp32"], TOLERANCES["fp16"], TOLERANCES["int8"]
RNG = np.random.default_rng(5)
Values = dict[str, np.ndarray]


def _contract(outputs: Values, quantization: dict[str, Quantization] | None = None) -> Contract:
    def kind(value: np.ndarray) -> str:
        return "string" if value.dtype.kind in "OSU" else value.dtype.name

    return Contract(
        (),
        tuple(
            TensorSpec(name, kind(value), value.shape, quantization=(quantization or {}).get(name))
            for name, value in outputs.items()
        ),
    )


def _observed(*outputs: Values, subject: str = "reference.pb") -> Observation:
    return Observation(subject, tuple(ProbeResult(f"probe {i}", one) for i, one in enumerate(outputs)))


def _judged(
    reference: Values | list[Values],
    candidate: Values | list[Values],
    tolerance: Tolerance = FP32,
    mapping: dict[str, str] | None = None,
    quantization: dict[str, Quantization] | None = None,
) -> Verdict:
    ones = reference if isinstance(reference, list) else [reference]
    twos = candidate if isinstance(candidate, list) else [candidate]
    return judge(
        _observed(*ones),
        _observed(*twos),
        _contract(ones[0]),
        _contract(twos[0], quantization),
        tolerance,
        mapping=mapping,
    )


def _one(reference: object, candidate: object, tolerance: Tolerance = FP32) -> OutputVerdict:
    (output,) = _judged({"y": np.asarray(reference)}, {"y": np.asarray(candidate)}, tolerance).outputs
    return output


def _f32(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


# The traps of design rule 5.


def test_trap_a_shared_zero_hides_no_relative_error() -> None:
    output = _one(np.float32([0.0, 1.0, 2.0]), np.float32([0.0, 1.5, 2.0]))
    assert output.verdict == "fail"
    assert output.max_rel == pytest.approx(0.5)
    assert output.worst_index == (1,)


def test_trap_a_reference_with_nan_is_never_perfect() -> None:
    values = np.float32([1.0, np.nan, 3.0])
    output = _one(values, values)
    assert output.verdict == "fail"
    assert "reference has NaN" in (output.reason or "")
    assert "[1]" in (output.reason or "")


def test_trap_a_trailing_axis_is_not_broadcast() -> None:
    values = _f32(1, 4)
    verdict = _judged({"y": values}, {"y": values.reshape(1, 4, 1)})
    assert verdict.verdict == "fail"
    assert "shape" in (verdict.reason or "") or "no such output" in (verdict.reason or "")


@pytest.mark.parametrize("tolerance", [FP32, FP16, INT8], ids=lambda t: t.precision)
@pytest.mark.parametrize("concatenated", [False, True], ids=["two outputs", "one tensor"])
@pytest.mark.parametrize("where", ["anchors", "classes"])
def test_trap_a_detector_with_a_quarter_of_its_scores_zeroed_fails_in_spite_of_large_boxes(
    tolerance: Tolerance, concatenated: bool, where: str
) -> None:
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0, 500, (1, 400, 4)).astype(np.float32)
    scores = (rng.random((1, 400, 8)) ** 6).astype(np.float32)
    broken = scores.copy()
    if where == "anchors":
        broken[:, :100] = 0
    else:
        broken[..., :2] = 0
    noise = 1 + rng.normal(0, 1e-6, boxes.shape).astype(np.float32)
    if concatenated:
        one = {"y": np.concatenate([boxes, scores], -1)}
        two = {"y": np.concatenate([boxes * noise, broken], -1)}
        honest = {"y": np.concatenate([boxes * noise, scores], -1)}
    else:
        one = {"boxes": boxes, "scores": scores}
        two = {"boxes": boxes * noise, "scores": broken}
        honest = {"boxes": boxes * noise, "scores": scores}
    assert _judged(one, honest, tolerance).verdict == "pass"
    verdict = _judged(one, two, tolerance)
    assert verdict.verdict == "fail"
    if not concatenated:
        assert [output.verdict for output in verdict.outputs] == ["pass", "fail"]


def test_trap_an_output_without_a_partner_fails() -> None:
    a, b = _f32(1, 3), _f32(1, 7)
    verdict = _judged({"a": a, "b": b}, {"a": a})
    assert verdict.verdict == "fail"
    assert verdict.outputs[1].reference_name == "b"
    assert "--map" in (verdict.hint or "")


def test_trap_an_output_that_the_reference_lacks_fails() -> None:
    a, b = _f32(1, 3), _f32(1, 7)
    verdict = _judged({"a": a}, {"a": a, "extra": b})
    assert verdict.verdict == "fail"
    assert verdict.outputs[-1].name == "extra"


# More ways to be fooled.


def test_equal_shapes_in_another_order_are_told_by_name_and_noted() -> None:
    a, b = _f32(1, 5), _f32(1, 5)
    verdict = _judged({"a": a, "b": b}, {"b": b, "a": a})
    assert verdict.verdict == "pass"
    assert any("order" in note for note in verdict.notes)


def test_two_outputs_that_swapped_their_names_fail_and_the_swap_is_said() -> None:
    a, b = _f32(1, 5), _f32(1, 5)
    verdict = _judged({"a": a, "b": b}, {"a": b, "b": a})
    assert verdict.verdict == "fail"
    assert "'b'" in (verdict.outputs[0].reason or "")


def test_lost_names_are_found_by_value() -> None:
    a, b = _f32(1, 5), _f32(1, 5)
    verdict = _judged({"a": a, "b": b}, {"StatefulPartitionedCall:0": b, "StatefulPartitionedCall:1": a})
    assert verdict.verdict == "pass"
    assert [output.name for output in verdict.outputs] == [
        "StatefulPartitionedCall:1",
        "StatefulPartitionedCall:0",
    ]


def test_a_scalar_is_not_a_vector_of_one() -> None:
    assert "shape" in (_judged({"y": np.float32([1.0])}, {"y": np.float32(1.0)}).reason or "shape")
    assert _judged({"y": np.float32([1.0])}, {"y": np.asarray(np.float32(1.0))}).verdict == "fail"


@pytest.mark.parametrize("tolerance", [FP32, INT8], ids=lambda t: t.precision)
def test_scalars_are_judged_too(tolerance: Tolerance) -> None:
    assert _one(np.float32(2.0), np.float32(2.0 + 1e-6), tolerance).verdict == "pass"
    assert _one(np.float32(2.0), np.float32(-2.0), tolerance).verdict == "fail"
    assert _one(np.float32(2.0), np.float32(np.nan), tolerance).verdict == "fail"
    assert _one(np.int64(2), np.int64(3)).verdict == "fail"
    assert _one(np.array(b"a", dtype=object), np.array(b"a", dtype=object)).verdict == "pass"


def test_another_type_is_no_pass() -> None:
    output = _one(np.float32([1, 2, 3]), np.float64([1, 2, 3]))
    assert (output.verdict, "type float64" in (output.reason or "")) == ("fail", True)
    assert _one(np.int64([1, 2]), np.int32([1, 2])).verdict == "fail"
    assert _one(np.float32([1, 0]), np.int8([1, 0]), INT8).reason == (
        "type int8 without scale and zero point, the reference has float32"
    )


def test_half_precision_outputs_are_accepted_only_where_half_precision_was_asked_for() -> None:
    values = _f32(1, 10)
    assert _one(values, values.astype(np.float16), FP16).verdict == "pass"
    assert _one(values, values.astype(np.float16), FP32).verdict == "fail"


def test_metrics_of_half_precision_do_not_overflow() -> None:
    values = np.full((1, 64), 6e4, np.float16)
    values[0, ::2] = -6e4
    output = _one(values, -values, FP16)
    assert output.verdict == "fail"
    assert output.max_abs == pytest.approx(2 * 6e4, rel=1e-3)


def test_unsigned_integers_do_not_wrap_round() -> None:
    output = _one(np.uint8([0, 10]), np.uint8([255, 10]))
    assert (output.verdict, output.max_abs) == ("fail", 255.0)


def test_large_integers_are_compared_exactly() -> None:
    output = _one(np.int64([2**62]), np.int64([2**62 + 1]))
    assert (output.verdict, output.max_abs) == ("fail", 1.0)


def test_minus_zero_is_zero() -> None:
    assert _one(np.float32([0.0, 1.0]), np.float32([-0.0, 1.0])).verdict == "pass"


def test_an_all_zero_reference_accepts_zero_and_nothing_else() -> None:
    zeros = np.zeros((1, 8), np.float32)
    assert _one(zeros, zeros).verdict == "pass"
    output = _one(zeros, zeros + np.float32(0.1))
    assert (output.verdict, output.max_rel) == ("fail", None)


def test_an_all_zero_candidate_fails_however_small_the_reference_is() -> None:
    values = _f32(1, 50) * np.float32(1e-11)
    for tolerance in (FP32, FP16, INT8):
        assert _one(values, values * 0, tolerance).verdict == "fail"


def test_a_constant_output_is_judged_by_its_value() -> None:
    ones = np.full((1, 32), 3.0, np.float32)
    assert _one(ones, ones).verdict == "pass"
    assert _one(ones, ones * np.float32(1.1)).verdict == "fail"
    assert _one(ones, ones * np.float32(1 + 1e-6)).verdict == "pass"


def test_outputs_that_are_always_empty_pass_and_say_so() -> None:
    output = _one(np.zeros((1, 0, 4), np.float32), np.zeros((1, 0, 4), np.float32))
    assert (output.verdict, output.reason) == ("pass", "empty on every probe")
    assert _one(np.zeros((1, 0, 4), np.float32), np.zeros((1, 2, 4), np.float32)).verdict == "fail"


def test_strings_are_compared_by_their_bytes() -> None:
    one = np.array([b"cat", b"dog"], dtype=object)
    assert _one(one, np.array(["cat", "dog"])).verdict == "pass"
    output = _one(one, np.array([b"cat", b"cow"], dtype=object))
    assert (output.verdict, output.worst_reference_value) == ("fail", "dog")
    assert _one(one, np.float32([1, 2])).verdict == "fail"


def test_nan_on_one_side_fails_and_names_the_side_and_the_place() -> None:
    one, two = _f32(2, 3), _f32(2, 3)
    two[:] = one
    two[1, 2] = np.nan
    output = _one(one, two)
    assert output.reason == "NaN in the candidate alone, first at [1, 2] (probe 'probe 0')"


def test_nan_in_both_can_be_allowed_and_the_rest_is_still_judged() -> None:
    one = _f32(1, 40)
    one[0, 3] = np.nan
    allowed = dataclasses.replace(FP32, allow_nan=True)
    assert _one(one, one, allowed).verdict == "pass"
    two = one.copy()
    two[0, 7] += 1
    assert _one(one, two, allowed).verdict == "fail"
    assert _one(one * np.nan, one * np.nan, allowed).verdict == "fail", "nothing is left to compare"


def test_the_same_infinity_is_a_value_and_another_is_not() -> None:
    one = np.float32([[-np.inf, 1.0, 2.0, -0.5]])
    assert _one(one, one).verdict == "pass"
    assert "infinity" in (_one(one, -one).reason or "")


def test_one_wrong_probe_fails() -> None:
    one = [{"y": _f32(1, 20)} for _ in range(5)]
    two = [dict(values) for values in one]
    two[3] = {"y": one[3]["y"] + np.float32(0.01)}
    verdict = _judged(one, two)
    assert verdict.verdict == "fail"
    assert verdict.outputs[0].worst_probe == "probe 3"


def test_a_small_probe_cannot_hide_behind_a_large_one() -> None:
    large, small = _f32(1, 20) * np.float32(1e4), _f32(1, 20)
    assert _judged([{"y": large}, {"y": small}], [{"y": large}, {"y": small * 0}]).verdict == "fail"


def test_one_wrong_item_of_a_batch_fails_a_quantized_model() -> None:
    one = _f32(8, 40)
    two = one.copy()
    two[5] = 0
    assert _one(one, one + RNG.normal(0, 0.03, one.shape).astype(np.float32), INT8).verdict == "pass"
    assert _one(one, two, INT8).verdict == "fail"


def test_swapped_channels_of_a_feature_map_are_named() -> None:
    one = _f32(1, 12, 12, 32)
    two = one + RNG.normal(0, 0.03, one.shape).astype(np.float32)
    two[..., [4, 9]] = two[..., [9, 4]]
    output = _one(one, two, INT8)
    assert (output.verdict, output.channel) == ("fail", 4)
    assert "channel 9" in (output.reason or "")


def test_stored_values_are_dequantized_before_they_are_compared() -> None:
    real = np.float32([[-1.0, -0.5, 0.25, 0.75]])
    quantization = Quantization((0.01,), (5,))
    stored = np.rint(real / 0.01 + 5).astype(np.int8)
    verdict = _judged({"y": real}, {"y": stored}, INT8, quantization={"y": quantization})
    assert verdict.verdict == "pass"
    assert verdict.outputs[0].max_abs == pytest.approx(0.0, abs=1e-6)
    wrong = _judged({"y": real}, {"y": stored}, INT8, quantization={"y": Quantization((0.02,), (5,))})
    assert wrong.verdict == "fail"


def test_a_signal_that_is_lost_below_one_step_fails_and_says_so() -> None:
    uniform = np.full((1, 1000), 1e-3, np.float32)
    output = _one(uniform, uniform * 0, INT8)
    assert output.verdict == "fail"
    assert "nowhere larger than one quantization step" in (output.reason or "")
    assert _one(uniform, uniform * np.float32(1.01), INT8).verdict == "pass"
    assert _one(uniform, uniform * 0, FP16).verdict == "fail"


def test_what_is_not_deterministic_is_no_conversion_error() -> None:
    one = _observed({"y": np.float32([1.0])})
    shaky = Observation("x", (ProbeResult("probe 0", {"y": np.float32([2.0])}, unstable=("y",)),))
    contract = _contract({"y": np.float32([1.0])})
    verdict = judge(shaky, one, contract, contract, FP32)
    assert "not deterministic: the reference" in (verdict.reason or "")
    assert "random" in (verdict.hint or "")


def test_a_probe_that_the_reference_refuses_is_left_out_and_noted() -> None:
    values = {"y": _f32(1, 4)}
    contract = _contract(values)
    one = Observation("r", (ProbeResult("a", values), ProbeResult("b", error="batch 2 does not fit")))
    two = Observation("c", (ProbeResult("a", values), ProbeResult("b", values)))
    verdict = judge(one, two, contract, contract, FP32)
    assert (verdict.verdict, verdict.inputs) == ("pass", ("a",))
    assert any("batch 2" in note for note in verdict.notes)
    refused = judge(two, one, contract, contract, FP32)
    assert refused.verdict == "fail"
    assert "candidate refuses" in (refused.reason or "")


def test_nothing_to_compare_is_no_pass() -> None:
    values = {"y": _f32(1, 4)}
    contract = _contract(values)
    with pytest.raises(UsageError, match="no probe"):
        judge(Observation("r", ()), Observation("c", ()), contract, contract, FP32)
    with pytest.raises(UsageError, match="same probes"):
        judge(_observed(values), _observed(values, values), contract, contract, FP32)
    with pytest.raises(UsageError, match="no outputs"):
        judge(_observed({}), _observed({}), Contract((), ()), Contract((), ()), FP32)
    assert skipped("needs Flex").verdict == "skipped"


# Ties.


def test_an_argmax_at_a_tie_is_accepted_with_its_scores_as_evidence() -> None:
    scores = np.float32([[0.1, 0.7, 0.7 - 1e-7], [0.9, 0.1, 0.3]])
    one = {"scores": scores, "label": scores.argmax(-1)}
    other = scores.copy()
    other[0, 2] += 2e-7
    two = {"scores": other, "label": other.argmax(-1)}
    verdict = _judged(one, two)
    assert verdict.verdict == "pass"
    assert "1 indices differ" in (verdict.outputs[1].reason or "")
    wrong = {"scores": other, "label": np.int64([2, 1])}
    assert _judged(one, wrong).verdict == "fail", "the second row is no tie"
    assert _judged({"label": one["label"]}, {"label": two["label"]}).verdict == "fail", "no evidence"


def test_detections_in_another_order_are_accepted_only_where_their_scores_tie() -> None:
    scores = np.float32([[0.9, 0.5, 0.5, 0.2]])
    boxes = _f32(1, 4, 4)
    order = [0, 2, 1, 3]
    verdict = _judged({"boxes": boxes, "scores": scores}, {"boxes": boxes[:, order], "scores": scores})
    assert verdict.verdict == "pass"
    assert "another order" in (verdict.outputs[0].reason or "")
    wrong = {"boxes": boxes[:, [1, 0, 2, 3]], "scores": scores}
    assert _judged({"boxes": boxes, "scores": scores}, wrong).verdict == "fail"


# What it is for.


@pytest.mark.parametrize("broken", ["zero", "sign", "shift", "half", "quarter", "training"])
@pytest.mark.parametrize("precision", list(TOLERANCES))
def test_broken_logits_fail_at_every_precision_and_honest_noise_passes(precision: str, broken: str) -> None:
    rng = np.random.default_rng(9)
    ones = [rng.normal(0, 1, (1, 1000)).astype(np.float32) for _ in range(3)]
    noise = {"fp32": 1e-6, "fp16": 1e-3, "dynamic": 0.05, "int8": 0.15, "int16x8": 0.02}[precision]
    honest = [(y + rng.normal(0, noise, y.shape)).astype(np.float32) for y in ones]
    keep = rng.random((1, 1000)) > 0.25
    change = {
        "zero": lambda y: y * 0,
        "sign": lambda y: -y,
        "shift": lambda y: np.roll(y, 1, -1),
        "half": lambda y: y * np.float32(0.5),
        "quarter": lambda y: (y * keep).astype(np.float32),
        "training": lambda y: y + rng.normal(0, 0.6, y.shape).astype(np.float32),
    }[broken]
    tolerance = TOLERANCES[precision]
    assert _judged([{"y": y} for y in ones], [{"y": y} for y in honest], tolerance).verdict == "pass"
    assert _judged([{"y": y} for y in ones], [{"y": change(y)} for y in honest], tolerance).verdict == "fail"


def test_a_verdict_goes_to_json_without_loss() -> None:
    one = {
        "y": np.float32([[1, 2, np.inf]]),
        "s": np.array([b"a"], dtype=object),
        "z": np.zeros(3, np.float32),
    }
    text = json.dumps(to_json(_judged(one, one)), allow_nan=False)
    assert json.loads(text)["verdict"] == "pass"
    assert json.loads(text)["tolerance"]["precision"] == "fp32"
