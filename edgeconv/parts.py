"""Surgery from Python: freeze in part or whole, thaw, extract, split. The package has these four at its top.

Each takes a model of any form that :func:`edgeconv.convert` takes, writes, proves what it wrote, and returns
the manifest. ``docs/surgery.md`` says what each is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from edgeconv.execution.events import Event
    from edgeconv.execution.manifest import Manifest
    from edgeconv.recipe.workbench import SurgeryRequest

AnyPath = str | PathLike[str]


class Opening(TypedDict, total=False):
    """What opening and proving a model may need; each as in :func:`edgeconv.convert`."""

    data: AnyPath
    shapes: Mapping[str, Sequence[int | None]]
    signature: str
    tags: Sequence[str]
    tolerance: str | Sequence[str]
    checkpoint: AnyPath
    model_builder: str
    trust: bool
    seed: int
    use_cache: bool


def freeze(
    model: AnyPath,
    output: AnyPath | None = None,
    *,
    keep_trainable: Sequence[str] = (),
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    **options: Unpack[Opening],
) -> Manifest:
    """Make a frozen graph; with ``keep_trainable`` a SavedModel in which those variables stay variables.

    Args:
        model: file, folder or checkpoint prefix.
        output: file (or folder, for a SavedModel) to write; beside the caller where ``None``.
        keep_trainable: patterns of variables (``logits/*``). Proven by a training step that moves only them.
        inputs, outputs: tensors where the model begins and ends, where it does not say.
        options: see :class:`Opening`.

    Raises:
        edgeconv.errors.UsageError: the call is wrong, or a pattern matches no variable.
        edgeconv.errors.ConversionError: the model could not be frozen.

    >>> edgeconv.freeze(digits / "digits.keras", digits / "digits.pb").passed
    True
    """
    from edgeconv.recipe.surgery import freeze as run

    return run(_request(model, output, options, inputs, outputs), tuple(keep_trainable), _unheard)[0]


def thaw(
    model: AnyPath,
    output: AnyPath | None = None,
    *,
    variables: Sequence[str] = (),
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    **options: Unpack[Opening],
) -> Manifest:
    """Make variables again of a frozen graph's weights: a SavedModel with a checkpoint, trainable.

    Args:
        model: the frozen graph.
        output: folder to write.
        variables: patterns of constants; where empty those that are weights by what reads them.
        inputs, outputs: tensors where the model begins and ends, where it does not say.
        options: see :class:`Opening`.

    Raises:
        edgeconv.errors.UsageError: the call is wrong, or nothing is a weight.

    >>> edgeconv.thaw(digits / "digits.pb", digits / "thawed").passed
    True
    """
    from edgeconv.recipe.surgery import thaw as run

    return run(_request(model, output, options, inputs, outputs), tuple(variables), _unheard)[0]


def extract(
    model: AnyPath,
    output: AnyPath | None = None,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    to: str | None = None,
    **options: Unpack[Opening],
) -> Manifest:
    """Take the part between tensors out of a model.

    Args:
        model: file, folder or checkpoint prefix.
        output: file or folder to write.
        inputs, outputs: names or patterns of tensors; empty for the model's own.
        to: ``frozen_graph``, ``saved_model`` or ``onnx``; ``None`` to tell it by the output's name.
        options: see :class:`Opening`.

    Raises:
        edgeconv.errors.UsageError: the call is wrong, or the outputs need more than the inputs.
    """
    from edgeconv.recipe.surgery import extract as run

    return run(_request(model, output, options), tuple(inputs), tuple(outputs), to, _unheard)[0]


def split(
    model: AnyPath,
    at: str | Sequence[str],
    output: AnyPath | None = None,
    *,
    outputs: Sequence[str] = (),
    to: str | None = None,
    **options: Unpack[Opening],
) -> Manifest:
    """Cut a model in a head and a tail that compose to it.

    Args:
        model: file, folder or checkpoint prefix.
        at: names or patterns of the tensors of the cut.
        output: folder for the two parts.
        outputs: tensors where the whole model ends, where it does not say.
        to: ``frozen_graph`` or ``saved_model``.
        options: see :class:`Opening`.

    Raises:
        edgeconv.errors.UsageError: the call is wrong, or a way leads round the cut; names it.
    """
    from edgeconv.recipe.surgery import split as run

    cut = (at,) if isinstance(at, str) else tuple(at)
    return run(_request(model, output, options, outputs=outputs), cut, to, _unheard)[0]


def _request(
    model: AnyPath,
    output: AnyPath | None,
    options: Opening,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> SurgeryRequest:
    from edgeconv.recipe.workbench import SurgeryRequest

    given: dict[str, Any] = dict(options)
    for name in ("data", "checkpoint"):
        if given.get(name) is not None:
            given[name] = Path(given[name])
    if isinstance(given.get("tolerance"), str):
        given["tolerance"] = (given["tolerance"],)
    for name in ("tags", "tolerance"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    given["shapes"] = {name: tuple(shape) for name, shape in given.get("shapes", {}).items()}
    where = None if output is None else Path(output)
    return SurgeryRequest(Path(model), where, inputs=tuple(inputs), outputs=tuple(outputs), **given)


def _unheard(event: Event) -> None:
    """Nobody listens to the steps of a call from Python."""
