"""ONNX files on a device: ONNX Runtime of this release and of old ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_once
import numpy as np
import pytest
from agent.talking import Talk
from onnx import TensorProto, helper, numpy_helper

OPEN = {"verb": "open", "backend": "onnxruntime", "format": "onnx"}


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with Talk(tmp_path / "store") as talk:
        yield talk


def saved(
    folder: Path,
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    *,
    kind: int = TensorProto.FLOAT,
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    opset: int = 17,
    ir_version: int = 8,
    domains: tuple[str, ...] = (),
) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    path = folder / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()
    )
    return path


def summed(folder: Path, **options: Any) -> Path:
    node = helper.make_node("Add", ["left", "right"], ["y"])
    return saved(folder, [node], {"left": ["n", 3], "right": ["n", 3]}, **options)


def infer(talk: Talk, model: int, **arrays: Any) -> Any:
    return talk.ask({"verb": "infer", "model": model}, list(arrays.items()))["arrays"]["y"]


def test_inputs_and_outputs_are_described_and_open_sizes_are_open(talk: Talk, tmp_path: Path) -> None:
    said = talk.open(summed(tmp_path), "onnxruntime", "onnx")
    assert said["inputs"] == [
        {"name": "left", "dtype": "float32", "shape": [None, 3]},
        {"name": "right", "dtype": "float32", "shape": [None, 3]},
    ]
    assert said["outputs"] == [{"name": "y", "dtype": "float32", "shape": [None, 3]}]
    for rows in (1, 4, 2):
        left, right = np.full((rows, 3), 2, np.float32), np.ones((rows, 3), np.float32)
        assert (infer(talk, said["model"], right=right, left=left) == 3).all()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((1, 3)), "input 'left' has the type float64 and must have float32"),
        (np.zeros((1, 4), np.float32), "input 'left' has the shape [1, 4] and must have [?, 3]"),
        (np.zeros(3, np.float32), "input 'left' has the shape [3]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(talk: Talk, tmp_path: Path, array, says: str) -> None:
    model = talk.open(summed(tmp_path), "onnxruntime", "onnx")["model"]
    given = [("left", array), ("right", np.zeros((1, 3), np.float32))]
    error = talk.error({"verb": "infer", "model": model}, given)
    assert error["kind"] == "usage"
    assert says in error["what"]


def test_strings_go_in_and_come_out(talk: Talk, tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    said = talk.open(saved(tmp_path, [node], {"x": ["n"]}, kind=TensorProto.STRING), "onnxruntime", "onnx")
    assert said["inputs"][0]["dtype"] == "string"
    words = np.array(["grün".encode(), b""], object)
    assert infer(talk, said["model"], x=words).tolist() == words.tolist()
    error = talk.error({"verb": "infer", "model": said["model"]}, [("x", np.array([b"\xff"], object))])
    assert (error["kind"], "no UTF-8 text" in error["what"]) == ("usage", True)


def test_measures_what_it_infers(talk: Talk, tmp_path: Path) -> None:
    model = talk.open(summed(tmp_path), "onnxruntime", "onnx")["model"]
    arrays = [("a", np.zeros((1, 3), np.float32)), ("b", np.ones((1, 3), np.float32))]
    inputs = [[{"left": 0, "right": 1}, {"left": 1, "right": 0}]]
    answer = talk.ask(
        {"verb": "measure", "models": [model], "inputs": inputs, "rounds": 6, "burst": 3}, arrays
    )
    assert answer["arrays"]["ns"].shape == (1, 6, 3)
    assert (answer["arrays"]["ns"] > 0).all()
    assert answer["arrays"]["variant"].tolist() == [[0, 0, 1, 1, 0, 0]]


class TestPlacement:
    def test_a_provider_that_takes_nothing_is_said(self, talk: Talk, tmp_path: Path) -> None:
        said = talk.open(summed(tmp_path), "onnxruntime", "onnx", accelerator="AzureExecutionProvider")
        assert said["placement"] == {
            "asked": "AzureExecutionProvider",
            "ran": {"cpu": 1},
            "share_of_ops": 0.0,
            "share_of_time": None,
            "elsewhere": ["Add"],
        }

    def test_with_inputs_the_share_of_time_is_measured(self, talk: Talk, tmp_path: Path) -> None:
        x = np.zeros((400, 3), np.float32)
        for accelerator, ops in (("cpu", 1.0), ("AzureExecutionProvider", 0.0)):
            said = talk.open(summed(tmp_path), "onnxruntime", "onnx", accelerator=accelerator)
            asked = {"verb": "placement", "model": said["model"]}
            placement = talk.ask(asked, [("left", x), ("right", x)])["result"]["placement"]
            assert placement["ran"] == {"cpu": 1}
            assert placement["share_of_ops"] == ops
            assert placement["share_of_time"] in (ops, None)  # None: too short for the profile's clock

    def test_measured_inferences_run_on_the_variants_they_were_given_whatever_their_shapes(
        self, talk: Talk, tmp_path: Path
    ) -> None:
        path = saved(
            tmp_path,
            [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Cast", ["i"], ["y"], to=1)],
            {"x": [None]},
        )
        model = talk.open(path, "onnxruntime", "onnx")["model"]
        arrays = [("a", np.ones(3, np.float32)), ("b", np.array([0, 1, 0], np.float32))]
        asked = {"verb": "measure", "models": [model], "inputs": [[{"x": 0}, {"x": 1}]], "rounds": 6}
        # The outputs' shapes change with the values; what an output of one took is never given to another.
        answer = talk.ask(asked, arrays)
        assert answer["result"]["rounds"] == 6

    def test_a_profile_has_the_time_of_every_op_in_every_run(self, talk: Talk, tmp_path: Path) -> None:
        said = talk.open(summed(tmp_path), "onnxruntime", "onnx")
        x = np.zeros((400, 3), np.float32)
        asked = {"verb": "profile", "model": said["model"], "runs": 7}
        profile = talk.ask(asked, [("left", x), ("right", x)])["result"]["profile"]
        (node,) = profile["nodes"]
        assert (node["op"], node["by"], profile["runs"]) == ("Add", "cpu", 7)
        assert len(node["ns"]) == 7  # the first run of the session is not among them

    @pytest.mark.parametrize(
        ("accelerator", "kind", "says"),
        [
            ("xnnpack", "unavailable", "no provider XnnpackExecutionProvider"),
            ("cuda", "unavailable", "no provider CUDAExecutionProvider"),
            ("tensorrt", "unavailable", "no provider TensorrtExecutionProvider"),
            ("/no/such/lib.so", "unavailable", "the provider's library cannot be loaded"),
            ("edgetpu", "usage", "onnxruntime has no accelerator 'edgetpu'"),
        ],
    )
    def test_a_provider_that_is_not_there_is_an_error_and_never_replaced(
        self, talk: Talk, tmp_path: Path, accelerator: str, kind: str, says: str
    ) -> None:
        path = str(summed(tmp_path))
        answer = talk.ask({**OPEN, "path": path, "options": {"accelerator": accelerator}})
        if "result" in answer:
            pytest.skip(f"this machine has {accelerator}")
        assert answer["error"]["kind"] == kind
        assert says in answer["error"]["what"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (
                lambda folder: summed(folder, ir_version=99),
                "IR version is newer than this ONNX Runtime takes",
            ),
            (lambda folder: summed(folder, opset=99), "opset is newer than this ONNX Runtime takes"),
            (
                lambda folder: saved(
                    folder,
                    [helper.make_node("Fancy", ["x"], ["y"], domain="mine")],
                    {"x": [1]},
                    domains=("mine",),
                ),
                "it has no op mine:Fancy",
            ),
        ],
    )
    def test_name_the_op_and_a_way_out(self, talk: Talk, tmp_path: Path, make, says: str) -> None:
        error = talk.error({**OPEN, "path": str(make(tmp_path))})
        assert error["kind"] == "refused"
        assert says in error["what"]
        assert error["hint"]

    def test_an_output_that_is_no_tensor_is_one(self, talk: Talk, tmp_path: Path) -> None:
        node = helper.make_node("SequenceConstruct", ["x", "x"], ["y"])
        element = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
        graph = helper.make_graph(
            [node],
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
            [helper.make_value_info("y", helper.make_sequence_type_proto(element))],
        )
        path = tmp_path / "model.onnx"
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        error = talk.error({**OPEN, "path": str(path)})
        assert (error["kind"], "'y' is a seq(tensor(float))" in error["what"]) == ("refused", True)

    def test_a_broken_file_is_one(self, talk: Talk, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(b"\x08\x08" + bytes(50))
        assert talk.error({**OPEN, "path": str(path)})["kind"] == "refused"

    def test_what_fails_while_it_runs_names_the_node_and_the_agent_goes_on(
        self, talk: Talk, tmp_path: Path
    ) -> None:
        node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="turn")
        path = saved(tmp_path, [node], {"x": ["n"]}, weights={"shape": np.array([2, 2], np.int64)})
        model = talk.open(path, "onnxruntime", "onnx")["model"]
        error = talk.error({"verb": "infer", "model": model}, [("x", np.zeros(3, np.float32))])
        assert error["kind"] == "refused"
        assert "turn" in error["what"]
        asked = {"verb": "measure", "models": [model], "inputs": [[{"x": 0}]], "rounds": 1}
        assert talk.error(asked, [("x", np.zeros(3, np.float32))])["kind"] == "refused"
        assert infer(talk, model, x=np.zeros(4, np.float32)).shape == (2, 2)

    def test_an_output_for_which_there_is_no_memory_is_said(self, tmp_path: Path) -> None:
        import resource

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

        node = helper.make_node("Expand", ["x", "shape"], ["y"])
        path = saved(tmp_path, [node], {"x": [1]}, weights={"shape": np.array([1 << 30], np.int64)})
        with Talk(tmp_path / "store", limits=limited, variables={"OPENBLAS_NUM_THREADS": "1"}) as talk:
            model = talk.open(path, "onnxruntime", "onnx")["model"]
            given = [("x", np.ones(1, np.float32))]
            assert talk.error({"verb": "infer", "model": model}, given)["kind"] == "memory"
            assert "result" in talk.ask({"verb": "versions"})

    def test_an_answer_that_is_larger_than_the_protocol_allows_is_said(self, tmp_path: Path) -> None:
        node = helper.make_node("Expand", ["x", "shape"], ["y"])
        path = saved(tmp_path, [node], {"x": [1]}, weights={"shape": np.array([(1 << 28) + 1], np.int64)})
        with Talk(tmp_path / "store") as talk:
            model = talk.open(path, "onnxruntime", "onnx")["model"]
            error = talk.error({"verb": "infer", "model": model}, [("x", np.ones(1, np.float32))])
            assert "larger than the protocol allows" in error["what"]
            assert "result" in talk.ask({"verb": "versions"})


@pytest.mark.slow
@pytest.mark.xdist_group("agent_environments")
class TestOldRelease:
    @pytest.fixture(scope="class")
    def python(self) -> Path:
        return made_once.environment("onnxruntime==1.16.3").python

    def test_computes_and_measures(self, python: Path, tmp_path: Path) -> None:
        with Talk(tmp_path / "store", python=python) as talk:
            said = talk.open(summed(tmp_path), "onnxruntime", "onnx", threads=2)
            assert said["version"] == "1.16.3"
            x = np.full((2, 3), 4, np.float32)
            assert (infer(talk, said["model"], left=x, right=x) == 8).all()
            inputs = [[{"left": 0, "right": 0}]]
            answer = talk.ask(
                {"verb": "measure", "models": [said["model"]], "inputs": inputs, "rounds": 2}, [("x", x)]
            )
            assert answer["arrays"]["ns"].shape == (1, 2, 5)

    def test_tells_by_a_run_where_the_ops_ran(self, python: Path, tmp_path: Path) -> None:
        with Talk(tmp_path / "store", python=python) as talk:
            accelerator = "AzureExecutionProvider"
            said = talk.open(summed(tmp_path), "onnxruntime", "onnx", accelerator=accelerator)
            assert said["placement"] is None  # it cannot tell before
            x = np.full((2, 3), 4, np.float32)
            answer = talk.ask({"verb": "placement", "model": said["model"]}, [("left", x), ("right", x)])
            placement = answer["result"]["placement"]
            assert (placement["ran"], placement["share_of_ops"]) == ({"cpu": 1}, 0.0)

    def test_a_file_of_later_times_is_refused(self, python: Path, tmp_path: Path) -> None:
        with Talk(tmp_path / "store", python=python) as talk:
            error = talk.error({**OPEN, "path": str(summed(tmp_path, ir_version=10))})
            assert "IR version is newer" in error["what"]
