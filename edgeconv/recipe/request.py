"""What the user asked for, before anything was looked at."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeconv.conversions.base import PRECISIONS
from edgeconv.conversions.registry import conversions
from edgeconv.errors import UsageError
from edgeconv.execution.stage import Limits
from edgeconv.formats.base import Shape

DEFAULT_TARGETS = ("frozen_graph", "tflite", "onnx")
"""Formats made where nothing is asked for, in fp32, as far as there is a way to them."""


@dataclass(frozen=True, slots=True)
class Target:
    """One artifact asked for."""

    format: str
    precision: str

    @property
    def id(self) -> str:
        """Its id in plan and manifest."""
        return f"{self.format}.{self.precision}"


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """A call of ``edgeconv convert``.

    Attributes:
        model: file, folder or checkpoint prefix.
        output: folder for the artifacts; ``MODEL-NAME.edgeconv`` beside the caller where ``None``.
        to: artifacts asked for; empty for :data:`DEFAULT_TARGETS`.
        targets: kinds of devices, ``NAME`` or ``NAME@RELEASE``, that the artifacts are to run on.
        data: samples for the gates instead of seeded probes.
        calibration: samples for quantization.
        shapes: input name to the shape that is pinned.
        inputs, outputs: tensors where the graph begins and ends; empty to take what the model says.
        tolerance: texts as in ``--tolerance``.
        checkpoint: with the weights of the model.
        graph: a file with the graph that the values of a checkpoint belong to.
        map_variable: ``PATTERN=REPLACEMENT``, from the graph's names of variables to the checkpoint's.
        restore: regular expressions; only variables that one matches are taken from the checkpoint.
        moving_averages: whether the moving averages of a checkpoint take the place of the variables.
        pipeline_config: ``pipeline.config`` of a detector; where ``None``, the one beside the model.
        postprocessing: ``keep``, or ``cut`` to end a detector in front of it and have it beside the rest.
        label_map: file with the names of classes; where ``None``, the one beside the ``pipeline.config``.
        model_builder: ``MODULE:FUNCTION`` that builds the model of a checkpoint or of weights alone.
        custom_objects: module or ``FILE.py`` with the custom layers and functions of a Keras model.
        config: the architecture of weights alone, as Keras writes it in JSON or YAML.
        keras_backend: what an old Keras file was trained with, where it does not say.
        keep_weights: leave the weights of frozen graphs as they are: nothing is folded into them.
        opset: of ONNX files; the arrow's own, or what all of the targets take, where ``None``.
        use_cache: whether finished work of earlier runs may be used and kept.
    """

    model: Path
    output: Path | None = None
    to: tuple[Target, ...] = ()
    targets: tuple[str, ...] = ()
    data: Path | None = None
    calibration: Path | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    signature: str | None = None
    tags: tuple[str, ...] | None = None
    tolerance: tuple[str, ...] = ()
    checkpoint: Path | None = None
    graph: Path | None = None
    map_variable: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    moving_averages: bool = False
    pipeline_config: Path | None = None
    label_map: Path | None = None
    postprocessing: str = "keep"
    model_builder: str | None = None
    keep_weights: bool = False
    custom_objects: str | None = None
    config: Path | None = None
    keras_backend: str | None = None
    trust: bool = False
    opset: int | None = None
    jobs: int | None = None
    seed: int = 0
    use_cache: bool = True
    limits: Limits = field(default_factory=Limits)


def parse_targets(texts: Sequence[str]) -> tuple[Target, ...]:
    """Read ``--to``: ``FORMAT``, ``FORMAT:PRECISION`` or ``FORMAT:all``, separated by commas.

    >>> parse_targets(["tflite:int8,onnx"])
    (Target(format='tflite', precision='int8'), Target(format='onnx', precision='fp32'))

    Raises:
        UsageError: an unknown format or precision; names the nearest, or those the format has.
    """
    precisions: dict[str, list[str]] = {}
    for conversion in conversions():
        known = precisions.setdefault(conversion.target, [])
        known.extend(p for p in conversion.precisions if p not in known)
    found: dict[Target, None] = {}
    for text in ",".join(texts).split(","):
        if not text.strip():
            continue
        name, _, precision = text.strip().partition(":")
        if name not in precisions:
            raise _unknown("format", name, sorted(precisions), "--to")
        if precision == "all":
            wanted = [p for p in PRECISIONS if p in precisions[name]]
        else:
            wanted = [precision or "fp32"]
        for each in wanted:
            if each not in PRECISIONS:
                raise _unknown("precision", each, list(PRECISIONS), "--to")
            if each not in precisions[name]:
                has = ", ".join(p for p in PRECISIONS if p in precisions[name])
                raise UsageError(f"{name} has no {each}", hint=f"{name} can be had in: {has}")
            found[Target(name, each)] = None
    return tuple(found)


def parse_shapes(texts: Sequence[str]) -> dict[str, Shape]:
    """Read ``--shape NAME=1,224,224,3``; ``?`` or ``-1`` leaves a dimension open.

    >>> parse_shapes(["image=1,224,224,3", "ids=?,16"])
    {'image': (1, 224, 224, 3), 'ids': (None, 16)}

    Raises:
        UsageError: not of that form.
    """
    shapes: dict[str, Shape] = {}
    for text in texts:
        name, equals, dimensions = text.rpartition("=")
        try:
            if not equals or not name:
                raise ValueError(text)
            shape = tuple(_dimension(d) for d in dimensions.split(",")) if dimensions.strip() else ()
        except ValueError:
            raise UsageError(
                f"'{text}' is no shape", hint="write --shape NAME=1,224,224,3 ('?' leaves a dimension open)"
            ) from None
        shapes[name] = shape
    return shapes


def _dimension(text: str) -> int | None:
    if text.strip() in ("?", "-1", "None"):
        return None
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _unknown(kind: str, name: str, known: list[str], flag: str) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1)
    return UsageError(
        f"unknown {kind} '{name}' in {flag}",
        hint=f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}",
    )


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Read ``--map REFERENCE=CANDIDATE``.

    >>> parse_pairs(["boxes=Identity_1"], "--map")
    {'boxes': 'Identity_1'}

    Raises:
        UsageError: not of that form.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        reference, equals, candidate = text.partition("=")
        if not (reference and equals and candidate):
            raise UsageError(f"'{text}' is no pair", hint=f"write {flag} REFERENCE=CANDIDATE")
        pairs[reference] = candidate
    return pairs
