"""Holds the verdicts of ``edgeconv check`` on single ONNX ops to ONNX Runtime itself.

    python benchmarks/onnx_ops.py FOLDER [--release VERSION]… [--only SUBSTRING] [--page] [--show N]

Takes the one-op models that the ``onnx`` package tests itself with, writes each op once for every definition
and every type of every type parameter into FOLDER, loads all of them in every side environment of ONNX Runtime
that was made (``edgeconv environments create``), and compares what happened with what ``edgeconv.checking``
says. Only loading is compared: the values of inputs are not the runtime's. What a release did is kept in
FOLDER. ``--page`` puts the table into ``docs/checks.md``. Returns 1 where a verdict disagrees.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks import PAGE, SCRIPT, _environments

from edgeconv.environments import running

OPSETS = (11, 13, 17, 18, 20, 21, 22, 23, 24, 25, 26)
TYPES = (
    "FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16", "INT8", "UINT8", "INT16", "UINT16", "INT32", "INT64", "BOOL",
    "STRING",
)  # fmt: skip


def main() -> int:
    """Make the files, load them and compare; returns 1 where a verdict disagrees with what happened."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="files with this in their name")
    parser.add_argument(
        "--release", action="append", metavar="VERSION", help="only this one; may be repeated"
    )
    parser.add_argument("--page", action="store_true", help="put the table into docs/checks.md")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="disagreements to print")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    made = {name: data for name, data in _files() if options.only in name}
    for name, data in made.items():
        (options.folder / name).write_bytes(data)
    rows, wrong = [], []
    for environment in _environments("onnx"):
        if options.release and environment.spec.version not in options.release:
            continue
        row, said = _compared(environment, sorted(made), options.folder)
        rows.append(row)
        wrong += said
        print(json.dumps(row), file=sys.stderr)
    print("\n".join(wrong[: options.show]))
    print(f"{len(made)} files, {len(rows)} releases, {len(wrong)} disagreements")
    if options.page:
        _write_page(rows, len(made))
    return int(bool(wrong))


def _files() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file."""
    from onnx import defs
    from onnx.backend.test.case.node import collect_testcases

    seen = set()
    for case in collect_testcases(None):
        node = case.model.graph.node[0] if case.model is not None and case.model.graph.node else None
        if node is None or len(case.model.graph.node) > 1 or node.domain or case.model.functions:
            continue
        names = {attribute.name for attribute in node.attribute}
        for opset in OPSETS:
            try:
                schema = defs.get_schema(node.op_type, opset, "")
            except defs.SchemaError:
                continue
            bodies = [*schema.function_opset_versions, *schema.context_dependent_function_opset_versions]
            body = max((each for each in bodies if each <= opset), default=0)
            key = (node.op_type, schema.since_version, body, tuple(sorted(names)), len(node.input))
            fits = schema.min_input <= len(node.input) <= schema.max_input
            if key in seen or not fits or names - set(schema.attributes):
                continue
            seen.add(key)
            for parameter, kind, model in _of_each_type(case.model, schema, opset):
                yield f"{case.name}-{opset}-{parameter}-{kind}.onnx", model.SerializeToString()


def _of_each_type(source: Any, schema: Any, opset: int) -> Iterator[tuple[str, str, Any]]:
    """The model with one type parameter of its op put to each type that the definition allows."""
    import onnx

    node = source.graph.node[0]
    for constraint in schema.type_constraints:
        parameter = constraint.type_param_str
        for kind in TYPES:
            if f"tensor({kind.lower()})" not in constraint.allowed_type_strs:
                continue
            model = onnx.ModelProto()
            model.CopyFrom(source)
            model.ir_version, model.opset_import[0].version = 8, opset
            put = [
                _put(model.graph.input, node.input, schema.inputs, parameter, kind),
                _put(model.graph.output, node.output, schema.outputs, parameter, kind),
            ]
            if put[0]:
                yield parameter, kind, model


def _put(infos: Any, names: Any, formals: Any, parameter: str, kind: str) -> bool:
    import onnx

    found = False
    for position, name in enumerate(names):
        formal = formals[min(position, len(formals) - 1)]
        for info in infos:
            if name and info.name == name and formal.type_str == parameter:
                if info.type.WhichOneof("value") != "tensor_type":
                    return False
                info.type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(kind)
                found = True
    return found


def _compared(environment: Any, names: list[str], folder: Path) -> tuple[dict[str, Any], list[str]]:
    from edgeconv.checking.onnx import CHECKER

    version = environment.spec.version
    kept = folder / f"{environment.spec.folder}.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    todo = [name for name in names if name not in known]
    if todo:
        asked = {"files": [{"path": str((folder / name).resolve())} for name in todo], "until": "invoke"}
        with tempfile.TemporaryDirectory() as scratch:
            answer = running.run_in(environment, SCRIPT, asked, scratch=Path(scratch), seconds=3600)
        for name, said in zip(todo, answer["results"], strict=True):
            known[name] = said["error"] or said["crash"] or ""
        kept.write_text(json.dumps(known, indent=0))
    counts: Counter[str] = Counter()
    wrong = []
    for name in names:
        found = CHECKER.check(folder / name, "onnxruntime", version)
        counts["refused" if known[name] else "runs"] += 1
        if bool(found) != bool(known[name]):
            counts["disagrees"] += 1
            says = "; ".join(problem.what for problem in found) or "runs"
            wrong.append(f"{version} {name}: check says {says}; it: {known[name][-300:] or 'loads'}")
    return {"version": version, **counts}, wrong


def _write_page(rows: list[dict[str, Any]], files: int) -> None:
    begin, end = "<!-- onnx-ops: begin -->", "<!-- onnx-ops: end -->"
    lines = [
        f"{files} files of one op each; `python benchmarks/onnx_ops.py FOLDER --release … --page`:",
        "",
        "| onnxruntime | loads | refuses | verdict differs |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {row['version']} | {row.get('runs', 0)} | {row.get('refused', 0)} | {row.get('disagrees', 0)} |"
            for row in rows
        ),
    ]
    before, _, rest = PAGE.read_text().partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + after)


if __name__ == "__main__":
    sys.exit(main())
