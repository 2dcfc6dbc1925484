"""Variants of a quantized TFLite file, until one runs where it is to run.

What an old runtime refuses is told from tables that were measured of it. Two things can be given up, the
lesser first: the scales of dense layers (one each in place of one a channel, for the dynamic precision), and
the precision of the operators that are refused, which stay float32.

The option ``runs_on`` is ``{"places": [["RUNTIME==VERSION", …], …]}``: in each place one of the runtimes
has to take the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.checking.tflite import refused_operators
from edgeconv.conversions.base import ConversionJob

if TYPE_CHECKING:
    from edgeconv.quantization.litert_quantizer import Quantized

_MOST_VARIANTS = 6


def variant_that_runs(
    job: ConversionJob, make: Callable[[bool, frozenset[str]], Quantized]
) -> tuple[Quantized, list[str]]:
    """Make the file, and make it again while a runtime that it is for refuses it.

    Args:
        job: with the options ``runs_on`` and ``per_channel_dense``; its destination is checked.
        make: given whether dense layers have a scale a channel, and the kinds of operators to leave in
            float32, writes the destination.

    Returns:
        The last one made, and what was given up for which runtime, one sentence each. Where no variant
        runs there, the first one, since nothing is gained by giving anything up.
    """
    from edgeconv.quantization.litert_quantizer import can_be_left

    per_channel = bool(job.options.get("per_channel_dense", True))
    wanted: Mapping[str, Any] = job.options.get("runs_on") or {}
    leave: frozenset[str] = frozenset()
    notes: list[str] = []
    quantized = first = make(per_channel, leave)
    for _ in range(_MOST_VARIANTS):
        runtime, refused = _refusal(job.destination, wanted.get("places", []))
        if not refused:
            return quantized, notes
        if "FULLY_CONNECTED" in refused and per_channel and job.precision == "dynamic":
            per_channel = False
            notes.append(
                f"dense layers have one scale each: {runtime} does not take those with one for each output"
            )
        else:
            more = frozenset(kind for kind in refused - leave if can_be_left(kind))
            if not more:
                break
            leave |= more
            names = ", ".join(sorted(more))
            notes.append(f"left in float32 because {runtime} does not take them in {job.precision}: {names}")
        quantized = make(per_channel, leave)
    if quantized is not first:
        quantized = make(bool(job.options.get("per_channel_dense", True)), frozenset())
    return quantized, []


def _refusal(path: Path, places: list[list[str]]) -> tuple[str, frozenset[str]]:
    """The first place where no runtime takes the file: the runtime that refuses least, and what."""
    for runtimes in places:
        found = {text: refused_operators(path, *text.split("==", 1)) for text in runtimes}
        least = min(found, key=lambda text: len(found[text]))
        if found[least]:
            return least.replace("==", " "), found[least]
    return "", frozenset()
