"""The worker's side of ``--locate``: looks into both models on the same probes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.comparison.locate import locate as locate_between
from edgeconv.comparison.mapping import map_inputs
from edgeconv.comparison.observation import adapt_inputs
from edgeconv.comparison.probes import load_probes
from edgeconv.comparison.tensor_sources.base import open_source
from edgeconv.comparison.tolerances import Tolerance
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, contract_from_json, to_json

PROBES = 2
"""One probe can pair two tensors by accident, two do not; more only cost time."""


def locate(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Find the first tensor at which two artifacts part.

    Args:
        payload: ``reference`` and ``candidate`` (path, format, contract), ``probes`` (path),
            ``probes_contract`` (what the probes were made for), ``tolerance``, ``outputs`` (reference
            output to candidate output), ``input_map``.

    Returns:
        A :class:`~edgeconv.comparison.locate.Divergence` as JSON takes it.
    """
    sides = {name: _contract(payload[name]) for name in ("reference", "candidate")}
    made_for = _contract({"path": "", "contract": payload["probes_contract"]}).inputs
    given = payload.get("input_map") or None
    names = {
        "reference": map_inputs(made_for, sides["reference"].inputs).names,
        "candidate": map_inputs(made_for, sides["candidate"].inputs, given=given).names,
    }
    probes = load_probes(Path(payload["probes"]))[:PROBES]
    pairs = [
        (
            adapt_inputs(probe, sides["reference"].inputs, made_for, names["reference"]),
            adapt_inputs(probe, sides["candidate"].inputs, made_for, names["candidate"]),
        )
        for probe in probes
    ]
    reference, candidate = payload["reference"], payload["candidate"]
    with (
        open_source(Path(reference["path"]), reference["format"], sides["reference"]) as one,
        open_source(Path(candidate["path"]), candidate["format"], sides["candidate"]) as other,
    ):
        found = locate_between(
            one, other, pairs, Tolerance(**payload["tolerance"]), outputs=payload.get("outputs")
        )
    result: dict[str, Any] = to_json(found)
    return result


def _contract(side: Mapping[str, Any]) -> Contract:
    contract = contract_from_json(side["contract"])
    if contract is None:
        raise UsageError("its inputs and outputs are not known", where=side["path"])
    return contract
