"""Detections are judged as a set of matched boxes with scores and classes. Each trap is a test by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.comparison.detections import find_group, find_unbatched, ious, judge_unbatched
from edgeconv.comparison.gate import judge
from edgeconv.comparison.observation import Observation, ProbeResult
from edgeconv.comparison.tolerances import TOLERANCES, Tolerance
from edgeconv.comparison.verdict import Verdict
from edgeconv.formats.base import Contract, TensorSpec

FP32, INT8 = TOLERANCES["fp32"], TOLERANCES["int8"]
Values = dict[str, np.ndarray]
ROWS = 20


def detections(seed: int = 1, found: int = 12, scores: np.ndarray | None = None) -> Values:
    """What a detector of the Object Detection API gives: ``found`` rows, the rest padding of zeros."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.6, (found, 2))
    boxes = np.zeros((1, ROWS, 4), np.float32)
    boxes[0, :found] = np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (found, 2))], axis=1)
    given_scores = np.zeros((1, ROWS), np.float32)
    given_scores[0, :found] = np.sort(rng.uniform(0.2, 1, found))[::-1] if scores is None else scores
    classes = np.ones((1, ROWS), np.float32)
    classes[0, :found] = rng.integers(1, 4, found)
    return {
        "detection_boxes": boxes,
        "detection_scores": given_scores,
        "detection_classes": classes,
        "num_detections": np.float32([found]),
    }


def permuted(values: Values, order: list[int]) -> Values:
    """The first rows in another order."""
    result = {name: array.copy() for name, array in values.items()}
    for name in ("detection_boxes", "detection_scores", "detection_classes"):
        result[name][0, : len(order)] = values[name][0, order]
    return result


def noisy(values: Values, size: float, seed: int = 3) -> Values:
    rng = np.random.default_rng(seed)
    result = {name: array.copy() for name, array in values.items()}
    found = int(values["num_detections"][0])
    for name in ("detection_boxes", "detection_scores"):
        part = result[name][0, :found]
        part += rng.uniform(-size, size, part.shape).astype(np.float32)
    return result


def judged(reference: Values, candidate: Values, tolerance: Tolerance = FP32) -> Verdict:
    def contract(values: Values) -> Contract:
        return Contract((), tuple(TensorSpec(n, v.dtype.name, v.shape) for n, v in values.items()))

    def observed(values: Values) -> Observation:
        return Observation("detector.pb", (ProbeResult("probe 0", values),))

    return judge(
        observed(reference), observed(candidate), contract(reference), contract(candidate), tolerance
    )


def test_equal_detections_pass_and_say_how_many_were_matched() -> None:
    verdict = judged(detections(), detections())
    assert verdict.verdict == "pass"
    assert verdict.outputs[0].reason == "12 of 12 detections matched, least overlap 1"


def test_equal_scores_in_another_order_pass() -> None:
    reference = detections(scores=np.full(12, 0.5, np.float32))
    verdict = judged(reference, permuted(reference, [11, 3, 4, 0, 1, 2, 10, 9, 8, 7, 6, 5]))
    assert verdict.verdict == "pass"


def test_scores_that_tie_within_rounding_pass_in_another_order() -> None:
    reference = detections(scores=np.linspace(0.5, 0.49999, 12).astype(np.float32))
    candidate = permuted(reference, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10])
    candidate["detection_scores"] = reference["detection_scores"]
    assert judged(reference, candidate).verdict == "pass"


def test_trap_a_quarter_of_the_scores_zeroed_fails() -> None:
    for tolerance in TOLERANCES.values():
        candidate = detections()
        candidate["detection_scores"][0, 0:12:4] = 0
        verdict = judged(detections(), candidate, tolerance)
        assert verdict.verdict == "fail", tolerance.precision
        assert "has no partner" in (verdict.reason or "")


def test_trap_a_missing_box_fails() -> None:
    reference = detections()
    candidate = permuted(reference, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 11])
    for name in ("detection_boxes", "detection_scores"):
        candidate[name][0, 11] = 0
    candidate["num_detections"] = np.float32([11])
    verdict = judged(reference, candidate)
    assert verdict.verdict == "fail"
    assert "detection 3" in (verdict.reason or "")


def test_trap_a_box_too_many_fails() -> None:
    verdict = judged(detections(found=11), detections(found=12))
    assert verdict.verdict == "fail"


def test_trap_one_wrong_class_fails() -> None:
    candidate = detections()
    candidate["detection_classes"][0, 5] += 1
    verdict = judged(detections(), candidate)
    assert verdict.verdict == "fail"
    assert "of class" in (verdict.reason or "")


