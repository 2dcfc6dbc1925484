"""What each release of ONNX Runtime takes: IR, opsets, ops with their types, bodies, ORT files."""

import itertools
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from onnx_files import FILES, one, write

from edgeconv.checking._onnx_tables import release_of, releases
from edgeconv.checking.base import checker_for
from edgeconv.checking.onnx import CHECKER, newest_opset
from edgeconv.errors import InvalidModelError

RUNTIME = "onnxruntime"


def problems(path: Path, version: str):
    return CHECKER.check(path, RUNTIME, version)


def test_the_checker_is_found_for_both_formats():
    assert checker_for("onnx", RUNTIME) is CHECKER
    assert checker_for("ort", RUNTIME) is CHECKER


def test_an_op_that_all_have_runs_in_all(tmp_path):
    path = one(tmp_path, "Relu")
    for release in releases():
        assert problems(path, release.version) == []
    assert CHECKER.first_runtime(path, RUNTIME) == releases()[0].version


@pytest.mark.parametrize(
    ("version", "newest"), [("1.16.3", 9), ("1.19.2", 10), ("1.23.2", 11), ("1.31.1", 13)]
)
def test_the_newest_ir_version_is_taken_and_the_next_one_refused(tmp_path, version, newest):
    node = helper.make_node("Relu", ["x"], ["y0"])
    fits = write(tmp_path, [node], {"x": TensorProto.FLOAT}, ir=newest)
    too_new = write(tmp_path, [node], {"x": TensorProto.FLOAT}, ir=newest + 1, name="new.onnx")
    assert problems(fits, version) == []
    (problem,) = problems(too_new, version)
    assert problem.code == "ir"
    assert f"IR version {newest + 1}" in problem.what
    assert f"up to {newest}" in problem.what


@pytest.mark.parametrize(
    ("version", "newest"), [("1.16.3", 19), ("1.19.2", 21), ("1.22.1", 22), ("1.31.1", 26)]
)
def test_the_newest_opset_is_taken_and_the_next_one_refused(tmp_path, version, newest):
    fits = one(tmp_path, "Relu", opset=newest)
    assert problems(fits, version) == []
    (problem,) = problems(one(tmp_path, "Relu", opset=newest + 1), version)
    assert problem.code == "opset"
    assert problem.hint is not None
    later = [r.version for r in releases() if r.limits.opsets["ai.onnx"] > newest]
    assert problem.first == (later[0] if later else None)


def test_a_type_without_a_kernel_is_named_with_the_first_release_that_has_it(tmp_path):
    path = one(tmp_path, "Erf", TensorProto.DOUBLE)
    (problem,) = problems(path, "1.16.3")
    assert problem.code == "types"
    assert problem.where == "node 'the_node'"
    assert "Erf of opset 13 with double" in problem.what
    assert problem.severity == "refused"


def test_float16_runs_between_casts_where_there_is_a_kernel_for_float(tmp_path):
    assert problems(one(tmp_path, "Sigmoid", TensorProto.FLOAT16), "1.16.3") == []
    assert problems(one(tmp_path, "Sigmoid", TensorProto.BFLOAT16), "1.16.3") != []


def test_an_op_without_a_kernel_runs_where_onnx_says_it_in_others_that_have_one(tmp_path):
    path = one(tmp_path, "HardSwish", opset=14)
    assert not release_of("1.16.3").kernels("ai.onnx", "Mish")
    assert problems(path, "1.16.3") == []
    assert problems(one(tmp_path, "Mish", opset=18), "1.16.3") == []


def test_what_such_a_body_needs_is_asked_too(tmp_path):
    """1.16 says a Softmax of float16 by its body of opset 13, whose ReduceMax has an attribute 18 dropped."""
    path = one(tmp_path, "Softmax", TensorProto.FLOAT16, opset=18)
    (problem,) = problems(path, "1.16.3")
    assert "ReduceMax" in problem.what
    assert problem.first is not None
    assert problems(path, problem.first) == []
    assert problems(one(tmp_path, "Softmax", TensorProto.FLOAT16, opset=17), "1.16.3") == []


