"""Small whole numbers in the place of probes that a source refuses."""

from __future__ import annotations

import numpy as np

from edgeconv.comparison.probes import make_probes
from edgeconv.comparison.whole_numbers import whole_numbers
from edgeconv.formats.base import Contract, TensorSpec


def spec(name: str, dtype: str, shape: tuple[int | None, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def test_floats_that_may_count_become_whole_and_never_negative() -> None:
    probes = make_probes(Contract((spec("words", "float32", (None, 12)),), ()))

    first, last = list(whole_numbers(probes))

    assert [p.inputs["words"].shape for p in first] == [p.inputs["words"].shape for p in probes]
    values = np.concatenate([p.inputs["words"].reshape(-1) for p in first])
    assert values.dtype == np.float32
    assert set(values) <= set(range(10))
    assert len(set(values)) > 5
    assert set(np.concatenate([p.inputs["words"].reshape(-1) for p in last])) == {0.0, 1.0}
    assert [p.optional for p in first] == [p.optional for p in probes]


def test_of_several_inputs_each_is_narrowed_alone_before_all_are() -> None:
    inputs = (spec("ids", "int32", (1, 30)), spec("kinds", "int32", (1, 30)))
    tries = list(whole_numbers(make_probes(Contract(inputs, ()))))

    largest = [(int(t[0].inputs["ids"].max()), int(t[0].inputs["kinds"].max())) for t in tries]

    assert largest == [(9, 9), (1, 9), (9, 1), (1, 1)]
    assert "kinds 0 or 1" in tries[2][0].label


def test_images_words_switches_and_scalars_stay() -> None:
    inputs = (
        spec("image", "float32", (1, 8, 8, 3)),
        spec("text", "string", (1,)),
        spec("on", "bool", ()),
        spec("rate", "float32", ()),
    )

    assert list(whole_numbers(make_probes(Contract(inputs, ())))) == []
