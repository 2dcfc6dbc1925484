"""The tensors inside a TFLite file, kept by the interpreter on its own kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from edgeconv.comparison.tensor_sources.base import Array, InnerTensor, SourceKind, TensorSource
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract


class TfliteSource:
    """An interpreter that keeps all tensors; see :class:`TensorSource`.

    It runs LiteRT's own kernels: a delegate would fuse ops and hide what lies between them.
    """

    can_rerun = False

    def __init__(self, path: Path, contract: Contract) -> None:
        import warnings

        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings():
            # It warns that keeping all tensors takes memory, which is what is asked for here.
            warnings.simplefilter("ignore")
            self._interpreter = Interpreter(
                model_path=str(path),
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
        self._path = path
        self._allocated: object = None
        model = _model(path)
        graph = model.subgraphs[0]
        self._names = _unique([tensor.name for tensor in graph.tensors])
        self._index = {name: index for index, name in enumerate(self._names)}
        self._quantized = {
            name: tensor.quantization()
            for name, tensor in zip(self._names, graph.tensors, strict=True)
            if tensor.scales
        }
        self.inputs: Mapping[str, str] = _logical(contract.inputs, graph.inputs, self._names, model, "inputs")
        self.outputs: Mapping[str, str] = _logical(
            contract.outputs, graph.outputs, self._names, model, "outputs"
        )
        live = set(graph.inputs)
        found: list[InnerTensor] = []
        for operator in graph.operators:
            read = tuple(self._names[i] for i in operator.inputs if i in live)
            if not read:
                continue
            for output in operator.outputs:
                live.add(output)
                name = self._names[output]
                aliases = tuple(part for part in graph.tensors[output].name.split(";") if part)
                found.append(InnerTensor(name, name, operator.name, read, aliases))
        self.tensors: tuple[InnerTensor, ...] = tuple(found)

    def values(self, names: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :meth:`TensorSource.values`."""
        import numpy as np

        from edgeconv.comparison.affine import dequantize

        shapes = {name: np.asarray(value).shape for name, value in inputs.items()}
        if shapes != self._allocated:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._index[self.inputs[name]], shape)
            self._interpreter.allocate_tensors()
            self._allocated = shapes
        for name, value in inputs.items():
            self._interpreter.set_tensor(self._index[self.inputs[name]], value)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ConversionError(
                "LiteRT's own kernels cannot run the model", where=str(self._path), why=str(error)
            ) from error
        found: dict[str, Array] = {}
        for name in names:
            try:
                value = np.array(self._interpreter.get_tensor(self._index[name]))
            except ValueError:
                # Tensors of ops that were not run, and of types without values.
                continue
            quantization = self._quantized.get(name)
            found[name] = dequantize(value, quantization) if quantization is not None else value
        return found

    def rerun(self, name: str, feeds: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array | None:
        """Not possible: an op recomputes its inputs."""
        return None

    def close(self) -> None:
        """Drop the interpreter."""
        self._interpreter = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _model(path: Path) -> Any:
    from edgeconv.formats._flatbuffer import Buffer
    from edgeconv.formats._tflite_model import read_model

    return read_model(Buffer(path.read_bytes()))


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with ``#2`` and so on behind those that were there before."""
    seen: dict[str, int] = {}
    unique: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique


def _logical(
    specs: Sequence[Any], indices: Sequence[int], names: Sequence[str], model: Any, role: str
) -> dict[str, str]:
    """Inner name of each tensor of the contract: by the signatures, the tensor's name, or its place."""
    signed = {
        name: names[index]
        for signature in model.signatures
        if signature.subgraph == 0
        for name, index in getattr(signature, role)
    }
    own = {names[index] for index in indices}
    found: dict[str, str] = {}
    for place, spec in enumerate(specs):
        if spec.name in signed:
            found[spec.name] = signed[spec.name]
        elif spec.inner_name in own:
            found[spec.name] = spec.inner_name
        elif spec.inner_name in signed:
            found[spec.name] = signed[spec.inner_name]
        elif len(specs) == len(indices):
            found[spec.name] = names[indices[place]]
        else:
            raise UsageError(f"the file has no tensor '{spec.inner_name}'", hint="see 'edgeconv inspect'")
    return found


def _open(path: Path, contract: Contract) -> TensorSource:
    return TfliteSource(path, contract)


SOURCE = SourceKind(("tflite",), _open)