def test_an_unknown_op_of_a_known_domain_is_refused_by_name(tmp_path):
    (problem,) = problems(one(tmp_path, "Nonsense", domain="com.microsoft"), "1.31.1")
    assert problem.code == "op"
    assert "com.microsoft.Nonsense" in problem.what
    assert problem.first is None


def test_ops_of_the_runtime_itself_are_known_by_release(tmp_path):
    assert problems(one(tmp_path, "Gelu", domain="com.microsoft"), "1.16.3") == []


def test_a_kernel_of_an_open_range_serves_only_the_definition_it_begins_with(tmp_path):
    """Opset 22 defined Conv anew; 1.20 has a kernel from 11 on and does not take it for that of 22."""
    kernels = release_of("1.20.1").kernels("ai.onnx", "Conv")
    assert any(kernel.fits(11) for kernel in kernels)
    assert not any(kernel.fits(22) for kernel in kernels)
    assert any(kernel.fits(22) for kernel in release_of("1.21.1").kernels("ai.onnx", "Conv"))


def test_two_types_where_one_is_wanted_are_refused(tmp_path):
    node = helper.make_node("Add", ["a", "b"], ["y0"])
    path = write(tmp_path, [node], {"a": TensorProto.FLOAT, "b": TensorProto.INT64})
    found = problems(path, "1.31.1")
    assert {problem.severity for problem in found} == {"refused"}


def test_an_attribute_that_came_later_than_the_files_opset_is_named(tmp_path):
    (problem,) = problems(one(tmp_path, "ReduceMax", opset=18, axes=[0]), "1.31.1")
    assert problem.code == "attribute"
    assert "'axes'" in problem.what


def test_float64_behind_a_transposition_needs_the_release_whose_fused_op_has_it(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "b"], ["y0"]),
    ]
    path = write(tmp_path, nodes, {"a": TensorProto.DOUBLE, "b": TensorProto.DOUBLE})
    (problem,) = problems(path, "1.16.3")
    assert problem.code == "fusion"
    assert problems(path, "1.31.1") == []


def test_nodes_in_branches_are_judged_with_the_types_around_them(tmp_path):
    def branch(name, op):
        made = helper.make_node(op, ["x"], [name])
        return helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, 11, [2, 2])])

    node = helper.make_node(
        "If", ["c"], ["y0"], then_branch=branch("a", "Erf"), else_branch=branch("b", "Identity")
    )
    path = write(tmp_path, [node], {"c": TensorProto.BOOL, "x": TensorProto.DOUBLE})
    (problem,) = problems(path, "1.16.3")
    assert "Erf" in problem.what


def test_functions_of_the_file_are_taken_apart(tmp_path):
    inner = helper.make_node("Erf", ["a"], ["b"])
    function = helper.make_function("mine", "Twice", ["a"], ["b"], [inner], [helper.make_opsetid("", 13)])
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y0"], domain="mine")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [2])],
        [helper.make_tensor_value_info("y0", TensorProto.DOUBLE, [2])],
    )
    model = helper.make_model(
        graph,
        functions=[function],
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("mine", 1)],
        ir_version=8,
    )
    path = tmp_path / "functions.onnx"
    path.write_bytes(model.SerializeToString())
    (problem,) = problems(path, "1.16.3")
    assert "Erf" in problem.what


def test_many_nodes_of_one_kind_are_one_problem(tmp_path):
    nodes = [helper.make_node("Erf", ["x" if i == 0 else f"t{i}"], [f"t{i + 1}"]) for i in range(5)]
    nodes.append(helper.make_node("Identity", ["t5"], ["y0"]))
    (problem,) = problems(write(tmp_path, nodes, {"x": TensorProto.DOUBLE}), "1.16.3")
    assert "5 nodes" in problem.what


def test_what_its_own_definition_refuses_runs_nowhere(tmp_path):
    node = helper.make_node("Concat", ["x", "x"], ["y0"], axis=7)
    path = write(tmp_path, [node], {"x": TensorProto.FLOAT})
    assert [problem.code for problem in problems(path, "1.31.1")] == ["definition"]
    assert CHECKER.first_runtime(path, RUNTIME) is None


