"""What a check of a TFLite file says: the op, its version or types, the first release that takes it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tflite_files import FILES, write

from edgeconv.checking._tflite_tables import around, numbers, releases
from edgeconv.checking.base import RuntimeVerdict, checker_for
from edgeconv.checking.tflite import CHECKER, refused_operators

OLD, LITERT = ("tflite-runtime", "2.14.0"), "ai-edge-litert"


def check(tmp_path: Path, name: str, runtime: str, version: str) -> RuntimeVerdict:
    problems = CHECKER.check(write(tmp_path, name), runtime, version)
    return RuntimeVerdict(runtime, version, tuple(problems))


def test_it_is_found_for_both_runtimes():
    assert checker_for("tflite", "tflite-runtime") is CHECKER
    assert checker_for("tflite", LITERT) is CHECKER


def test_a_plain_model_runs_in_every_measured_release(tmp_path):
    for runtime in CHECKER.runtimes:
        for release in releases(runtime):
            assert check(tmp_path, "plain", runtime, release.version).problems == ()


def test_the_version_of_an_op_is_named_with_what_the_runtime_has(tmp_path):
    (problem,) = check(tmp_path, "dense with a scale for each output", *OLD).problems
    assert problem.code == "op-version"
    assert "FULLY_CONNECTED version 12" in problem.what
    assert "tflite-runtime 2.14.0 has it up to 10" in problem.what
    assert "--target" in str(problem.hint)
    assert check(tmp_path, "dense with one scale", *OLD).verdict == "runs"
    assert check(tmp_path, "dense with a scale for each output", LITERT, "1.0.1").verdict == "runs"


def test_types_that_a_kernel_refuses_are_named_with_the_first_release_that_takes_them(tmp_path):
    (problem,) = check(tmp_path, "division in int8", LITERT, "1.2.0").problems
    assert (problem.code, problem.first) == ("op-kind", "1.4.0")
    assert "refuses DIV int8,int8" in problem.what
    assert check(tmp_path, "division in int8", LITERT, "1.4.0").verdict == "runs"


def test_a_fault_of_some_releases_is_told_of_those_alone(tmp_path):
    verdicts = {
        release.version: check(tmp_path, "depthwise in float16", LITERT, release.version).verdict
        for release in releases(LITERT)
    }
    refused = [version for version, verdict in verdicts.items() if verdict == "refused"]
    assert refused == ["1.1.2", "1.2.0", "1.3.0"]
    (problem,) = check(tmp_path, "depthwise in float16", LITERT, "1.2.0").problems
    assert problem.first == "1.4.0"


def test_float16_weights_whose_bias_is_float16_too_run_in_all(tmp_path):
    name = "depthwise in float16 with its bias"
    assert {check(tmp_path, name, LITERT, r.version).verdict for r in releases(LITERT)} == {"runs"}


def test_a_slice_that_drops_a_dimension_is_left_to_a_kernel_of_five(tmp_path):
    """XNNPACK of LiteRT takes a slice of six dimensions, as long as it keeps them all."""
    assert check(tmp_path, "a slice of six dimensions", LITERT, "1.1.2").verdict == "runs"
    (problem,) = check(tmp_path, "a slice that drops one of six dimensions", LITERT, "1.1.2").problems
    assert "STRIDED_SLICE float32 6d into another number of dimensions" in problem.what


def test_what_a_quantizer_left_half_done_is_refused_by_all(tmp_path):
    for runtime in CHECKER.runtimes:
        for release in releases(runtime):
            (problem,) = check(tmp_path, "an integer padded with a float", runtime, release.version).problems
            assert "PADV2 int8,int32,float32" in problem.what


def test_an_op_without_any_tensors_is_no_defect(tmp_path):
    assert check(tmp_path, "an op without tensors", LITERT, "1.0.1").verdict == "runs"


def test_an_input_that_the_old_binding_cannot_be_given_is_told(tmp_path):
    (problem,) = check(tmp_path, "an input of uint16", *OLD).problems
    assert (problem.code, problem.severity) == ("input-type", "refused")
    assert check(tmp_path, "an input of uint16", LITERT, "1.0.1").verdict == "runs"


def test_a_split_with_an_unread_part_stops_the_first_litert(tmp_path):
    assert check(tmp_path, "a part that nothing reads", LITERT, "1.0.1").verdict == "refused"
    assert check(tmp_path, "a part that nothing reads", LITERT, "1.1.2").verdict == "runs"


def test_a_variable_that_nothing_assigned_cannot_be_read_in_old_releases(tmp_path):
    (problem,) = check(tmp_path, "a variable that nothing assigned", LITERT, "1.2.0").problems
    assert problem.first == "1.3.0"
    assert "READ_VARIABLE" in problem.what
    assert check(tmp_path, "a variable that nothing assigned", LITERT, "1.3.0").verdict == "runs"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("a custom op", "custom-op", "NobodyKnowsThis"),
        ("a TensorFlow op", "flex", "Erf"),
        ("scales along no dimension", "quantized-dimension", "dimension 3"),
    ],
)
def test_what_no_release_takes(tmp_path, name, code, said):
    for release in releases(LITERT):
        (problem,) = check(tmp_path, name, LITERT, release.version).problems
        assert (problem.code, problem.first) == (code, None)
        assert said in problem.what
    assert CHECKER.first_runtime(write(tmp_path, name), LITERT) is None


def test_the_first_release_in_which_all_of_a_file_runs(tmp_path):
    assert CHECKER.first_runtime(write(tmp_path, "plain"), LITERT) == "1.0.1"
    assert CHECKER.first_runtime(write(tmp_path, "division in int8"), LITERT) == "1.4.0"
    assert CHECKER.first_runtime(write(tmp_path, "dense with a scale for each output"), OLD[0]) is None


def test_many_ops_of_one_kind_are_one_problem(tmp_path):
    from tflite_builder import Builder

    b = Builder()
    x = b.tensor("x", [1])
    outputs = [b.tensor(f"y{i}", [1]) for i in range(3)]
    for y in outputs:
        b.op("NobodyKnowsThis", [x], [y])
    b.ends([x], outputs)
    path = tmp_path / "three.tflite"
    path.write_bytes(b.bytes())
    (problem,) = CHECKER.check(path, *OLD)
    assert problem.where == "subgraph 0, operator 0"


def test_releases_between_two_that_agree_are_judged_by_them(tmp_path):
    verdict = check(tmp_path, "plain", LITERT, "2.1.3")
    assert verdict.verdict == "runs"
    assert [problem.severity for problem in verdict.problems] == ["note"]
    assert check(tmp_path, "division in int8", LITERT, "1.3.5").verdict == "unknown"


def test_of_older_releases_only_refusals_are_known(tmp_path):
    assert check(tmp_path, "plain", "tflite-runtime", "2.12.0").verdict == "unknown"
    name = "dense with a scale for each output"
    assert check(tmp_path, name, "tflite-runtime", "2.12.0").verdict == "refused"


def test_nobody_knows_what_newer_releases_take(tmp_path):
    verdict = check(tmp_path, "plain", LITERT, "99.0")
    assert verdict.verdict == "unknown"
    assert "2.3.0" in str(verdict.problems[0].hint)


def test_the_refused_operators_can_be_asked_for(tmp_path):
    assert refused_operators(write(tmp_path, "division in int8"), *OLD) == {"DIV"}
    assert refused_operators(write(tmp_path, "plain"), *OLD) == frozenset()


def test_no_release_has_fewer_versions_of_an_op_than_the_one_before():
    for runtime in CHECKER.runtimes:
        known = releases(runtime)
        assert known == tuple(sorted(known, key=lambda release: numbers(release.version)))
        for older, newer in itertools.pairwise(known):
            for name, (_, highest) in older.operators.items():
                assert newer.operators[name][1] >= highest, (name, newer.version)


def test_at_least_six_releases_and_the_runtime_of_2023_are_measured():
    assert len(releases(LITERT)) >= 6
    assert around(*OLD) == (releases(OLD[0])[-1],) * 2


def test_every_small_file_is_refused_by_some_release_or_taken_by_all(tmp_path):
    """So that the test against the real runtimes says something."""
    verdicts = {check(tmp_path, name, *OLD).verdict for name in FILES}
    assert verdicts == {"runs", "refused"}