def test_trap_one_moved_box_fails() -> None:
    candidate = detections()
    candidate["detection_boxes"][0, 2] += 0.05
    assert judged(detections(), candidate).verdict == "fail"


def test_trap_two_boxes_that_swapped_their_scores_fail() -> None:
    candidate = detections()
    candidate["detection_scores"][0, [0, 11]] = candidate["detection_scores"][0, [11, 0]]
    assert judged(detections(), candidate).verdict == "fail"


def test_trap_nan_fails() -> None:
    candidate = detections()
    candidate["detection_boxes"][0, 2, 1] = np.nan
    verdict = judged(detections(), candidate)
    assert verdict.verdict == "fail"
    assert "NaN" in (verdict.reason or "")


def test_padding_may_hold_anything() -> None:
    candidate = detections()
    candidate["detection_boxes"][0, 12:] = 7
    candidate["detection_classes"][0, 12:] = 99
    assert judged(detections(), candidate).verdict == "pass"


def test_without_a_count_the_last_score_ends_the_detections() -> None:
    reference, candidate = detections(), detections()
    for values in (reference, candidate):
        del values["num_detections"]
    candidate["detection_boxes"][0, 12:] = 7
    assert judged(reference, candidate).verdict == "pass"
    candidate["detection_scores"][0, 11] = 0
    assert judged(reference, candidate).verdict == "fail"


def test_where_the_list_is_full_those_that_tie_with_its_last_may_be_others() -> None:
    scores = np.concatenate([np.linspace(0.9, 0.6, 19), [0.5]]).astype(np.float32)
    reference, candidate = (detections(found=ROWS, scores=scores) for _ in range(2))
    candidate["detection_boxes"][0, 19] = [0.0, 0.0, 0.05, 0.05]
    assert judged(reference, candidate).verdict == "pass"
    # Not so where there was room left.
    reference, candidate = detections(found=19), detections(found=19)
    candidate["detection_boxes"][0, 18] = [0.0, 0.0, 0.05, 0.05]
    assert judged(reference, candidate).verdict == "fail"


def test_honest_noise_passes_and_more_of_it_fails() -> None:
    reference = detections()
    assert judged(reference, noisy(reference, 1e-6)).verdict == "pass"
    assert judged(reference, noisy(reference, 1e-2)).verdict == "fail"
    assert judged(reference, noisy(reference, 8e-3), INT8).verdict == "pass"
    assert judged(reference, noisy(reference, 0.15), INT8).verdict == "fail"


def test_the_precision_says_how_many_may_be_lost() -> None:
    reference = detections(found=ROWS)
    candidate = {name: array.copy() for name, array in reference.items()}
    candidate["num_detections"] = np.float32([ROWS - 1])
    assert judged(reference, candidate).verdict == "fail"
    assert judged(reference, candidate, INT8).verdict == "pass"
    strict = dataclasses.replace(INT8, mismatched=0.0)
    assert judged(reference, candidate, strict).verdict == "fail"


def test_all_scores_of_the_classes_follow_their_rows() -> None:
    reference = detections(scores=np.full(12, 0.5, np.float32))
    reference["detection_multiclass_scores"] = (
        np.random.default_rng(0).random((1, ROWS, 4)).astype(np.float32)
    )
    order = [1, 0, *range(2, 12)]
    candidate = permuted(reference, order)
    candidate["detection_multiclass_scores"][0, :12] = reference["detection_multiclass_scores"][0, order]
    assert judged(reference, candidate).verdict == "pass"
    candidate["detection_multiclass_scores"][0, 0, 0] += 0.2
    assert judged(reference, candidate).verdict == "fail"


def test_boxes_in_pixels_are_judged_alike() -> None:
    reference, candidate = detections(), noisy(detections(), 1e-6)
    for values in (reference, candidate):
        values["detection_boxes"] = values["detection_boxes"] * 640
    assert judged(reference, candidate).verdict == "pass"
    candidate["detection_boxes"][0, 2] += 20
    assert judged(reference, candidate).verdict == "fail"


def test_boxes_without_area_are_matched_by_their_corners() -> None:
    reference, candidate = detections(), detections()
    for values in (reference, candidate):
        values["detection_boxes"][0, 4] = 0
    assert judged(reference, candidate).verdict == "pass"