@pytest.mark.parametrize("version", ["0.9", "1.99.0", "nonsense", "1.24.0"])
def test_a_release_that_nobody_measured_is_unknown_not_fine(tmp_path, version):
    (problem,) = problems(one(tmp_path, "Relu"), version)
    assert problem.severity == "unknown"


def test_a_release_too_old_to_be_measured_is_held_to_its_published_opset(tmp_path):
    assert [newest_opset(v) for v in ("1.10.0", "1.19.2", "1.99.0", "x")] == [15, 21, None, None]
    found = problems(one(tmp_path, "Relu", opset=17), "1.10.0")
    assert [(problem.code, problem.severity) for problem in found] == [
        ("opset", "refused"),
        ("version", "unknown"),
    ]
    (problem,) = problems(one(tmp_path, "Relu", opset=15), "1.10.0")
    assert problem.severity == "unknown"


def test_a_damaged_file_is_said_to_be_that(tmp_path):
    path = one(tmp_path, "Relu")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidModelError):
        problems(path, "1.31.1")
    path.write_bytes(b"\x18\0\0\0ORTM" + b"\xff" * 60)
    with pytest.raises(InvalidModelError):
        problems(path, "1.31.1")


def test_every_release_has_more_than_the_one_before_at_its_limits():
    found = releases()
    assert len(found) >= 16
    for older, newer in itertools.pairwise(found):
        assert older.limits.ir <= newer.limits.ir
        assert older.limits.opsets["ai.onnx"] <= newer.limits.opsets["ai.onnx"]
        assert set(older.limits.ort_loaded) <= set(newer.limits.ort_loaded)
    assert len({release.version for release in found}) == len(found)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("given-twice", "'y0' is given twice"),
        ("given-nowhere", "it reads 'nowhere', which nothing gives"),
        ("no-output", "nothing gives its output 'y0'"),
    ],
)
def test_a_name_that_is_given_twice_or_nowhere_is_refused_by_all(tmp_path, file, why):
    found = problems(FILES[file](tmp_path), "1.31.1")
    assert [problem.code for problem in found if why in problem.what] == ["definition"]


def test_nodes_in_any_order_run_and_are_known_by_their_types(tmp_path):
    assert problems(FILES["unordered"](tmp_path), "1.16.3") == []
    nodes = [helper.make_node("Erf", ["a"], ["y0"]), helper.make_node("Abs", ["x"], ["a"])]
    (problem,) = problems(write(tmp_path, nodes, {"x": TensorProto.DOUBLE}), "1.16.3")
    assert "Erf of opset 13 with double" in problem.what


def test_nodes_in_a_circle_are_refused_not_a_defect(tmp_path):
    nodes = [helper.make_node("Add", ["x", "y0"], ["a"]), helper.make_node("Abs", ["a"], ["y0"])]
    assert problems(write(tmp_path, nodes, {"x": TensorProto.FLOAT}), "1.31.1")


def test_a_function_of_another_opset_is_judged_by_what_is_in_it(tmp_path):
    assert problems(FILES["function-of-another-opset"](tmp_path), "1.16.3") == []


@pytest.mark.parametrize(
    ("file", "refused", "taken"),
    [
        ("lstm-double", ["1.16.3", "1.31.1"], []),
        ("gru-double", ["1.16.3", "1.31.1"], []),
        ("mod-float", ["1.16.3", "1.31.1"], []),
        ("mod-float-fmod", [], ["1.16.3", "1.31.1"]),
        ("resize-cubic-int", ["1.16.3", "1.31.1"], []),
        ("grid-bilinear-20", ["1.31.1"], []),
        ("grid-bilinear-16", [], ["1.16.3", "1.31.1"]),
        ("eight-bits", ["1.16.3", "1.22.1"], ["1.23.2", "1.31.1"]),
        ("fast-gelu-double", ["1.20.1"], ["1.21.1", "1.31.1"]),
        ("quick-gelu-double", ["1.30.0"], ["1.31.1"]),
    ],
)
def test_what_kernels_refuse_although_the_tables_have_their_types(tmp_path, file, refused, taken):
    """Each was met by loading and running such a file in sixteen releases."""
    path = FILES[file](tmp_path)
    assert all(problems(path, version) for version in refused)
    assert not any(problems(path, version) for version in taken)
