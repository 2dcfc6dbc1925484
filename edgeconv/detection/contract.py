"""What a ``pipeline.config`` and a label map say, put into a contract."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgeconv.detection.label_map import read_labels
from edgeconv.detection.pipeline import Pipeline
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, Shape, TensorSpec


@dataclass(frozen=True, slots=True)
class Meaning:
    """A contract with meaning, and what was done to it for a person."""

    contract: Contract
    notes: tuple[str, ...]


def image_input(contract: Contract) -> TensorSpec | None:
    """The input that takes a batch of images ``[batch, height, width, 1 or 3]``, if there is exactly one."""
    found = [
        spec
        for spec in contract.inputs
        if spec.shape is not None and len(spec.shape) == 4 and spec.shape[3] in (1, 3, None)
        and spec.dtype in ("uint8", "float32")
    ]  # fmt: skip
    return found[0] if len(found) == 1 else None


def with_meaning(
    contract: Contract,
    pipeline: Pipeline,
    label_map: Path | None = None,
    *,
    shape: Shape | None = None,
    pin: bool = True,
) -> Meaning:
    """The contract with layout, normalisation, labels and the size of images.

    Where the size of images is open and the resizer makes one size of all, it is pinned to that size with a
    batch of 1: TFLite needs it fixed, and an image of that size passes the resizer unchanged.

    Args:
        contract: of the model.
        pipeline: read from its ``pipeline.config``.
        label_map: a file of labels; where ``None``, the one that the configuration names, if a file of that
            name lies beside the configuration.
        shape: what the user pinned the image to, which counts more than the resizer.
        pin: whether an open size is pinned to the resizer's at all.

    Raises:
        UsageError: ``shape`` does not fit the input.
        InvalidModelError: the labels cannot be read.
    """
    notes: list[str] = []
    labels = label_map or labels_beside(pipeline)
    if labels is not None:
        contract = dataclasses.replace(contract, labels=read_labels(labels))
        notes.append(f"{len(contract.labels or ())} labels from {labels.name}")
    image = image_input(contract)
    if image is None or image.shape is None:
        return Meaning(contract, tuple(notes))
    # Raw images go in, so normalisation is what the graph does by itself; a network cut behind its
    # preprocessing has to be given what that made.
    normalisation = pipeline.normalisation()
    if normalisation is not None:
        normalisation["inside"] = image.dtype == "uint8"
    contract = dataclasses.replace(
        contract, layout="NHWC", normalisation=normalisation or contract.normalisation
    )
    if shape is not None:
        if len(shape) != 4 or any(h is not None and h != w for h, w in zip(image.shape, shape, strict=True)):
            raise UsageError(
                f"--shape {image.name}={','.join(map(str, shape))} does not fit {list(image.shape)}",
                hint="keep the rank and the fixed dimensions",
            )
        return Meaning(_pinned(contract, image, shape), tuple(notes))
    size = pipeline.resizer.size if pipeline.resizer is not None else None
    if pin and size is not None and None in image.shape[1:3]:
        fixed = (1, *size, image.shape[3] or 3)
        if image.shape[0] in (None, 1):
            contract = _pinned(contract, image, fixed)
            notes.append(
                f"'{image.name}' is pinned to {'×'.join(map(str, fixed))}, the size of the resizer in "
                f"{Path(pipeline.path).name}; another one: --shape {image.name}=1,HEIGHT,WIDTH,{fixed[3]}"
            )
    return Meaning(contract, tuple(notes))


def _pinned(contract: Contract, image: TensorSpec, shape: Shape) -> Contract:
    fixed = dataclasses.replace(image, shape=shape)
    return dataclasses.replace(
        contract, inputs=tuple(fixed if spec is image else spec for spec in contract.inputs)
    )


def labels_beside(pipeline: Pipeline) -> Path | None:
    """The label map that the configuration names, beside it: the path itself is of another machine."""
    if not pipeline.label_map or not pipeline.path:
        return None
    name = pipeline.label_map.replace("\\", "/").rpartition("/")[2]
    beside = Path(pipeline.path).parent / name
    return beside if name not in ("", ".", "..") and beside.is_file() else None