def test_a_wrong_type_fails_however_the_boxes_match() -> None:
    candidate = detections()
    candidate["num_detections"] = candidate["num_detections"].astype(np.int32)
    verdict = judged(detections(), candidate)
    assert verdict.verdict == "fail"
    assert "type" in (verdict.reason or "")


def test_many_rows_are_judged_too() -> None:
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 0.6, (1, 300, 2)).astype(np.float32)
    reference = {
        "detection_boxes": np.concatenate([corners, corners + 0.2], axis=2),
        "detection_scores": np.full((1, 300), 0.5, np.float32),
        "detection_classes": np.ones((1, 300), np.float32),
    }
    order = rng.permutation(300)
    candidate = {name: array[:, order] for name, array in reference.items()}
    assert judged(reference, candidate).verdict == "pass"
    candidate["detection_boxes"] = candidate["detection_boxes"].copy()
    candidate["detection_boxes"][0, 7] = 0
    assert judged(reference, candidate).verdict == "fail"


@pytest.mark.parametrize(
    "names",
    [
        ("detection_boxes", "detection_scores", "detection_classes", "num_detections"),
        ("nmsed_boxes", "nmsed_scores", "nmsed_classes", "valid_detections"),
        (
            "detector/detection_boxes:0",
            "detector/detection_scores:0",
            "x/detection_classes",
            "num_detections",
        ),
    ],
)
def test_they_are_found_by_name_and_shape(names: tuple[str, str, str, str]) -> None:
    values = {name: [array] for name, array in zip(names, detections().values(), strict=True)}
    group = find_group(values)
    assert group is not None
    assert group.names == names


def test_what_only_looks_like_detections_is_left_to_the_other_rules() -> None:
    values = {name: [array] for name, array in detections().items()}
    assert find_group({n: v for n, v in values.items() if n != "detection_scores"}) is None
    raw = {**values, "detection_boxes": [np.zeros((1, 50, 4), np.float32)]}
    assert find_group(raw) is None
    assert find_group({"boxes": values["detection_boxes"], "y": values["detection_scores"]}) is None


def test_overlap_by_hand() -> None:
    one = np.array([[0.0, 0.0, 2.0, 2.0]])
    two = np.array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0], [2.0, 2.0, 0.0, 0.0]])
    assert ious(one, two)[0].tolist() == pytest.approx([1 / 7, 1.0, 0.0, 1.0])


@settings(max_examples=40, deadline=None)
@given(st.permutations(list(range(12))), st.integers(0, 5))
def test_no_order_of_equal_scores_matters(order: list[int], seed: int) -> None:
    reference = detections(seed, scores=np.full(12, 0.5, np.float32))
    assert judged(reference, permuted(reference, order)).verdict == "pass"


def lists(order, scores=(0.9, 0.8000001, 0.8, 0.3)):
    """What a detector gives for one image: as many rows as it found, in the order of ``order``."""
    boxes = np.float32([[0, 0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9], [0, 0.5, 0.4, 1], [0.5, 0, 1, 0.3]])
    order = list(order)
    return {
        "a": [boxes[order]],
        "b": [np.float32(scores)[order]],
        "c": [np.int64([2, 1, 1, 0])[order]],
    }


def test_lists_of_detections_of_one_image_are_matched_whatever_their_names():
    said = judge_unbatched(lists([0, 1, 2, 3]), lists([0, 2, 1, 3]), TOLERANCES["fp32"])
    assert set(said) == {"a", "b", "c"}
    assert all(each.passes for each in said.values())


def test_a_detection_that_is_missing_from_a_list_fails_in_fp32():
    said = judge_unbatched(lists([0, 1, 2, 3]), lists([0, 1, 2]), TOLERANCES["fp32"])
    assert not any(each.passes for each in said.values())
    assert "has no partner" in said["a"].reason


def test_a_wrong_class_in_a_list_fails():
    wrong = lists([0, 1, 2, 3])
    wrong["c"][0][0] = 1
    said = judge_unbatched(lists([0, 1, 2, 3]), wrong, TOLERANCES["fp32"])
    assert not any(each.passes for each in said.values())


def test_lists_that_are_not_clearly_detections_are_none():
    two = {**lists([0, 1, 2, 3]), "d": [np.float32([1, 2, 3, 4])]}
    assert find_unbatched(two) is None
    anchors = {"a": [np.zeros((3000, 4), np.float32)], "b": [np.zeros(3000, np.float32)]}
    assert find_unbatched(anchors) is None
    uneven = {"a": [np.zeros((3, 4), np.float32)], "b": [np.zeros(2, np.float32)]}
    assert find_unbatched(uneven) is None
