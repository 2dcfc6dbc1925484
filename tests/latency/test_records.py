"""What a measurement is goes to JSON and comes back as it was; anything else is refused by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.errors import UsageError
from edgeconv.latency import records
from edgeconv.latency.records import Artifact, DeviceFacts, LaunchRecord, Measurement, Setting, Spoiled

INT64 = st.integers(-(2**63), 2**63 - 1)


def launch(samples: Any = ((5, 6), (7, 8)), **fields: Any) -> LaunchRecord:
    given = {
        "number": 0,
        "place": 0,
        "load_seconds": 0.5,
        "first_ns": 90,
        "warm": np.array([9, 8], np.int64),
        "samples": np.array(samples, np.int64),
        "columns": {"begin": np.arange(2)},
        "steady": True,
        "readings": ({"at": 1, "mhz": [1500.0]},),
        "nanoseconds": 30,
        "peak_bytes": 4096,
    }
    return LaunchRecord(**{**given, **fields})


def measurement(*launches: LaunchRecord, **fields: Any) -> Measurement:
    given = {
        "run": "a1",
        "at": "2026-01-01T00:00:00+00:00",
        "artifact": Artifact("m.tflite", "0" * 64, 12, "tflite", "int8"),
        "device": DeviceFacts("local", "local", facts={"cores": 2}),
        "setting": Setting("litert", "2.3.0", 2, None, {"asked": "xnnpack", "ran": {"xnnpack": 3}}),
        "launches": launches or (launch(),),
        "overhead_ns": (70.0, 71.0),
        "edgeconv": "1",
    }
    return Measurement(**{**given, **fields})


def broken(**changes: Any) -> str:
    content = json.loads(records.to_json([measurement()]))
    for place, value in changes.items():
        inner: Any = content["measurements"][0]
        *path, last = place.split("__")
        for step in path:
            inner = inner[int(step) if step.isdigit() else step]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value
    return json.dumps(content)


def test_a_file_of_measurements_gives_back_what_was_written(tmp_path: Path) -> None:
    spoiled = launch(number=1, first_ns=None, peak_bytes=None, spoiled=(Spoiled("heat", "82 °C"),))
    written = (measurement(launch(), spoiled), measurement(commit="abc"))
    records.write(tmp_path / "m.json", written)
    assert records.read(tmp_path / "m.json") == written


@given(st.lists(INT64, min_size=1), INT64)
def test_any_samples_come_back_exactly(samples: list[int], first: int) -> None:
    written = (measurement(launch([samples], first_ns=first, warm=np.empty(0, np.int64))),)
    assert records.from_json(records.to_json(written)) == written


def test_launches_that_were_spoiled_do_not_count_unless_too_few_are_left() -> None:
    good, hot = launch(), launch(number=1, spoiled=(Spoiled("heat", "82 °C"),))
    assert measurement(*[good] * 6, hot).trusted == (good,) * 6
    assert measurement(*[good] * 5, hot).trusted == (*[good] * 5, hot)
    assert measurement(good).trusted == (good,)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"artifact__bytes": "12"}, "artifact.bytes"),
        ({"artifact__bytes": True}, "artifact.bytes"),
        ({"setting__version": KeyError}, "setting.version"),
        ({"launches__0__samples": [[1, 2], [3]]}, "launches[0].samples"),
        ({"launches__0__samples": [1, 2]}, "launches[0].samples"),
        ({"launches__0__samples": [[1, 2.5]]}, "launches[0].samples"),
        ({"launches__0__samples": [[2**63]]}, "launches[0].samples"),
        ({"launches__0__columns": []}, "launches[0].columns"),
        ({"launches": None}, "launches"),
        ({"overhead_ns": ["70"]}, "overhead_ns[0]"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(UsageError) as caught:
        records.from_json(broken(**changes), "m.json")
    assert place in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"edgeconv-measurements": true}', "[" * 100_000, '{"a": NaN}']
)
def test_other_files_are_told_as_no_measurements(text: str) -> None:
    with pytest.raises(UsageError):
        records.from_json(text)


def test_a_file_of_a_later_version_is_refused_and_one_with_more_fields_is_read() -> None:
    text = records.to_json([measurement()])
    with pytest.raises(UsageError, match="version is 2"):
        records.from_json(text.replace('measurements":1', 'measurements":2', 1))
    assert records.from_json(broken(later="field")) == (measurement(),)
