"""docs/agent.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeconv.agent import wire
from edgeconv.agent.backends.base import backends
from edgeconv.agent.errors import KINDS
from edgeconv.agent.measure import COLUMNS, MOST_SAMPLES
from edgeconv.agent.verbs import VERBS

PAGE = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """The first table under a heading: the names in the first column to the rest of the row."""
    table = PAGE.split(f"\n{heading}\n", 1)[1].split("\n| ---", 1)[1].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines()[1:]:
        first, _, rest = line.strip("| ").partition(" | ")
        for name in re.findall(r"`([^`]+)`", first):
            found[name] = rest
    return found


def test_every_verb_has_its_row_and_no_other() -> None:
    assert set(rows("## Verbs")) == set(VERBS)


def test_every_kind_of_error_has_its_row() -> None:
    assert set(rows("### Errors")) == set(KINDS)


def test_every_runtime_has_its_row_with_its_formats() -> None:
    found = rows("### Runtimes")
    assert set(found) == set(backends())
    for name, backend in backends().items():
        assert re.findall(r"`([^`]+)`", found[name].split(" | ")[0]) == list(backend.formats)


@pytest.mark.parametrize("name", [*COLUMNS, *(o for b in backends().values() for o in b.options)])
def test_every_column_and_option_is_explained(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_bounds_are_those_of_the_code() -> None:
    assert f"at most {wire.LARGEST_HEADER >> 20} MiB" in PAGE
    assert f"at most {wire.LARGEST_BODY >> 30} GiB" in PAGE
    assert f"at most {wire.CHUNK >> 20} MiB each" in PAGE
    assert f"what {MOST_SAMPLES:,} samples allow" in PAGE
    assert f'"edgeconv-agent": {wire.PROTOCOL},' in PAGE
