"""Inputs to try two artifacts on when the user gives none: seeded, and true to the contract.

The same contract, seed and count give the same probes on every machine: each tensor has its own random
stream, seeded by its name, so that an input more or a different order changes nothing in the others.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.comparison.affine import quantize, stored_range
from edgeconv.comparison.archive import Array, as_bytes, is_text, read_archive, text_array, write_archive
from edgeconv.comparison.probe_values import KINDS, values_for
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, TensorSpec

Range = tuple[float, float]
TextMaker = Callable[[np.random.Generator, int], bytes]
"""One valid string for an input, of a stream of randomness and the number of the probe."""

IMAGE_SIDE = 128
"""Height and width where an image's are not fixed: a multiple of every usual stride, above the 75 pixels
that the Inception networks need."""
OTHER_SIZE = 16
"""Any other dimension that is not fixed (time steps, tokens)."""
SECOND_BATCH = 2
CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Probe:
    """One set of inputs.

    Attributes:
        label: says where it comes from (``normal, seed 0``, ``sample 3``).
        inputs: an array for each input of the contract by logical name, in stored dtype; strings are
            object arrays of bytes.
        optional: the shape was chosen freely (another batch), so a model that refuses it is not wrong.
    """

    label: str
    inputs: Mapping[str, Array]
    optional: bool = False


def make_probes(
    contract: Contract,
    *,
    seed: int = 0,
    count: int = 3,
    shapes: Mapping[str, Sequence[int]] | None = None,
    ranges: Mapping[str, Range] | None = None,
    strings: Mapping[str, TextMaker] | None = None,
) -> list[Probe]:
    """Seeded probes for a model of this contract.

    Args:
        contract: dtypes, shapes, quantization and normalisation of the inputs.
        seed: the same seed gives the same probes.
        count: how many probes of batch 1 (at least 1). A scalar bool input takes both values, which needs
            two. One more, of batch 2, is added where the leading dimension of every input that has one
            is dynamic.
        shapes: full shapes by input name, as given with ``--shape``.
        ranges: real value range by input name; narrows all kinds of probes to it. Wanted when the
            candidate is quantized: outside of what it was calibrated on a quantized model clips.
        strings: what makes valid strings by input name (recordings, images, records); words for others.

    Returns:
        The probes, batch 1 first. Kinds rotate: uniform, normal, smooth like a photograph.

    Raises:
        UsageError: an input's rank is unknown and ``shapes`` does not say, a shape does not fit the
            contract, or an input's type has no values (``resource``, ``variant``).
    """
    if count < 1:
        raise UsageError(f"{count} probes prove nothing", hint="ask for at least one probe")
    pinned = {name: tuple(int(size) for size in shape) for name, shape in (shapes or {}).items()}
    known = {spec.name for spec in contract.inputs}
    for name in list(pinned) + list(ranges or {}):
        if name not in known:
            raise UsageError(
                f"the model has no input '{name}'", hint=f"its inputs: {', '.join(sorted(known)) or 'none'}"
            )
    if any(spec.dtype == "bool" and spec.shape == () for spec in contract.inputs):
        count = max(count, 2)
    probes = [
        _probe(contract, seed, index, batch=1, pinned=pinned, ranges=ranges or {}, strings=strings or {})
        for index in range(count)
    ]
    if _has_dynamic_batch(contract, pinned):
        probes.append(
            _probe(
                contract,
                seed,
                count,
                batch=SECOND_BATCH,
                pinned=pinned,
                ranges=ranges or {},
                strings=strings or {},
            )
        )
    return probes


def probes_from_samples(
    samples: Sequence[Mapping[str, Array]], contract: Contract | None = None, *, limit: int | None = None
) -> list[Probe]:
    """The user's samples as probes.

    Args:
        samples: an array for each input by logical name, one mapping a sample.
        contract: checked against where given.
        limit: take no more than so many.

    Raises:
        UsageError: there is no sample, or one does not fit the contract.
    """
    if not samples:
        raise UsageError("there are no samples", hint="give at least one sample, or none of --data")
    probes = [
        Probe(f"sample {index}", {name: np.asarray(value) for name, value in sample.items()})
        for index, sample in enumerate(samples[:limit])
    ]
    if contract is not None:
        for probe in probes:
            problem = misfit(probe, contract.inputs)
            if problem is not None:
                raise UsageError(
                    f"{probe.label} does not fit the model", why=problem, hint="see 'edgeconv inspect MODEL'"
                )
    return probes


def misfit(probe: Probe, inputs: Sequence[TensorSpec]) -> str | None:
    """Why a model with these inputs cannot take the probe, or ``None`` if it can (dtypes not judged)."""
    for spec in inputs:
        if spec.name not in probe.inputs:
            return f"input '{spec.name}' is missing"
        shape = probe.inputs[spec.name].shape
        if spec.shape is not None and not _fits(shape, spec.shape):
            return f"input '{spec.name}' has shape {list(shape)}, the model takes {list(spec.shape)}"
    return None


def ranges_of_samples(samples: Sequence[Mapping[str, Array]]) -> dict[str, Range]:
    """Smallest and largest value of each numeric input over all samples, for ``make_probes(ranges=…)``."""
    ranges: dict[str, Range] = {}
    for sample in samples:
        for name, value in sample.items():
            array = np.asarray(value)
            if array.dtype.kind not in "fiu" or array.size == 0:
                continue
            low, high = float(array.min()), float(array.max())
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))
    return ranges


def ranges_of_quantized(contract: Contract) -> dict[str, Range]:
    """Real range that each quantized input of the contract can represent."""
    return {
        spec.name: stored_range(spec.dtype, spec.quantization)
        for spec in contract.inputs
        if spec.quantization is not None
    }


def save_probes(path: Path, probes: Sequence[Probe]) -> None:
    """Write probes to an ``.npz`` without pickle; any tensor name is safe."""
    arrays: dict[str, Array] = {}
    entries: list[dict[str, Any]] = []
    for probe in probes:
        keys: dict[str, str] = {}
        for name, value in probe.inputs.items():
            keys[name] = f"a{len(arrays)}"
            arrays[keys[name]] = np.asarray(value)
        entries.append({"label": probe.label, "optional": probe.optional, "inputs": keys})
    write_archive(path, {"kind": "probes", "probes": entries}, arrays)


def load_probes(path: Path) -> list[Probe]:
    """Read what :func:`save_probes` wrote.

    Raises:
        UsageError: no such file, or it holds no probes.
    """
    header, arrays = read_archive(path)
    if not isinstance(header, dict) or header.get("kind") != "probes":
        raise UsageError("the file holds no probes", where=str(path), hint="was it saved by save_probes?")
    return [
        Probe(entry["label"], {name: arrays[key] for name, key in entry["inputs"].items()}, entry["optional"])
        for entry in header["probes"]
    ]


def probes_sha256(probes: Sequence[Probe]) -> str:
    """SHA-256 over labels, names, dtypes, shapes and values, in hexadecimal."""
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        # Lengths first: without them ("ab", "c") and ("a", "bc") would be one.
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    for probe in probes:
        add(probe.label.encode())
        for name in sorted(probe.inputs):
            array = np.asarray(probe.inputs[name])
            add(name.encode("utf-8", "surrogateescape"))
            add(repr(array.shape).encode())
            if is_text(array):
                add(b"string")
                for value in array.reshape(-1).tolist():
                    add(as_bytes(value))
            else:
                add(array.dtype.name.encode())
                add(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _probe(
    contract: Contract,
    seed: int,
    index: int,
    *,
    batch: int,
    pinned: Mapping[str, tuple[int, ...]],
    ranges: Mapping[str, Range],
    strings: Mapping[str, TextMaker],
) -> Probe:
    kind = KINDS[index % len(KINDS)]
    inputs: dict[str, Array] = {}
    for spec in contract.inputs:
        stream = np.random.Generator(
            np.random.PCG64([seed, index, zlib.crc32(spec.name.encode("utf-8", "surrogateescape"))])
        )
        shape = concrete_shape(spec, batch=batch, pinned=pinned.get(spec.name))
        if spec.name in strings:
            make = strings[spec.name]
            texts = [make(stream, index) for _ in range(int(np.prod(shape, dtype=np.int64)))]
            inputs[spec.name] = text_array(texts, shape)
        else:
            inputs[spec.name] = _values(spec, contract, shape, kind, index, stream, ranges.get(spec.name))
    label = f"{kind}, seed {seed}.{index}" + (f", batch {batch}" if batch != 1 else "")
    return Probe(label, inputs, optional=batch != 1)


def _values(
    spec: TensorSpec,
    contract: Contract,
    shape: tuple[int, ...],
    kind: str,
    index: int,
    stream: np.random.Generator,
    span: Range | None,
) -> Array:
    if spec.dtype in ("resource", "variant"):
        raise UsageError(
            f"input '{spec.name}' is a {spec.dtype}, which has no values to try",
            hint="choose the inputs with --inputs NAME,…",
        )
    if spec.quantization is None:
        normalisation = normalisation_of(contract, spec.name)
        return values_for(spec.name, spec.dtype, shape, kind, index, stream, span, normalisation)
    low, high = stored_range(spec.dtype, spec.quantization)
    if span is not None:
        low, high = max(low, span[0]), min(high, span[1])
    real = values_for(spec.name, "float32", shape, kind, index, stream, (low, max(low, high)), None)
    return quantize(real, spec.dtype, spec.quantization)


def normalisation_of(contract: Contract, name: str) -> Mapping[str, Any] | None:
    """What the contract says of one input: an entry under its name, or the whole if not by name."""
    whole = contract.normalisation
    if whole is None:
        return None
    own = whole.get(name)
    return own if isinstance(own, Mapping) else whole


def concrete_shape(
    spec: TensorSpec, *, batch: int = 1, pinned: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """A shape without open dimensions.

    Args:
        spec: the input.
        batch: size of the leading dimension where it is open.
        pinned: the shape that the user gave.

    Raises:
        UsageError: the rank is unknown and not pinned, or the pinned shape does not fit.
    """
    if pinned is not None:
        if spec.shape is not None and not _fits(pinned, spec.shape):
            raise UsageError(
                f"the shape {list(pinned)} does not fit input '{spec.name}'",
                why=f"the model says {list(spec.shape)}",
                hint=f"--shape {spec.name}={','.join('?' if d is None else str(d) for d in spec.shape)}",
            )
        return pinned
    if spec.shape is None:
        raise UsageError(
            f"the shape of input '{spec.name}' is not in the model, not even its rank",
            hint=f"--shape {spec.name}=1,… (for an image: --shape {spec.name}=1,224,224,3)",
        )
    image = _image_axes(spec)
    sizes: list[int] = []
    for axis, size in enumerate(spec.shape):
        if size is not None:
            sizes.append(size)
        elif axis == 0:
            sizes.append(batch)
        elif axis in image:
            sizes.append(_side_like(spec.shape, image))
        elif len(spec.shape) == 4 and axis == 3:
            sizes.append(3)
        else:
            sizes.append(OTHER_SIZE)
    return tuple(sizes)


def _side_like(shape: tuple[int | None, ...], image: tuple[int, ...]) -> int:
    # Where one side is fixed the other is likely the same.
    fixed = [size for axis in image if (size := shape[axis]) is not None]
    return fixed[0] if fixed else IMAGE_SIDE


def _image_axes(spec: TensorSpec) -> tuple[int, ...]:
    shape = spec.shape or ()
    if len(shape) != 4 or spec.dtype in ("string", "bool"):
        return ()
    if shape[1] in CHANNELS and shape[3] not in CHANNELS:
        return (2, 3)
    return (1, 2)


def _has_dynamic_batch(contract: Contract, pinned: Mapping[str, tuple[int, ...]]) -> bool:
    leading = [
        spec.shape[0] if spec.name not in pinned else pinned[spec.name][0]
        for spec in contract.inputs
        if spec.shape is not None and len(spec.shape) > 0
    ]
    return bool(leading) and all(size is None for size in leading)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))
