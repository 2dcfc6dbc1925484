"""TFLite files on a device: LiteRT, and the tflite-runtime that old boards have."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import made_once
import numpy as np
import pytest
from agent.talking import Talk
from ai_edge_litert import schema_py_generated as schema
from tflite_builder import INT8, INT32, Builder

from edgeconv.runtimes.litert import RUNTIME

OPS = schema.BuiltinOperator
STRING = schema.TensorType.STRING


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with Talk(tmp_path / "store") as talk:
        yield talk


def written(folder: Path, builder: Builder) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(builder.bytes())
    return path


def added(*, version: int = 1, kind: int | str = OPS.ADD) -> Builder:
    """``sum = left + right`` for any number of rows."""
    b = Builder()
    left, right, total = (
        b.tensor(name, [1, 3], signature=[-1, 3]) for name in ("left_in", "right_in", "sum_out")
    )
    options = ("AddOptions", schema.AddOptionsT()) if kind == OPS.ADD else None
    b.op(kind, [left, right], [total], options=options, version=version)
    b.ends([left, right], [total])
    b.signature("serving_default", {"right": right, "left": left}, {"sum": total})
    return b


def mixed() -> Builder:
    """An op that XNNPACK takes, and one of integers that it does not."""
    b = Builder()
    x, y = b.tensor("x", [4]), b.tensor("y", [4])
    i, j = b.tensor("i", [4], dtype=INT32), b.tensor("j", [4], dtype=INT32)
    b.op(OPS.ADD, [x, x], [y], options=("AddOptions", schema.AddOptionsT()))
    b.op(OPS.ABS, [i], [j], options=("AbsOptions", schema.AbsOptionsT()))
    b.ends([x, i], [y, j])
    return b


def two_graphs() -> Builder:
    """Signatures ``double`` of the first graph and ``square`` of the second, of tensors of the same names."""
    b = Builder()
    b.graph("second")
    for place, kind in enumerate((OPS.ADD, OPS.MUL)):
        x, y = (b.tensor(name, [1, 2], signature=[-1, 2], subgraph=place) for name in ("in", "out"))
        if place:  # so that the tensors of the two have other numbers
            x = b.tensor("in", [1, 2], signature=[-1, 2], subgraph=1)
        options = (
            ("AddOptions", schema.AddOptionsT()) if kind == OPS.ADD else ("MulOptions", schema.MulOptionsT())
        )
        b.op(kind, [x, x], [y], options=options, subgraph=place)
        b.ends([x], [y], subgraph=place)
        b.signature(("double", "square")[place], {"x": x}, {"y": y})
    b.model.signatureDefs[1].subgraphIndex = 1
    return b


def counting() -> Builder:
    """A recurrent layer whose state, a variable tensor, grows with each inference by the input."""
    b = Builder()
    x = b.tensor("x", [1, 1, 1])
    weights = [b.tensor(name, [1, 1], data=np.ones((1, 1), np.float32)) for name in ("w", "r")]
    bias = b.tensor("b", [1], data=np.zeros(1, np.float32))
    state = b.tensor("state", [1, 1])
    b.model.subgraphs[0].tensors[state].isVariable = True
    y = b.tensor("y", [1, 1, 1])
    b.op(
        OPS.UNIDIRECTIONAL_SEQUENCE_RNN,
        [x, *weights, bias, state],
        [y],
        options=("SequenceRNNOptions", schema.SequenceRNNOptionsT()),
    )
    b.ends([x], [y])
    return b


def words() -> Builder:
    """The second and the first of some words."""
    b = Builder()
    text = b.tensor("words", [2], dtype=STRING, signature=[-1])
    at = b.tensor("at", [2], dtype=INT32, data=np.array([1, 0], np.int32))
    y = b.tensor("turned", [2], dtype=STRING)
    b.op(OPS.GATHER, [text, at], [y], options=("GatherOptions", schema.GatherOptionsT()))
    b.ends([text], [y])
    return b


def quantized() -> Builder:
    b = Builder()
    x, y = (b.tensor(name, [1, 4], dtype=INT8, scale=[0.5], zero_point=[3]) for name in ("x", "y"))
    b.op(OPS.RELU, [x], [y], version=2)
    b.ends([x], [y])
    return b


def test_inputs_and_outputs_are_described_by_the_files_names_and_the_signatures_keys(
    talk: Talk, tmp_path: Path
) -> None:
    said = talk.open(written(tmp_path, added()), "litert", "tflite")
    assert said["signature"] == "serving_default"
    assert said["inputs"] == [
        {"name": "left_in", "dtype": "float32", "shape": [None, 3], "key": "left"},
        {"name": "right_in", "dtype": "float32", "shape": [None, 3], "key": "right"},
    ]
    assert said["outputs"] == [{"name": "sum_out", "dtype": "float32", "shape": [None, 3], "key": "sum"}]
    assert said["seconds"] > 0
    assert said["import_seconds"] > 0


def test_an_open_size_changes_from_call_to_call(talk: Talk, tmp_path: Path) -> None:
    model = talk.open(written(tmp_path, added()), "litert", "tflite")["model"]
    for rows in (1, 4, 2, 1):
        left, right = (
            np.full((rows, 3), 2, np.float32),
            np.arange(rows * 3, dtype=np.float32).reshape(rows, 3),
        )
        given = [("right_in", right), ("left_in", left)]
        found = talk.ask({"verb": "infer", "model": model}, given)["arrays"]
        assert (found["sum_out"] == left + right).all()


def test_two_models_are_kept_apart(talk: Talk, tmp_path: Path) -> None:
    path = written(tmp_path, added())
    models = [talk.open(path, "litert", "tflite")["model"] for _ in range(2)]
    for value in (1, 2):
        for model in models:
            x = np.full((1, 3), value * model, np.float32)
            found = talk.ask({"verb": "infer", "model": model}, [("left_in", x), ("right_in", x)])["arrays"]
            assert (found["sum_out"] == 2 * x).all()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((1, 3), np.float64), "input 'left_in' has the type float64 and must have float32"),
        (np.zeros((1, 3), np.int8), "input 'left_in' has the type int8"),
        (np.zeros((1, 4), np.float32), "input 'left_in' has the shape [1, 4] and must have [?, 3]"),
        (np.zeros((3,), np.float32), "input 'left_in' has the shape [3]"),
        (np.array([["a", "b", "c"]]), "input 'left_in' has the type string"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(talk: Talk, tmp_path: Path, array, says: str) -> None:
    model = talk.open(written(tmp_path, added()), "litert", "tflite")["model"]
    given = [("left_in", array), ("right_in", np.zeros((1, 3), np.float32))]
    error = talk.error({"verb": "infer", "model": model}, given)
    assert error["kind"] == "usage"
    assert says in error["what"]


class TestSignatures:
    def test_each_runs_its_own_graph(self, talk: Talk, tmp_path: Path) -> None:
        path = written(tmp_path, two_graphs())
        for rows in (1, 3):
            x = np.full((rows, 2), 5, np.float32)
            for signature, expected in (("double", 10), ("square", 25)):
                said = talk.open(path, "litert", "tflite", signature=signature)
                assert said["signature"] == signature
                answer = talk.ask({"verb": "infer", "model": said["model"]}, [("in", x)])
                assert (answer["arrays"]["out"] == np.full((rows, 2), expected)).all()

    def test_each_is_measured_and_gives_the_same_after(self, talk: Talk, tmp_path: Path) -> None:
        path = written(tmp_path, two_graphs())
        models = [talk.open(path, "litert", "tflite", signature=s)["model"] for s in ("double", "square")]
        x = np.full((2, 2), 5, np.float32)
        asked = {"verb": "measure", "models": models, "inputs": [[{"in": 0}], [{"in": 0}]], "rounds": 4}
        answer = talk.ask({**asked, "burst": 3}, [("x", x)])
        assert answer["arrays"]["ns"].shape == (2, 4, 3)
        assert (answer["arrays"]["ns"] > 0).all()
        found = [talk.ask({"verb": "infer", "model": m}, [("in", x)])["arrays"]["out"][0, 0] for m in models]
        assert found == [10, 25]

    def test_are_never_guessed(self, talk: Talk, tmp_path: Path) -> None:
        asked = {"verb": "open", "backend": "litert", "format": "tflite"}
        path = str(written(tmp_path, two_graphs()))
        for options in ({}, {"signature": "triple"}):
            error = talk.error({**asked, "path": path, "options": options})
            assert (error["kind"], error["what"]) == ("usage", "the file has the signatures double, square")
            assert "--signature" in error["hint"]


def test_the_state_of_a_layer_is_reset_before_each_inference(talk: Talk, tmp_path: Path) -> None:
    model = talk.open(written(tmp_path, counting()), "litert", "tflite")["model"]
    x = [("x", np.ones((1, 1, 1), np.float32))]
    for _ in range(3):
        assert talk.ask({"verb": "infer", "model": model}, x)["arrays"]["y"].item() == 1.0


def test_strings_go_in_and_come_out(talk: Talk, tmp_path: Path) -> None:
    said = talk.open(written(tmp_path, words()), "litert", "tflite")
    assert said["inputs"][0]["dtype"] == said["outputs"][0]["dtype"] == "string"
    given = np.array(["grün".encode(), b""], object)
    found = talk.ask({"verb": "infer", "model": said["model"]}, [("words", given)])["arrays"]["turned"]
    assert found.tolist() == [b"", "grün".encode()]


def test_quantization_is_told(talk: Talk, tmp_path: Path) -> None:
    said = talk.open(written(tmp_path, quantized()), "litert", "tflite")
    assert said["inputs"] == [
        {"name": "x", "dtype": "int8", "shape": [1, 4], "scales": [0.5], "zero_points": [3]}
    ]
    x = np.array([[-128, 0, 3, 127]], np.int8)
    found = talk.ask({"verb": "infer", "model": said["model"]}, [("x", x)])["arrays"]["y"]
    assert found.tolist() == [[3, 3, 3, 127]]


def test_tensors_of_one_name_are_told_apart(talk: Talk, tmp_path: Path) -> None:
    b = Builder()
    left, right, total = (b.tensor(name, [2]) for name in ("x", "x", "y"))
    b.op(OPS.SUB, [left, right], [total], options=("SubOptions", schema.SubOptionsT()))
    b.ends([left, right], [total])
    said = talk.open(written(tmp_path, b), "litert", "tflite")
    assert [tensor["name"] for tensor in said["inputs"]] == ["x#0", "x#1"]
    assert [tensor["tensor"] for tensor in said["inputs"]] == ["x", "x"]
    given = [("x#1", np.float32([1, 1])), ("x#0", np.float32([5, 6]))]
    found = talk.ask({"verb": "infer", "model": said["model"]}, given)["arrays"]["y"]
    assert found.tolist() == [4, 5]


class TestPlacement:
    def test_ops_that_the_delegate_left_are_counted_and_named(self, talk: Talk, tmp_path: Path) -> None:
        path = written(tmp_path, mixed())
        assert talk.open(path, "litert", "tflite")["placement"] == {
            "asked": "xnnpack",
            "ran": {"xnnpack": 1, "cpu": 1},
            "share_of_ops": 0.5,
            "share_of_time": None,
            "elsewhere": ["ABS"],
        }

    def test_a_profile_names_what_runs_each_op_and_invents_no_times(self, talk: Talk, tmp_path: Path) -> None:
        said = talk.open(written(tmp_path, mixed()), "litert", "tflite")
        arrays = [(each["name"], np.zeros(each["shape"], each["dtype"])) for each in said["inputs"]]
        profile = talk.ask({"verb": "profile", "model": said["model"]}, arrays)["result"]["profile"]
        assert sorted((node["op"], node["by"], node["ns"]) for node in profile["nodes"]) == [
            ("ABS", "cpu", None),
            ("ADD", "xnnpack", None),
        ]

    def test_without_a_delegate_all_is_on_the_processor(self, talk: Talk, tmp_path: Path) -> None:
        said = talk.open(written(tmp_path, mixed()), "litert", "tflite", accelerator="cpu")
        assert said["placement"]["ran"] == {"cpu": 2}
        assert said["placement"]["share_of_ops"] == 1.0

    def test_of_another_graph_than_the_main_one_is_not_known_and_never_that_of_the_main_one(
        self, talk: Talk, tmp_path: Path
    ) -> None:
        path = written(tmp_path, two_graphs())
        for signature, ran in (("double", {"xnnpack": 1}), ("square", None)):
            placement = talk.open(path, "litert", "tflite", signature=signature)["placement"]
            assert (placement and placement["ran"]) == ran

    def test_is_told_again_for_other_sizes(self, talk: Talk, tmp_path: Path) -> None:
        model = talk.open(written(tmp_path, added()), "litert", "tflite")["model"]
        x = np.zeros((5, 3), np.float32)
        answer = talk.ask({"verb": "placement", "model": model}, [("left_in", x), ("right_in", x)])
        assert answer["result"]["placement"]["ran"] == {"xnnpack": 1}

    @pytest.mark.parametrize(
        ("accelerator", "kind", "says"),
        [
            ("edgetpu", "unavailable", "the delegate libedgetpu.so.1 cannot be loaded"),
            ("/no/such/lib.so", "unavailable", "the delegate /no/such/lib.so cannot be loaded"),
            ("cuda", "usage", "litert has no accelerator 'cuda'"),
        ],
    )
    def test_a_delegate_that_is_not_there_is_an_error_and_never_replaced(
        self, talk: Talk, tmp_path: Path, accelerator: str, kind: str, says: str
    ) -> None:
        asked = {"verb": "open", "backend": "litert", "format": "tflite"}
        path = str(written(tmp_path, added()))
        error = talk.error({**asked, "path": path, "options": {"accelerator": accelerator}})
        assert error["kind"] == kind
        assert says in error["what"]
        assert error["hint"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("builder", "says"),
        [
            (added(version=99), "this litert has no kernel for ADD version 99"),
            (added(kind="MyOp"), "litert does not know the custom op MyOp"),
            (added(kind="FlexErf"), "litert cannot run FlexErf, an op of TensorFlow"),
        ],
    )
    def test_name_the_op_and_a_way_out(self, talk: Talk, tmp_path: Path, builder, says: str) -> None:
        b = builder
        for tensor in b.model.subgraphs[0].tensors:
            tensor.shapeSignature = None
        error = talk.error(
            {"verb": "open", "backend": "litert", "format": "tflite", "path": str(written(tmp_path, b))}
        )
        assert error["kind"] == "refused"
        assert says in error["what"]
        assert error["hint"]

    def test_a_broken_file_is_one(self, talk: Talk, tmp_path: Path) -> None:
        path = tmp_path / "model.tflite"
        path.write_bytes(b"\x18\0\0\0TFL3" + bytes(100))
        error = talk.error({"verb": "open", "backend": "litert", "format": "tflite", "path": str(path)})
        assert error["kind"] == "refused"

    @pytest.mark.parametrize("threads", [0, "2", True, 1.5, 5000])
    def test_a_number_of_threads_that_is_none_is_one(self, talk: Talk, tmp_path: Path, threads) -> None:
        asked = {"verb": "open", "backend": "litert", "format": "tflite"}
        path = str(written(tmp_path, added()))
        error = talk.error({**asked, "path": path, "options": {"threads": threads}})
        assert (error["kind"], "threads is a number" in error["what"]) == ("usage", True)


@pytest.mark.corpus
@pytest.mark.parametrize("accelerator", ["xnnpack", "cpu"])
def test_a_real_detector_gives_what_it_gives_in_this_process(
    talk: Talk, corpus: Path, accelerator: str
) -> None:
    path = corpus / "fz-facemask-ssd" / "face_mask_detection.tflite"
    said = talk.open(path, "litert", "tflite", accelerator=accelerator)
    assert sum(said["placement"]["ran"].values()) == 51
    assert (said["placement"]["share_of_ops"] == 1.0) == (accelerator == "cpu")
    image = np.random.default_rng(1).random((1, 260, 260, 3), dtype=np.float32)
    found = talk.ask({"verb": "infer", "model": said["model"]}, [(said["inputs"][0]["name"], image)])[
        "arrays"
    ]
    with RUNTIME.open(path, None, options={"accelerator": accelerator}) as session:
        inputs = {session.inputs[0].name: image}
        expected, placement = session(inputs), session.placement(inputs)
        names = {spec.name: spec.inner_name for spec in session.outputs}
    assert placement is not None
    assert {**dataclasses.asdict(placement), "elsewhere": list(placement.elsewhere)} == said["placement"]
    assert len(expected) == 2
    for name, value in expected.items():
        assert found[names[name]].tobytes() == value.tobytes()


@pytest.mark.slow
@pytest.mark.xdist_group("agent_environments")
class TestTfliteRuntime:
    @pytest.fixture(scope="class")
    def python(self) -> Path:
        return made_once.environment("tflite-runtime==2.14.0").python

    def test_computes_resizes_measures_and_places_as_litert_does(self, python: Path, tmp_path: Path) -> None:
        with Talk(tmp_path / "store", python=python) as talk:
            assert talk.ask({"verb": "versions"})["result"]["runtimes"]["tflite-runtime"] == "2.14.0"
            said = talk.open(written(tmp_path, added()), "tflite-runtime", "tflite", threads=2)
            assert said["version"] == "2.14.0"
            assert said["placement"]["ran"] == {"xnnpack": 1}
            for rows in (1, 3):
                x = np.full((rows, 3), 2, np.float32)
                given = [("left_in", x), ("right_in", x)]
                found = talk.ask({"verb": "infer", "model": said["model"]}, given)["arrays"]["sum_out"]
                assert (found == np.full((rows, 3), 4)).all()
            asked = {"verb": "measure", "models": [said["model"]], "rounds": 2}
            inputs = [[{"left_in": 0, "right_in": 0}]]
            answer = talk.ask({**asked, "inputs": inputs}, [("x", np.zeros((1, 3), np.float32))])
            assert answer["arrays"]["ns"].shape == (1, 2, 5)

    @pytest.mark.parametrize("build", [two_graphs, words, quantized, counting])
    def test_gives_what_litert_gives(self, python: Path, tmp_path: Path, build) -> None:
        path = written(tmp_path, build())
        found = []
        for interpreter, backend in ((python, "tflite-runtime"), (sys.executable, "litert")):
            with Talk(tmp_path / backend, python=interpreter) as talk:
                options = {"signature": "square"} if build is two_graphs else {}
                said = talk.open(path, backend, "tflite", **options)
                [tensor] = said["inputs"]
                shape = [size or 2 for size in tensor["shape"]]
                x = (
                    np.array([b"a", b"b"])
                    if tensor["dtype"] == "string"
                    else np.full(shape, 7, tensor["dtype"])
                )
                answer = talk.ask({"verb": "infer", "model": said["model"]}, [(tensor["name"], x)])
                found.append({name: value.tolist() for name, value in answer["arrays"].items()})
                described = [said["inputs"], said["outputs"]]
                found.append({"described": described})
        assert found[:2] == found[2:]

    def test_a_kernel_that_it_lacks_is_named(self, python: Path, tmp_path: Path) -> None:
        with Talk(tmp_path / "store", python=python) as talk:
            asked = {"verb": "open", "backend": "tflite-runtime", "format": "tflite"}
            error = talk.error({**asked, "path": str(written(tmp_path, added(version=99)))})
            assert error["what"] == "this tflite-runtime has no kernel for ADD version 99"

    def test_beside_numpy_2_the_cause_is_said(self, python: Path, tmp_path: Path) -> None:
        import importlib.metadata

        home = Path(np.__file__).parents[1]
        version = importlib.metadata.version("numpy")
        if int(version[0]) < 2 or sys.version_info[:2] != _version(python):
            pytest.skip("there is no numpy 2 for this Python here")
        beside = tmp_path / "beside"
        beside.mkdir()
        for name in ("numpy", "numpy.libs", f"numpy-{version}.dist-info"):
            (beside / name).symlink_to(home / name)
        with Talk(
            tmp_path / "store", python=python, variables={"PYTHONPATH": str(beside)}, isolated=False
        ) as talk:
            asked = {"verb": "open", "backend": "tflite-runtime", "format": "tflite"}
            error = talk.error({**asked, "path": str(written(tmp_path, added()))})
            assert error["kind"] == "unavailable"
            assert error["what"] == (
                f"tflite-runtime was built for numpy 1 and does not import beside numpy {version}"
            )
            assert error["hint"] == "pip install 'numpy<2'"


def _version(python: Path) -> tuple[int, ...]:
    import subprocess

    program = "import sys; print(*sys.version_info[:2])"
    ran = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True)
    return tuple(map(int, ran.stdout.split()))
