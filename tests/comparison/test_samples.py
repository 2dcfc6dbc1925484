"""Sample files: how arrays are read, what is refused, and that saving is the inverse of loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.comparison.samples import load_samples, samples_sha256, save_samples
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, Quantization, Shape, TensorSpec


def contract(*inputs: TensorSpec) -> Contract:
    return Contract(inputs=inputs, outputs=())


def image(shape: Shape | None = (1, 4, 4, 3), dtype: str = "float32") -> TensorSpec:
    return TensorSpec("image", dtype, shape)


@pytest.fixture
def npz(tmp_path: Path):
    def write(**arrays: np.ndarray) -> Path:
        path = tmp_path / "samples.npz"
        np.savez(path, **{key.replace("SLASH", "|"): value for key, value in arrays.items()})
        return path

    return write


class TestTheLeadingAxis:
    @pytest.mark.parametrize("batch", [1, None])
    def test_counts_samples_of_batch_one(self, npz, batch) -> None:
        data = np.arange(5 * 48, dtype=np.float32).reshape(5, 4, 4, 3)
        samples = load_samples(npz(image=data), contract(image((batch, 4, 4, 3))))
        assert len(samples) == 5
        np.testing.assert_array_equal(samples[3]["image"], data[3:4])

    def test_counts_samples_where_there_is_one_dimension_more(self, npz) -> None:
        data = np.random.default_rng(0).random((3, 2, 7), dtype=np.float32)
        samples = load_samples(npz(image=data), contract(image((2, 7))))
        assert [s["image"].shape for s in samples] == [(2, 7)] * 3
        np.testing.assert_array_equal(samples[2]["image"], data[2])

    def test_is_part_of_the_one_sample_where_the_batch_is_fixed_above_one(self, npz) -> None:
        samples = load_samples(npz(image=np.ones((8, 7), np.float32)), contract(image((8, 7))))
        assert [s["image"].shape for s in samples] == [(8, 7)]

    def test_is_taken_whole_beside_an_input_that_can_only_be_one_sample(self, npz) -> None:
        spec = contract(image((None, 7)), TensorSpec("anchors", "float32", (6, 4)))
        path = npz(image=np.ones((3, 7), np.float32), anchors=np.ones((6, 4), np.float32))
        [sample] = load_samples(path, spec)
        assert sample["image"].shape == (3, 7)

    def test_is_not_needed_for_a_scalar_which_goes_to_all_samples(self, npz) -> None:
        spec = contract(image((None, 7)), TensorSpec("keep_prob", "float32", ()))
        samples = load_samples(npz(image=np.ones((3, 7), np.float32), keep_prob=np.float32(0.5)), spec)
        assert [float(s["keep_prob"]) for s in samples] == [0.5] * 3

    def test_can_count_scalars(self, npz) -> None:
        spec = contract(TensorSpec("x", "int32", ()))
        samples = load_samples(npz(x=np.array([4, 5], np.int32)), spec)
        assert [(int(s["x"]), s["x"].shape) for s in samples] == [(4, ()), (5, ())]

    def test_counts_samples_where_the_rank_is_unknown(self, npz) -> None:
        samples = load_samples(npz(image=np.ones((2, 9), np.float32)), contract(image(None)))
        assert [s["image"].shape for s in samples] == [(1, 9)] * 2

    def test_is_cut_at_the_limit(self, npz) -> None:
        path = npz(image=np.ones((5, 4, 4, 3), np.float32))
        assert len(load_samples(path, contract(image()), limit=2)) == 2


class TestKeys:
    def test_a_bar_stands_for_a_slash_and_the_prefix_is_left_off(self, npz) -> None:
        spec = contract(TensorSpec("scope/x", "float32", (1, 2)))
        path = npz(in__scopeSLASHx=np.ones((1, 2), np.float32), out__y=np.ones(3))
        assert list(load_samples(path, spec)[0]) == ["scope/x"]

    def test_the_artifacts_own_tensor_names_will_do(self, npz, tmp_path) -> None:
        spec = contract(TensorSpec("x", "float32", (1, 2), tensor="serving_default_x:0"), image((1, 2)))
        path = tmp_path / "s.npz"
        np.savez(path, **{"in__serving_default_x:0": np.ones((1, 2)), "image:0": np.zeros((1, 2))})
        [sample] = load_samples(path, spec)
        assert list(sample) == ["x", "image"]
        assert sample["x"].sum() == 2

    def test_any_only_key_and_npy_will_do_for_an_only_input(self, npz, tmp_path) -> None:
        data = np.ones((2, 4, 4, 3), np.float32)
        np.save(tmp_path / "a.npy", data)
        assert len(load_samples(npz(photos=data), contract(image()))) == 2
        assert len(load_samples(tmp_path / "a.npy", contract(image()))) == 2

    def test_a_missing_input_is_named_with_the_keys_there_are(self, npz) -> None:
        spec = contract(image(), TensorSpec("mask", "bool", (1, 4)))
        with pytest.raises(UsageError, match="'mask'") as caught:
            load_samples(npz(image=np.ones((1, 4, 4, 3)), msk=np.ones((1, 4))), spec)
        assert "image, msk" in str(caught.value)

    def test_labels_beside_the_inputs_are_not_looked_at(self, npz) -> None:
        path = npz(image=np.ones((2, 4, 4, 3), np.float32), labels=np.array([1, 2, 3]))
        assert len(load_samples(path, contract(image()))) == 2


class TestValues:
    @pytest.mark.parametrize(
        ("given", "dtype"),
        [
            (np.array([[0.1, 1e-8]]), "float32"),
            (np.array([[0, 255]], np.uint8), "float32"),
            (np.array([[3.0, -4.0]]), "int32"),
            (np.array([[True, False]]), "float32"),
            (np.array([[0.0, 1.0]]), "bool"),
            (np.array([[1, 2]], np.int64), "uint8"),
            (np.array([[np.nan, np.inf]]), "float32"),
            (np.array([[0.5, 0.1]]), "bfloat16"),
        ],
    )
    def test_are_cast_where_they_are_kept(self, npz, given, dtype) -> None:
        [sample] = load_samples(npz(x=given), contract(TensorSpec("x", dtype, (1, 2))))
        assert str(sample["x"].dtype) == dtype
        np.testing.assert_allclose(sample["x"].astype(np.float64), given.astype(np.float64), rtol=5e-3)

    @pytest.mark.parametrize(
        ("given", "dtype"),
        [
            (np.array([[0.5, 1.0]]), "int32"),
            (np.array([[256, 1]]), "uint8"),
            (np.array([[-1, 1]]), "uint8"),
            (np.array([[1e39, 1.0]]), "float32"),
            (np.array([[2**24 + 1, 1]]), "float32"),
            (np.array([[2**63 + 5, 1]], np.uint64), "int64"),
            (np.array([[1j, 1]]), "float32"),
            (np.array([["a", "b"]]), "float32"),
            (np.array([[1, 2]]), "string"),
        ],
    )
    def test_are_never_changed_by_a_cast(self, npz, given, dtype) -> None:
        with pytest.raises(UsageError, match=f"'x' of type {dtype}"):
            load_samples(npz(x=given), contract(TensorSpec("x", dtype, (1, 2))))

    def test_real_values_for_a_quantized_input_are_refused_with_the_formula(self, npz) -> None:
        spec = TensorSpec("x", "int8", (1, 2), quantization=Quantization((0.5,), (3,)))
        with pytest.raises(UsageError) as caught:
            load_samples(npz(x=np.array([[0.25, 0.5]])), contract(spec))
        assert "scale" in (caught.value.hint or "")

    def test_strings_become_bytes(self, npz) -> None:
        path = npz(x=np.array(["é", "b"]))
        samples = load_samples(path, contract(TensorSpec("x", "string", (None,))))
        assert [s["x"].tolist() for s in samples] == [["é".encode()], [b"b"]]

    def test_bytes_for_a_string_lie_along_the_last_axis(self, npz) -> None:
        path = npz(wav=np.array([82, 73, 0, 0], np.uint8))
        [sample] = load_samples(path, contract(TensorSpec("wav", "string", ())))
        assert sample["wav"].item() == b"RI\0\0"


class TestRefusals:
    @pytest.mark.parametrize(
        ("shape", "given"),
        [
            ((1, 4, 4, 3), (5, 4, 4)),
            ((1, 4, 4, 3), (5, 4, 4, 4)),
            ((1, 4, 4, 3), (2, 5, 4, 4, 3)),
            ((8, 7), (9, 7)),
            ((), (2, 2)),
        ],
    )
    def test_a_wrong_shape_names_input_expected_and_found(self, npz, shape, given) -> None:
        with pytest.raises(UsageError, match="'image'") as caught:
            load_samples(npz(image=np.ones(given, np.float32)), contract(image(shape)))
        for dimension in given:
            assert str(dimension) in str(caught.value)

    def test_different_numbers_of_samples(self, npz) -> None:
        spec = contract(image((None, 4)), TensorSpec("mask", "float32", (None, 4)))
        with pytest.raises(UsageError, match="different numbers"):
            load_samples(npz(image=np.ones((3, 4)), mask=np.ones((4, 4))), spec)

    def test_no_samples_at_all(self, npz) -> None:
        with pytest.raises(UsageError, match="no samples"):
            load_samples(npz(image=np.ones((0, 4, 4, 3))), contract(image()))

    def test_pickles_are_not_opened(self, tmp_path) -> None:
        path = tmp_path / "evil.npy"
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(UsageError, match="pickled"):
            load_samples(path, contract(image()))
        np.savez(tmp_path / "evil.npz", image=np.array([None], dtype=object))
        with pytest.raises(UsageError, match="pickled"):
            load_samples(tmp_path / "evil.npz", contract(image()))

    @pytest.mark.parametrize("content", [b"", b"not numpy", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00"])
    def test_broken_files(self, tmp_path, content) -> None:
        path = tmp_path / "broken.npz"
        path.write_bytes(content)
        with pytest.raises(UsageError, match="readable"):
            load_samples(path, contract(image()))

    def test_a_truncated_file(self, npz) -> None:
        path = npz(image=np.ones((5, 4, 4, 3)))
        path.write_bytes(path.read_bytes()[:700])
        with pytest.raises(UsageError):
            load_samples(path, contract(image()))

    def test_a_missing_file(self, tmp_path) -> None:
        with pytest.raises(UsageError, match="no such"):
            load_samples(tmp_path / "none.npz", contract(image()))


class TestSaving:
    @settings(max_examples=40, deadline=None)
    @given(
        count=st.integers(1, 4),
        shape=st.lists(st.integers(1, 4), max_size=4),
        dtype=st.sampled_from(["float32", "float16", "int8", "int64", "bool", "uint8"]),
        name=st.sampled_from(["x", "file", "scope/x:0", "a b", "in__x"]),
        ragged=st.booleans(),
        seed=st.integers(0, 99),
    )
    def test_is_the_inverse_of_loading(
        self, tmp_path_factory, count, shape, dtype, name, ragged, seed
    ) -> None:
        rng = np.random.default_rng(seed)
        samples = [
            {
                name: rng.integers(0, 2, [*shape, i + 1] if ragged else shape).astype(dtype),
                "other": np.float32(i),
            }
            for i in range(count)
        ]
        path = tmp_path_factory.mktemp("s") / "s.npz"
        save_samples(path, samples)
        spec = contract(
            TensorSpec(name, dtype, (*shape, None) if ragged else tuple(shape)),
            TensorSpec("other", "float32", ()),
        )
        loaded = load_samples(path, spec)
        assert len(loaded) == count
        for before, after in zip(samples, loaded, strict=True):
            assert after[name].dtype == before[name].dtype
            np.testing.assert_array_equal(after[name], before[name])
            np.testing.assert_array_equal(after["other"], before["other"])

    def test_keeps_strings_even_with_zero_bytes_at_the_end(self, tmp_path) -> None:
        samples = [{"wav": np.array(b"RIFF\0\0", dtype=object)}, {"wav": np.array(b"RI\0", dtype=object)}]
        path = tmp_path / "s.npz"
        save_samples(path, samples)
        loaded = load_samples(path, contract(TensorSpec("wav", "string", ())))
        assert [s["wav"].item() for s in loaded] == [b"RIFF\0\0", b"RI\0"]

    def test_gives_equal_bytes_for_equal_samples(self, tmp_path) -> None:
        for name in ("a.npz", "b.npz"):
            save_samples(tmp_path / name, [{"x": np.ones((2, 3), np.float32)}])
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()

    def test_refuses_samples_with_different_inputs(self, tmp_path) -> None:
        with pytest.raises(UsageError, match="sample 1"):
            save_samples(tmp_path / "s.npz", [{"x": np.ones(2)}, {"y": np.ones(2)}])


class TestTheHash:
    def test_does_not_depend_on_compression(self, tmp_path) -> None:
        data = np.arange(100.0)
        np.savez(tmp_path / "a.npz", x=data)
        np.savez_compressed(tmp_path / "b.npz", x=data)
        assert samples_sha256(tmp_path / "a.npz") == samples_sha256(tmp_path / "b.npz")

    def test_does_not_depend_on_byte_order_or_memory_layout(self, tmp_path) -> None:
        data = np.arange(12.0).reshape(3, 4)
        np.savez(tmp_path / "a.npz", x=data)
        np.savez(tmp_path / "b.npz", x=np.asfortranarray(data).astype(">f8"))
        assert samples_sha256(tmp_path / "a.npz") == samples_sha256(tmp_path / "b.npz")

    @pytest.mark.parametrize(
        "other",
        [{"y": np.ones(4)}, {"x": np.ones((2, 2))}, {"x": np.ones(4, np.float32)}, {"x": np.zeros(4)}],
    )
    def test_depends_on_names_shapes_dtypes_and_values(self, tmp_path, other) -> None:
        np.savez(tmp_path / "a.npz", x=np.ones(4))
        np.savez(tmp_path / "b.npz", **other)
        assert samples_sha256(tmp_path / "a.npz") != samples_sha256(tmp_path / "b.npz")


@pytest.mark.corpus
def test_the_recorded_inputs_of_the_corpus_can_be_read(corpus) -> None:
    spec = contract(TensorSpec("X", "float32", (1, 784)), TensorSpec("keep_prob", "float32", ()))
    [sample] = load_samples(corpus / "golden" / "t2o-lstm.npz", spec)
    assert sample["X"].shape == (1, 784)
    wav = contract(TensorSpec("wav_data", "string", ()))
    [sample] = load_samples(corpus / "golden" / "kws-CNN_S.npz", wav)
    assert sample["wav_data"].item().startswith(b"RIFF")


def test_recordings_for_a_scalar_string_input_are_read_and_written_again(tmp_path: Path) -> None:
    one_file = Contract((TensorSpec("wav", "string", ()),), ())
    recordings = np.frombuffer(b"RIFF\0one\0RIFF\0two\0", np.uint8).reshape(2, -1)
    np.savez(tmp_path / "given.npz", wav=recordings)
    given = load_samples(tmp_path / "given.npz", one_file)
    save_samples(tmp_path / "again.npz", given)
    again = load_samples(tmp_path / "again.npz", one_file)
    assert [sample["wav"].item() for sample in again] == [b"RIFF\0one\0", b"RIFF\0two\0"]
    assert all(sample["wav"].shape == () for sample in (*given, *again))
