"""The LiteRT runtime: names, shapes and types at its edge, and its refusals in words a person can use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeconv.errors import ConversionError, InvalidModelError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes.base import Runtime
from edgeconv.runtimes.litert import RUNTIME


def saved(
    folder: Path, name: str, *functions: object, names: list[str] | None = None, flex: bool = False
) -> Path:
    """Convert a ``tf.function`` with signatures (or several, as named signatures) to a TFLite file."""
    import tensorflow as tf

    module = tf.Module()
    module.functions = functions
    keys = names or ["serving_default"]
    signatures = {key: f.get_concrete_function() for key, f in zip(keys, functions, strict=True)}
    tf.saved_model.save(module, str(folder / name), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / name), signature_keys=keys)
    if flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path = folder / f"{name}.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("litert")
    spec = tf.TensorSpec

    @tf.function(input_signature=[spec([None, 3], tf.float32, "left"), spec([None, 3], tf.float32, "right")])
    def two(left, right):
        return {"difference": tf.abs(left - right), "sum": left + right}

    @tf.function(input_signature=[spec([2, 3], tf.float32, "x")])
    def halve(x):
        return {"y": x / 2 + 1}

    @tf.function(input_signature=[spec([2], tf.int32, "at")])
    def pick(at):
        return {"y": tf.gather(tf.constant([10.0, 20.0, 30.0]), at)}

    @tf.function(input_signature=[spec([None], tf.string, "words")])
    def words(words):
        return {"y": tf.gather(words, [1, 0])}

    @tf.function(input_signature=[spec([2, 3], tf.float32, "x")])
    def flex(x):
        return {"y": tf.linalg.det(tf.matmul(x, x, transpose_b=True))}

    @tf.function(input_signature=[spec([4], tf.float32, "scores")])
    def above(scores):
        return {"at": tf.where(scores > 0.5), "most": tf.reduce_max(scores)}

    made = {
        "two": lambda: saved(folder, "two", two),
        "halve": lambda: saved(folder, "halve", halve),
        "pick": lambda: saved(folder, "pick", pick),
        "words": lambda: saved(folder, "words", words),
        "flex": lambda: saved(folder, "flex", flex, flex=True),
        "above": lambda: saved(folder, "above", above),
        "chosen": lambda: saved(folder, "chosen", halve, above, names=["halve", "above"]),
        "both": lambda: saved(folder, "both", halve, pick, names=["halve", "pick"]),
    }
    paths: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in paths:
            paths[name] = made[name]()
        return paths[name]

    return get


def ones(*shape: int, value: float = 1.0) -> np.ndarray:
    return np.full(shape, value, np.float32)


def test_is_a_runtime_for_tflite() -> None:
    assert isinstance(RUNTIME, Runtime)
    assert RUNTIME.formats == ("tflite",)


class TestNames:
    def test_are_those_of_the_files_signature_where_there_is_no_contract(self, files) -> None:
        with RUNTIME.open(files("two"), None) as session:
            assert sorted(spec.name for spec in session.inputs) == ["left", "right"]
            assert sorted(spec.name for spec in session.outputs) == ["difference", "sum"]
            found = session.infer({"left": ones(1, 3, value=5), "right": ones(1, 3, value=2)})
        assert found["difference"][0, 0] == 3
        assert found["sum"][0, 0] == 7

    def test_are_those_of_the_contract_in_its_order_whatever_the_order_in_the_file(self, files) -> None:
        with RUNTIME.open(files("two"), None) as session:
            tensors = {spec.name: spec.inner_name for spec in (*session.inputs, *session.outputs)}
        contract = Contract(
            inputs=(
                TensorSpec("b", "float32", (None, 3), tensor=tensors["right"]),
                TensorSpec("a", "float32", (None, 3), tensor=tensors["left"]),
            ),
            outputs=(
                TensorSpec("total", "float32", (None, 3), tensor=tensors["sum"]),
                TensorSpec("less", "float32", (None, 3), tensor=tensors["difference"]),
            ),
        )
        with RUNTIME.open(files("two"), contract) as session:
            found = session.infer({"a": ones(1, 3, value=5), "b": ones(1, 3, value=2)})
        assert list(found) == ["total", "less"]
        assert found["less"][0, 0] == 3

    def test_that_the_file_does_not_have_are_refused_with_those_it_has(self, files) -> None:
        contract = Contract((TensorSpec("image", "float32", None), TensorSpec("left", "float32", None)), ())
        with pytest.raises(UsageError, match="no input 'image'") as caught:
            RUNTIME.open(files("two"), contract)
        assert "left, right" in str(caught.value)

    def test_choose_one_of_several_signatures(self, files) -> None:
        for signature, value, expected in (
            ("halve", ones(2, 3), 1.5),
            ("pick", np.array([1, 2], np.int32), 20),
        ):
            with RUNTIME.open(files("both"), None, options={"signature": signature}) as session:
                [spec] = session.inputs
                assert session.infer({spec.name: value})["y"].reshape(-1)[0] == expected

    def test_of_several_signatures_are_never_guessed(self, files) -> None:
        with pytest.raises(UsageError, match="halve, pick"):
            RUNTIME.open(files("both"), None)


class TestShapesAndTypes:
    def test_a_batch_that_is_not_fixed_may_change_from_call_to_call(self, files) -> None:
        with RUNTIME.open(files("two"), None) as session:
            assert session.inputs[0].shape == (None, 3)
            for batch in (1, 4, 4, 2):
                found = session.infer({"left": ones(batch, 3), "right": ones(batch, 3)})
                assert found["sum"].shape == (batch, 3)

    def test_memory_is_laid_out_anew_only_when_a_shape_changes(self, files) -> None:
        with RUNTIME.open(files("two"), None) as session:
            count = 0
            allocate = session.interpreter.allocate_tensors

            def counted() -> None:
                nonlocal count
                count += 1
                allocate()

            session.interpreter.allocate_tensors = counted
            for batch in (2, 2, 2, 3, 3):
                session.infer({"left": ones(batch, 3), "right": ones(batch, 3)})
        assert count == 2

    def test_results_are_copies_that_later_calls_leave_alone(self, files) -> None:
        with RUNTIME.open(files("halve"), None) as session:
            first = session.infer({"x": ones(2, 3)})["y"]
            session.infer({"x": ones(2, 3, value=9)})
        assert first[0, 0] == 1.5

    @pytest.mark.parametrize(
        ("inputs", "said"),
        [
            ({"x": np.ones((2, 3))}, "is float64, the model takes float32"),
            ({"x": np.ones((3, 3), np.float32)}, r"has shape \[3, 3\], the model takes \[2, 3\]"),
            ({"x": np.ones((1, 2, 3), np.float32)}, "shape"),
            ({}, "missing inputs: x"),
            ({"x": np.ones((2, 3), np.float32), "z": np.ones(1)}, "unknown inputs: z"),
            ({"x": np.array([["a"] * 3] * 2)}, "is string, the model takes float32"),
        ],
    )
    def test_what_does_not_fit_is_refused_by_name(self, files, inputs, said) -> None:
        with RUNTIME.open(files("halve"), None) as session:
            with pytest.raises(UsageError, match=said):
                session.infer(inputs)
            assert session.infer({"x": ones(2, 3)})["y"].shape == (2, 3)

    @pytest.mark.parametrize("kind", [object, "S", "U"])
    def test_strings_go_in_and_out_as_bytes(self, files, kind) -> None:
        text = ["a", "bcd"] if kind == "U" else [b"a", b"bcd"]
        with RUNTIME.open(files("words"), None) as session:
            assert session.inputs[0].dtype == "string"
            assert session.infer({"words": np.array(text, dtype=kind)})["y"].tolist() == [b"bcd", b"a"]


class TestIntermediateTensors:
    def test_can_be_kept_and_read(self, files) -> None:
        with RUNTIME.open(files("two"), None, options={"preserve_all_tensors": True}) as session:
            session.infer({"left": ones(1, 3, value=2), "right": ones(1, 3, value=5)})
            values = session.tensors()
            assert any(np.array_equal(value, ones(1, 3, value=-3)) for value in values.values()), values
            name = session.outputs[0].inner_name
            np.testing.assert_array_equal(session.tensor(name), values[name])
            with pytest.raises(UsageError, match="no tensor 'nonsense'"):
                session.tensor("nonsense")

    def test_do_not_keep_the_next_call_from_running(self, files) -> None:
        with RUNTIME.open(files("two"), None, options={"preserve_all_tensors": True}) as session:
            kept = []
            for batch in (1, 2):
                session.infer({"left": ones(batch, 3), "right": ones(batch, 3)})
                kept.append(session.tensors())
        assert len(kept) == 2


def test_gives_the_same_with_and_without_the_default_delegate(files) -> None:
    inputs = {"left": ones(2, 3, value=0.3), "right": ones(2, 3, value=0.1)}
    found = []
    for xnnpack in (True, False):
        with RUNTIME.open(files("two"), None, threads=2, options={"xnnpack": xnnpack}) as session:
            found.append(session.infer(inputs)["difference"])
    np.testing.assert_allclose(*found, rtol=1e-6)


class TestRefusals:
    def test_flex_ops_are_named(self, files) -> None:
        with (
            pytest.raises(ConversionError, match="FlexMatrixDeterminant") as caught,
            RUNTIME.open(files("flex"), None) as s,
        ):
            s.infer({"x": ones(2, 3)})
        assert caught.value.hint

    def test_an_op_that_fails_while_running_is_named_with_its_node(self, files) -> None:
        with RUNTIME.open(files("pick"), None) as session:
            with pytest.raises(ConversionError, match=r"run the op GATHER \(node 0\)"):
                session.infer({"at": np.array([0, 99], np.int32)})
            assert session.infer({"at": np.array([0, 2], np.int32)})["y"].tolist() == [10, 30]

    @pytest.mark.parametrize(
        "damage", [lambda b: b[: len(b) // 3], lambda b: b"\0" * 4 + b[4:], lambda b: b"no"]
    )
    def test_a_damaged_file_is_no_model(self, files, tmp_path, damage) -> None:
        path = tmp_path / "damaged.tflite"
        path.write_bytes(damage(files("halve").read_bytes()))
        with pytest.raises(InvalidModelError):
            RUNTIME.open(path, None)

    def test_a_missing_file(self, tmp_path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            RUNTIME.open(tmp_path / "none.tflite", None)

    def test_a_closed_session(self, files) -> None:
        session = RUNTIME.open(files("halve"), None)
        session.close()
        with pytest.raises(UsageError, match="closed"):
            session.infer({"x": ones(2, 3)})


@pytest.mark.parametrize(("name", "signature"), [("above", None), ("chosen", "above")])
def test_an_output_without_elements_is_an_empty_array(files, name: str, signature: str | None) -> None:
    with RUNTIME.open(files(name), None, options={"signature": signature}) as session:
        some = session({"scores": np.float32([0, 1, 0, 1])})
        none = session({"scores": np.float32([0, 0, 0.25, 0])})
    assert some["at"].tolist() == [[1], [3]]
    assert none["at"].shape == (0, 1)
    assert none["at"].dtype == some["at"].dtype
    assert none["most"] == np.float32(0.25)


@pytest.mark.corpus
def test_a_detector_gives_what_tensorflow_gave(corpus) -> None:
    golden = np.load(corpus / "golden" / "facemask-ssd.npz")
    image = next(golden[key] for key in golden.files if key.startswith("in__"))
    with RUNTIME.open(corpus / "fz-facemask-ssd" / "face_mask_detection.tflite", None, threads=2) as session:
        found = session.infer({session.inputs[0].name: image})
    for name, value in found.items():
        expected = next(golden[key] for key in golden.files if name.replace("/", "|") in key)
        np.testing.assert_allclose(value, expected, atol=1e-4)
