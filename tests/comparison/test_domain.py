"""Made-up inputs on which the source gives NaN are left out, and never the last ones."""

from __future__ import annotations

import numpy as np

from edgeconv.comparison.domain import in_domain
from edgeconv.comparison.observation import Observation, ProbeResult
from edgeconv.comparison.probes import Probe

X = np.ones(3, np.float32)
NAN = np.array([1, np.nan, 1], np.float32)


def case(*outputs: object) -> tuple[list[Probe], Observation]:
    probes = [Probe(str(index), {"x": X}) for index in range(len(outputs))]
    results = tuple(ProbeResult(str(index), {"y": np.asarray(value)}) for index, value in enumerate(outputs))
    return probes, Observation("source", results)


def test_probes_that_give_nan_are_left_out_and_named() -> None:
    kept, notes = in_domain(*case(X, NAN, X))

    assert [probe.label for probe in kept] == ["0", "2"]
    assert notes == ["made-up inputs for which the source gives NaN were left out: '1'"]


def test_what_was_left_out_before_stays_out_and_is_not_said_again() -> None:
    probes, reference = case(X, NAN, X)
    kept, _ = in_domain(probes, reference)
    of_the_next = Observation("frozen", tuple(r for r in reference.results if r.label != "1"))

    assert in_domain(probes, of_the_next) == (kept, [])


def test_infinity_and_whole_numbers_are_values() -> None:
    kept, notes = in_domain(*case(np.array([np.inf]), np.arange(3)))

    assert (len(kept), notes) == (2, [])


def test_where_all_give_nan_all_stay_so_that_the_gate_says_it() -> None:
    kept, notes = in_domain(*case(NAN, NAN))

    assert (len(kept), notes) == (2, [])
