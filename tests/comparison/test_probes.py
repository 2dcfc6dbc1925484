"""Probes respect the contract, are the same for the same seed, and survive the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.comparison.probes import (
    Probe,
    load_probes,
    make_probes,
    probes_from_samples,
    probes_sha256,
    ranges_of_quantized,
    ranges_of_samples,
    save_probes,
)
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, Quantization, TensorSpec

DTYPES = ["float16", "float32", "float64", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32"]
DTYPES += ["int64", "uint64", "bool", "complex64", "string"]


def _contract(*specs: TensorSpec, **more: object) -> Contract:
    return Contract(specs, (), **more)  # type: ignore[arg-type]


specs = st.builds(
    TensorSpec,
    name=st.text(min_size=1, max_size=12),
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=4).map(tuple),
)


@settings(deadline=None, max_examples=25)
@given(st.lists(specs, min_size=1, max_size=3, unique_by=lambda s: s.name), st.integers(0, 2**31))
def test_any_contract_gets_probes_of_its_shapes_and_types(inputs: list[TensorSpec], seed: int) -> None:
    contract = _contract(*inputs)
    probes = make_probes(contract, seed=seed, count=2)
    assert probes_sha256(probes) == probes_sha256(make_probes(contract, seed=seed, count=2))
    for probe in probes:
        for spec in inputs:
            value = probe.inputs[spec.name]
            assert value.dtype.name == ("object" if spec.dtype == "string" else spec.dtype)
            assert spec.shape is not None
            assert len(value.shape) == len(spec.shape)
            assert all(b is None or a == b for a, b in zip(value.shape, spec.shape, strict=True))


@settings(deadline=None, max_examples=25)
@given(probes_seed=st.integers(0, 1000), name=st.text(min_size=1))
def test_probes_come_back_from_disk_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, probes_seed: int, name: str
) -> None:
    inputs = [TensorSpec(f"{name}/{dtype}", dtype, (2, 3)) for dtype in DTYPES]
    probes = make_probes(_contract(*inputs), seed=probes_seed, count=1)
    path = tmp_path_factory.mktemp("probes") / "probes.npz"
    save_probes(path, probes)
    again = load_probes(path)
    assert probes_sha256(again) == probes_sha256(probes)
    assert [list(probe.inputs) for probe in again] == [list(probe.inputs) for probe in probes]


def test_strings_keep_their_zero_bytes(tmp_path: Path) -> None:
    value = np.array([b"a\0\0", b"", "ä".encode()], dtype=object)
    save_probes(tmp_path / "p.npz", [Probe("one", {"../x": value})])
    assert load_probes(tmp_path / "p.npz")[0].inputs["../x"].tolist() == value.tolist()
    np.load(tmp_path / "p.npz", allow_pickle=False).close()


def test_another_seed_gives_other_probes_and_another_input_changes_none() -> None:
    image = TensorSpec("image", "float32", (1, 8, 8, 3))
    one, two = make_probes(_contract(image)), make_probes(_contract(image), seed=1)
    assert probes_sha256(one) != probes_sha256(two)
    more = make_probes(_contract(TensorSpec("a", "float32", (3,)), image))
    assert np.array_equal(more[0].inputs["image"], one[0].inputs["image"])


def test_a_dynamic_batch_is_tried_with_two_items_and_may_be_refused() -> None:
    probes = make_probes(_contract(TensorSpec("x", "float32", (None, 4)), TensorSpec("k", "float32", ())))
    assert [probe.inputs["x"].shape for probe in probes] == [(1, 4)] * 3 + [(2, 4)]
    assert [probe.optional for probe in probes] == [False, False, False, True]
    assert len(make_probes(_contract(TensorSpec("x", "float32", (1, 4))))) == 3


def test_open_sizes_of_images_are_those_of_images() -> None:
    (probe,) = make_probes(_contract(TensorSpec("x", "float32", (1, None, None, 3))), count=1)
    assert probe.inputs["x"].shape == (1, 128, 128, 3)
    (probe,) = make_probes(_contract(TensorSpec("x", "float32", (1, 3, None, None))), count=1)
    assert probe.inputs["x"].shape == (1, 3, 128, 128)


def test_an_unknown_rank_is_asked_for_and_a_given_shape_is_taken() -> None:
    contract = _contract(TensorSpec("x", "float32", None))
    with pytest.raises(UsageError) as caught:
        make_probes(contract)
    assert "--shape x=1," in (caught.value.hint or "")
    assert make_probes(contract, shapes={"x": (1, 7)})[0].inputs["x"].shape == (1, 7)
    with pytest.raises(UsageError, match="does not fit"):
        make_probes(_contract(TensorSpec("x", "float32", (1, 7))), shapes={"x": (1, 8)})
    with pytest.raises(UsageError, match="no input 'y'"):
        make_probes(contract, shapes={"y": (1,)})


def test_integers_stay_small_enough_for_embeddings() -> None:
    probes = make_probes(_contract(TensorSpec("tokens", "int32", (1, 64))), count=5)
    values = np.concatenate([probe.inputs["tokens"] for probe in probes])
    assert 0 <= values.min() < values.max() <= 9


def test_pixels_use_all_of_their_range() -> None:
    probes = make_probes(_contract(TensorSpec("image", "uint8", (1, 32, 32, 3))), count=3)
    assert max(int(probe.inputs["image"].max()) for probe in probes) > 200


def test_a_switch_takes_both_values() -> None:
    probes = make_probes(_contract(TensorSpec("is_training", "bool", ())), count=1)
    assert [bool(probe.inputs["is_training"]) for probe in probes] == [False, True]


def test_normalisation_of_the_contract_is_followed() -> None:
    image = TensorSpec("image", "float32", (1, 16, 16, 3))
    probes = make_probes(_contract(image, normalisation={"range": [-1, 1]}), count=3)
    values = np.concatenate([probe.inputs["image"] for probe in probes])
    assert -1 <= values.min() < -0.8
    assert 0.8 < values.max() <= 1
    probes = make_probes(_contract(image, normalisation={"mean": [127.5] * 3, "std": [127.5] * 3}), count=3)
    assert max(float(np.abs(probe.inputs["image"]).max()) for probe in probes) <= 1.0


def test_quantized_inputs_get_stored_values_over_their_range() -> None:
    spec = TensorSpec("x", "int8", (1, 500), quantization=Quantization((0.5,), (-128,)))
    probe = make_probes(_contract(spec), count=1)[0]
    assert probe.inputs["x"].dtype == np.int8
    assert probe.inputs["x"].min() < -100
    assert probe.inputs["x"].max() > 100
    assert ranges_of_quantized(_contract(spec)) == {"x": (0.0, 127.5)}


def test_ranges_narrow_all_kinds_of_probes() -> None:
    contract = _contract(TensorSpec("x", "float32", (1, 8, 8, 3)))
    for probe in make_probes(contract, ranges={"x": (2.0, 3.0)}):
        assert probe.inputs["x"].min() >= 2.0
        assert probe.inputs["x"].max() <= 3.0
    assert ranges_of_samples([{"x": np.float32([1, 2])}, {"x": np.float32([-1])}]) == {"x": (-1.0, 2.0)}


def test_samples_become_probes_if_they_fit() -> None:
    contract = _contract(TensorSpec("x", "float32", (None, 2)))
    sample = {"x": np.zeros((1, 2), np.float32)}
    assert [p.label for p in probes_from_samples([sample] * 3, contract, limit=2)] == ["sample 0", "sample 1"]
    with pytest.raises(UsageError, match="does not fit"):
        probes_from_samples([{"x": np.zeros((1, 3), np.float32)}], contract)
    with pytest.raises(UsageError, match="no samples"):
        probes_from_samples([])


def test_resources_cannot_be_tried() -> None:
    with pytest.raises(UsageError, match="resource"):
        make_probes(_contract(TensorSpec("table", "resource", ())))


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(UsageError):
        load_probes(tmp_path / "junk.npz")
    np.savez(tmp_path / "plain.npz", x=np.zeros(3))
    with pytest.raises(UsageError):
        load_probes(tmp_path / "plain.npz")
    with pytest.raises(UsageError, match="no such file"):
        load_probes(tmp_path / "missing.npz")
