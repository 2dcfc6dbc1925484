"""The worker's side of ``edgeconv precompute``: an artifact run over a file of items, into ``.npy`` files.

Neither the items nor the results are in memory as a whole: ``.npy`` files are mapped, and what a batch gave
is written to its rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract, TensorSpec, contract_from_json
from edgeconv.runtimes.base import Session
from edgeconv.runtimes.registry import runtimes

Array = np.ndarray[Any, Any]

_CHECKED_ROWS = 5
_CLOSE = 1e-4
"""Largest difference of an item alone to the same in a batch, relative to the largest value of its row."""


def precompute(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Run an artifact over items in batches, and a few items again alone.

    Args:
        payload: ``artifact`` (path, format, contract or null), ``runtime``, ``options``, ``data`` (an
            ``.npz``, an ``.npy`` for one input, or a folder with an ``.npy`` for each), ``folder`` (where
            the results go), ``batch``.

    Returns:
        ``outputs`` (name, file, dtype, shape), ``items``, ``batch``, ``checked`` (rows), ``difference`` (the
        largest one of an item alone, relative).

    Raises:
        UsageError: the data does not fit the inputs.
        ConversionError: an output has no row for each item, or an item gives something else alone.
    """
    artifact = payload["artifact"]
    path = Path(artifact["path"])
    contract = contract_from_json(artifact["contract"])
    opened = runtimes()[payload["runtime"]].open(path, contract, options=payload["options"])
    with opened as session:
        items = _items(Path(payload["data"]), Contract(session.inputs, session.outputs))
        count = len(next(iter(items.values())))
        batch = _batch(session.inputs, int(payload["batch"]))
        files: dict[str, Array] = {}
        for start in range(0, count, batch):
            results = _run(session, items, range(start, min(start + batch, count)), batch)
            for name, rows in results.items():
                if name not in files:
                    files[name] = np.lib.format.open_memmap(
                        Path(payload["folder"]) / f"{len(files)}.npy",
                        mode="w+",
                        dtype=rows.dtype,
                        shape=(count, *rows.shape[1:]),
                    )
                files[name][start : start + len(rows)] = rows
        checked = sorted({round(i * (count - 1) / (_CHECKED_ROWS - 1)) for i in range(_CHECKED_ROWS)})
        difference = max(_difference(session, items, row, files, batch) for row in checked)
    for array in files.values():
        array.flush()  # type: ignore[attr-defined]
    outputs = [
        {"name": name, "file": f"{number}.npy", "dtype": str(array.dtype), "shape": list(array.shape)}
        for number, (name, array) in enumerate(files.items())
    ]
    return {
        "outputs": outputs, "items": count, "batch": batch, "checked": checked, "difference": difference
    }  # fmt: skip


def _items(path: Path, contract: Contract) -> dict[str, Array]:
    """The array of each input; its first axis counts the items."""
    if path.is_dir():
        given: dict[str, Array] = {f.stem: np.load(f, mmap_mode="r") for f in sorted(path.glob("*.npy"))}
    else:
        try:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError("these items cannot be read", where=str(path), why=str(error)[:200]) from error
        given = {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else {"": loaded}
    found = {}
    for spec in contract.inputs:
        names = (spec.name, spec.name.replace("/", "|"), spec.inner_name, spec.inner_name.removesuffix(":0"))
        array = next((given[name] for name in names if name in given), None)
        if array is None and len(given) == len(contract.inputs) == 1:
            array = next(iter(given.values()))
        if array is None:
            raise UsageError(
                f"there are no items for the input '{spec.name}'",
                where=str(path),
                why=f"it holds {', '.join(sorted(given)) or 'nothing'}",
                hint=f"store the array under the name '{spec.name}'",
            )
        found[spec.name] = _fitting(array, spec, path)
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        said = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
        raise UsageError("the inputs do not have the same number of items", where=str(path), why=said)
    return found


def _fitting(array: Array, spec: TensorSpec, path: Path) -> Array:
    if not spec.shape:
        raise UsageError(
            f"the input '{spec.name}' has no axis for a batch",
            why="a scalar is the same for all items" if spec.shape == () else "its rank is not known",
            hint="pin it with --shape when the part is made",
        )
    if array.ndim == len(spec.shape) + 1 and spec.shape[0] == 1 and array.shape[1] == 1:
        array = array[:, 0]
    fits = array.ndim == len(spec.shape) and all(
        want in (None, have) for want, have in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        wanted = "×".join("?" if d is None else str(d) for d in (None, *spec.shape[1:]))
        raise UsageError(
            f"the items for '{spec.name}' have the shape {'×'.join(map(str, array.shape))}, not {wanted}",
            where=str(path),
        )
    return array


def _batch(inputs: tuple[TensorSpec, ...], wanted: int) -> int:
    fixed = {spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None}
    if len(fixed) > 1:
        raise UsageError(f"the inputs fix different batches: {', '.join(map(str, sorted(fixed)))}")
    return fixed.pop() or wanted if fixed else wanted


def _run(session: Session, items: Mapping[str, Array], rows: range, batch: int) -> dict[str, Array]:
    fixed = any(spec.shape and spec.shape[0] is not None for spec in session.inputs)
    feeds = {}
    for spec in session.inputs:
        piece = np.asarray(items[spec.name][rows.start : rows.stop])
        if fixed and len(piece) < batch:
            piece = np.concatenate([piece, np.repeat(piece[-1:], batch - len(piece), axis=0)])
        feeds[spec.name] = _cast(piece, spec)
    results = {}
    for name, value in session.infer(feeds).items():
        array = np.asarray(value)
        if array.ndim == 0 or len(array) != (batch if fixed else len(rows)):
            raise ConversionError(
                f"the output '{name}' has no row for each item",
                why=f"{len(rows)} items gave an array of the shape {'×'.join(map(str, array.shape))}",
                hint="choose a part whose outputs begin with the batch",
            )
        results[name] = array[: len(rows)]
    return results


def _cast(piece: Array, spec: TensorSpec) -> Array:
    if spec.dtype == "string" or piece.dtype.name == spec.dtype:
        return piece
    cast = piece.astype(spec.dtype)
    rounded = piece.dtype.kind == "f" and cast.dtype.kind == "f"
    if not rounded and not np.array_equal(cast, piece):
        raise UsageError(
            f"items for '{spec.name}' are {piece.dtype}, and some have no equal in {spec.dtype}",
            hint=f"store them as {spec.dtype}",
        )
    return cast


def _difference(
    session: Session, items: Mapping[str, Array], row: int, files: Mapping[str, Array], batch: int
) -> float:
    """Largest relative difference of what one item gives alone to what stands in the files."""
    worst = 0.0
    for name, alone in _run(session, items, range(row, row + 1), batch).items():
        kept = files[name][row]
        if alone.dtype.kind not in "fc":
            different = not np.array_equal(alone[0], kept)
            worst = max(worst, 1.0 if different else 0.0)
            continue
        scale = float(np.max(np.abs(alone), initial=0.0)) or 1.0
        apart = np.abs(alone[0].astype(np.float64) - kept.astype(np.float64))
        worst = max(worst, float(np.max(apart, initial=0.0)) / scale)
    if worst > _CLOSE:
        raise ConversionError(
            f"item {row} gives something else alone than in a batch of {batch}",
            why=f"the largest relative difference is {worst:.2g}",
            hint="the part mixes the items of a batch: use --batch 1",
        )
    return worst
