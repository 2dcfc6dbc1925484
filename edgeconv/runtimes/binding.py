"""What every runtime does alike: tie the contract's names to a file's tensors, and check what is fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats.base import Quantization, Shape, TensorSpec


@dataclass(frozen=True, slots=True)
class FileTensor:
    """An input or output of a file, as the runtime that opened it describes it.

    Attributes:
        index: what the runtime knows it by; the same tensor under two names has one index.
        name: the file's.
        dtype: NumPy's name of the element type, or ``string``.
        shape: sizes that the file fixes, ``None`` for each that it leaves open.
        key: its name in the signature that is run, ``None`` where it has none there.
        quantization: of its stored values.
        rank_known: whether a shape of no dimensions means a scalar (LiteRT says the same of unknown ranks).
    """

    index: int
    name: str
    dtype: str
    shape: Shape
    key: str | None = None
    quantization: Quantization | None = None
    rank_known: bool = True


@dataclass(frozen=True, slots=True)
class Binding:
    """A tensor of the contract and the one of the file that it is.

    Attributes:
        spec: with dtype, quantization and inner name as they are in the file.
        tensor: of the file.
        fixed: sizes that an array must have; ``None`` where not even the rank is known.
    """

    spec: TensorSpec
    tensor: FileTensor
    fixed: Shape | None

    @property
    def key(self) -> str:
        """Its name in the signature, the tensor's name where it has none."""
        return self.tensor.name if self.tensor.key is None else self.tensor.key


def bind(
    role: str,
    specs: Sequence[TensorSpec] | None,
    tensors: Sequence[FileTensor],
    where: str,
    *,
    may_lack: bool = False,
) -> list[Binding]:
    """Tie the names of a contract to tensors of a file, in the contract's order.

    Args:
        role: ``input`` or ``output``, for errors.
        specs: of the contract; taken from the file where ``None``: from its signature, else from all tensors.
        tensors: of the file. One that the signature has under two names is listed under both.
        where: the file, for errors.
        may_lack: leave out what the file lacks if all that it has is bound (an input that nothing uses).

    Raises:
        UsageError: the file has no such tensor.
    """
    keyed = any(tensor.key is not None for tensor in tensors)
    if specs is None:
        named = [tensor for tensor in tensors if tensor.key is not None or not keyed]
        specs = [
            TensorSpec(t.key, "", None, t.name) if t.key else TensorSpec(t.name, "", None) for t in named
        ]
    only = tensors[0] if len({(tensor.index, tensor.name) for tensor in tensors}) == 1 else None
    found: list[Binding] = []
    lacking: list[TensorSpec] = []
    for spec in specs:
        tensor = _find(spec, tensors)
        if tensor is None and len(specs) == 1:
            tensor = only  # there is nothing else that it could be
        if tensor is None:
            lacking.append(spec)
        else:
            found.append(_bound(spec, tensor))
    fed = {binding.tensor.index for binding in found}
    if lacking and not (may_lack and fed == {tensor.index for tensor in tensors}):
        names = [t.key for t in tensors if t.key is not None] or [t.name for t in tensors]
        said = f"'{lacking[0].name}'"
        if lacking[0].inner_name != lacking[0].name:
            said += f" (tensor '{lacking[0].inner_name}')"
        raise UsageError(
            f"the file has no {role} {said}", where=where, why=f"its {role}s are {', '.join(names)}"
        )
    return found


def checked_inputs(
    inputs: Mapping[str, Any],
    specs: Sequence[TensorSpec],
    where: str,
    *,
    shapes: Mapping[str, Shape | None] | None = None,
) -> dict[str, Any]:
    """The inputs as C-ordered arrays, in the order of ``specs``, before native code sees a wrong one.

    Some runtimes end the whole process where a rank is wrong, or name no input in what they say.

    Args:
        inputs: an array by logical name.
        specs: names, dtypes and shapes.
        where: the file, for errors.
        shapes: what counts in place of a spec's shape, by name; ``None`` as a value for any.

    Raises:
        UsageError: an input is missing, unknown, or of the wrong rank, size or dtype.
    """
    import numpy

    wanted = [spec.name for spec in specs]
    if set(wanted) != set(inputs):
        missing, unknown = sorted(set(wanted) - set(inputs)), sorted(set(inputs) - set(wanted))
        raise UsageError(
            "; ".join(
                f"{text}: {', '.join(names)}"
                for text, names in (("missing inputs", missing), ("unknown inputs", unknown))
                if names
            ),
            where=where,
            hint=f"the inputs are {', '.join(wanted) or 'none'}",
        )
    arrays: dict[str, Any] = {}
    for spec in specs:
        array = numpy.asarray(inputs[spec.name])
        kind = "string" if array.dtype.kind in "SUO" else array.dtype.name
        if kind != spec.dtype:
            hint = None if "string" in (kind, spec.dtype) else f"convert it: array.astype('{spec.dtype}')"
            if spec.quantization is not None:
                hint = "the input is quantized: give stored values"
            raise UsageError(
                f"input '{spec.name}' is {kind}, the model takes {spec.dtype}", where=where, hint=hint
            )
        shape = spec.shape if shapes is None else shapes[spec.name]
        if shape is not None and not fits(array.shape, shape):
            sizes = ", ".join("?" if size is None else str(size) for size in shape)
            raise UsageError(
                f"input '{spec.name}' has shape {list(array.shape)}, the model takes [{sizes}]",
                where=where,
                hint="reshape the array, or convert the model for this shape with --shape",
            )
        # ``ascontiguousarray`` makes rank 1 of rank 0.
        arrays[spec.name] = numpy.asarray(array, order="C")
    return arrays


def fits(have: Sequence[int], want: Shape) -> bool:
    """Whether an array's sizes are those wanted, where any is."""
    return len(have) == len(want) and all(w is None or w == h for h, w in zip(have, want, strict=True))


def _find(spec: TensorSpec, tensors: Sequence[FileTensor]) -> FileTensor | None:
    keyed = {tensor.key: tensor for tensor in tensors if tensor.key is not None}
    if spec.name in keyed and (spec.tensor is None or keyed[spec.name].name == spec.tensor):
        return keyed[spec.name]
    by_name = {tensor.name: tensor for tensor in reversed(tensors)}
    for name in (spec.tensor, spec.name):
        if name is not None:
            for known in (by_name, keyed):
                for variant in (name, name.removesuffix(":0"), f"{name}:0"):
                    if variant in known:
                        return known[variant]
    return None


def _bound(spec: TensorSpec, tensor: FileTensor) -> Binding:
    unknown = not tensor.rank_known and not tensor.shape and spec.shape is None
    return Binding(
        replace(
            spec,
            dtype=tensor.dtype,
            shape=spec.shape if spec.shape is not None else tensor.shape,
            tensor=tensor.name if tensor.name != spec.name else None,
            quantization=tensor.quantization,
        ),
        tensor,
        None if unknown else tensor.shape,
    )
