"""Which op or part slowed down: ranking, intervals, and what is not named."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.latency.culprit import matched, spread


def launches(before: dict[tuple[str, str], float], now: dict[tuple[str, str], float], count: int = 12):
    """Profiles with a noise of one percent."""
    rng = np.random.default_rng(1)

    def noisy(times):
        return {key: value * rng.normal(1, 0.01) for key, value in times.items()}

    return [(noisy(before), noisy(now)) for _ in range(count)]


def test_the_op_that_became_slower_is_named_first_with_its_interval() -> None:
    before = {("Conv", "a"): 1000.0, ("Conv", "b"): 1000.0, ("Relu", "c"): 100.0}
    parts = matched(launches(before, {**before, ("Conv", "b"): 1500.0}))
    assert parts[0].what == "Conv 'b'"
    assert parts[0].low_ns < 500 < parts[0].high_ns
    assert [part.what for part in parts] == ["Conv 'b'"]


def test_an_op_that_only_one_has_is_said_to_be_new_or_gone() -> None:
    before = {("Conv", "a"): 1000.0, ("Relu", "old"): 400.0}
    now = {("Conv", "a"): 1000.0, ("Transpose", "new"): 500.0}
    parts = matched(launches(before, now))
    assert [(part.what, part.kind) for part in parts] == [
        ("Transpose 'new'", "op, new"),
        ("Relu 'old'", "op, gone"),
    ]
    assert parts[0].baseline_ns == 0


def test_ops_are_matched_by_type_where_names_are_others() -> None:
    before = {("Conv", f"a{n}"): 100.0 for n in range(5)}
    now = {("Conv", f"b{n}"): 150.0 for n in range(5)}
    (part,) = matched(launches(before, now))
    assert part.what == "all Conv"
    assert 200 < part.difference_ns < 300


def test_long_names_of_fused_ops_are_shortened() -> None:
    name = ";".join(f"block_{n}/conv/BiasAdd" for n in range(9))
    before = {("Conv", name): 1000.0}
    (part,) = matched(launches(before, {("Conv", name): 1500.0}))
    assert part.what == "Conv 'block_0/conv/BiasAdd;…'"


def test_equals_have_no_culprit_that_is_large() -> None:
    same = {("Conv", f"a{n}"): 100.0 for n in range(5)}
    assert all(abs(part.difference_ns) < 5 for part in matched(launches(same, same)))


@given(st.integers(0, 50), st.integers(1, 8))
def test_cuts_are_at_most_so_many_in_order_and_each_once(count: int, most: int) -> None:
    names = [f"t{n}" for n in range(count)]
    chosen = spread(names, most)
    assert len(chosen) <= most or len(chosen) == count
    assert chosen == sorted(set(chosen), key=names.index)
