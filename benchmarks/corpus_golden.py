"""Known inputs and outputs of models of the corpus, and whether an artifact reproduces them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.formats.base import Contract, contract_from_json
from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.runtimes.registry import runtime_for

_PORT = re.compile(r"\.(\d+)$")
_EVERYTHING = ".prediction_inbw.csv"
_KINDS = {"float": "float32", "double": "float64", "half": "float16"}


def recorded_inputs(folder: Path) -> dict[str, np.ndarray]:
    """The recorded inputs in a folder of text files, by name."""
    suffix = ".placeholder.csv"
    kinds = _dtypes(folder)
    return {
        file.name.removesuffix(suffix): _array(file, kinds.get(file.name.removesuffix(suffix), "float32"))
        for file in sorted(folder.glob(f"*{suffix}"))
    }


def recorded_outputs(folder: Path) -> dict[str, np.ndarray]:
    """The recorded outputs in a folder of text files, by tensor name without ``:0``.

    Where every inner tensor was recorded, those that nothing else in the graph takes (without the second
    output of a ``Merge``, which says what branch was taken).
    """
    files = sorted(folder.glob("*.prediction.csv"))
    if files:
        graph = {node.name for node in read_graph_def(folder / "frozen_model.pb").node}
        return {
            _tensor_name(name, graph): _array(file)
            for file in files
            for name in [file.name.removesuffix(".prediction.csv")]
        }
    graph_def = read_graph_def(folder / "frozen_model.pb")
    taken = {
        text.lstrip("^").rpartition(":")[0] or text.lstrip("^") for n in graph_def.node for text in n.input
    }
    ends = {n.name for n in graph_def.node} - taken
    found = {}
    for file in sorted(folder.glob(f"*{_EVERYTHING}")):
        name = _tensor_name(file.name.removesuffix(_EVERYTHING), set())
        if name.partition(":")[0] in ends and not (name.endswith(":1") and "/Merge" in name):
            found[name] = _array(file)
    return found


def _tensor_name(text: str, graph: set[str]) -> str:
    name = text.replace("____", "/")
    port = _PORT.search(name)
    if port is None or name in graph:
        return name
    return _PORT.sub("" if port[1] == "0" else f":{port[1]}", name)


def _dtypes(folder: Path) -> dict[str, str]:
    file = folder / "dtypes"
    lines = file.read_text().split("\n") if file.exists() else []
    pairs = (line.split() for line in lines if len(line.split()) == 2)
    return {_PORT.sub("", name.replace("____", "/")): kind for name, kind in pairs}


def _array(file: Path, kind: str = "float64") -> np.ndarray:
    shape_text = file.with_suffix(".shape").read_text().split()
    shape = tuple(int(d) for d in shape_text)
    values = [_value(text) for text in file.read_text().replace(",", "\n").split()]
    if len(values) != int(np.prod(shape)):
        shape = (len(values),) if len(values) != 1 else ()
    return np.array(values).reshape(shape).astype(_KINDS.get(kind, kind))


def _value(text: str) -> float:
    return {"true": 1.0, "false": 0.0}[text.lower()] if text[0] in "tTfF" else float(text)


def known(corpus: Path, golden: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Known inputs and outputs, each by tensor name without ``:0``."""
    place = corpus / golden
    if place.is_dir():
        return recorded_inputs(place), recorded_outputs(place)
    with np.load(place) as arrays:
        named = {key: arrays[key] for key in arrays}
    sides = []
    for prefix in ("in__", "out__"):
        sides.append(
            {
                key.removeprefix(prefix).replace("|", "/").removesuffix(":0"): value
                for key, value in named.items()
                if key.startswith(prefix)
            }
        )
    return sides[0], sides[1]


def check(
    corpus: Path,
    golden: str,
    artifact: Mapping[str, Any],
    path: Path,
    source: Mapping[str, Any],
    front_end: Path | None = None,
) -> dict[str, Any]:
    """Run an artifact on known inputs and measure how far its outputs are from the known ones.

    Args:
        corpus: folder of the corpus.
        golden: as in the case.
        artifact: its record in the manifest.
        path: the file.
        source: contract of the source, whose tensors have the names under which outputs are known.
        front_end: written function that makes the artifact's inputs of the source's, where it was cut.

    Returns:
        ``max_abs`` and ``scale`` (the largest known magnitude) over all outputs, ``outputs`` compared,
        or ``error``.
    """
    contract = contract_from_json(artifact["contract"])
    assert contract is not None
    inputs, outputs = known(corpus, golden)
    names = _by_tensor(source, "inputs")
    feed = {names.get(name, name): value for name, value in inputs.items()}
    try:
        if front_end is not None:
            feed = _front_end(front_end)(feed)
        with runtime_for(artifact["format"]).open(path, contract, threads=1) as session:
            got = session(_fitted(feed, contract))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    return _difference(got, outputs, _by_tensor(source, "outputs"))


def _front_end(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("front_end_of_a_case", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.front_end


def _by_tensor(contract: Mapping[str, Any], side: str) -> dict[str, str]:
    return {str(spec["tensor"] or spec["name"]).removesuffix(":0"): spec["name"] for spec in contract[side]}


def _fitted(feed: Mapping[str, np.ndarray], contract: Contract) -> dict[str, np.ndarray]:
    fitted = {}
    for spec in contract.inputs:
        value = feed[spec.name]
        if spec.dtype == "string":
            value = np.array(value.tobytes(), dtype=object)
        elif spec.quantization is None:
            value = value.astype(spec.dtype)
        fitted[spec.name] = value
    return fitted


def _difference(
    got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], names: Mapping[str, str]
) -> dict[str, Any]:
    worst, scale, compared = 0.0, 0.0, 0
    for tensor, value in wanted.items():
        name = names.get(tensor)
        if name is None or name not in got:
            continue
        have = np.asarray(got[name]).astype(np.float64)
        want = value.astype(np.float64)
        compared += 1
        if have.size != want.size:
            return {"error": f"{name} has shape {list(have.shape)}, known is {list(want.shape)}"}
        if want.size:
            apart = np.abs(have.reshape(-1) - want.reshape(-1))
            both_nan = np.isnan(have.reshape(-1)) & np.isnan(want.reshape(-1))
            same = (have.reshape(-1) == want.reshape(-1)) | both_nan
            worst = max(worst, float(np.max(np.where(same, 0.0, apart))))
            scale = max(scale, float(np.max(np.abs(want[np.isfinite(want)]), initial=0.0)))
    if not compared:
        return {"error": "no output has a name that is known"}
    return {"max_abs": worst, "scale": scale, "outputs": compared}
